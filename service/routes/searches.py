"""Search jobs, their events and their fronts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.context import READ, SUBMIT, Service
from service.events import stream
from service.fronts import StoredFront
from service.gates import Gate
from service.http import accepted
from service.jobs import Event, JobState
from service.pages import decode_number, decode_place, encode_number, encode_place
from service.routes.problems import PROBLEMS
from service.schemas import (
    Constraint,
    EventList,
    EventOut,
    FrontOut,
    SearchCreate,
    SearchFork,
    SearchList,
    SearchOut,
    State,
    front_json,
)
from service.workbench import SearchRequest

router = APIRouter(prefix="/v1/searches", tags=["searches"], responses=PROBLEMS, dependencies=[READ])

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
EVENT_STREAM = "text/event-stream"

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A name for this request: sent again with the same body, it finds the same job.",
    ),
]
PageToken = Annotated[str | None, Query(max_length=300, description="next_page_token of the page before.")]
PageSize = Annotated[int, Query(ge=1, le=200)]


@router.post("", status_code=202, dependencies=[SUBMIT])
def create_search(
    body: SearchCreate, service: Service, response: Response, idempotency_key: IdempotencyKey = None
) -> SearchOut:
    """Queue a search for a Pareto front. The same Idempotency-Key and body find the same search."""
    request = SearchRequest(
        objectives=tuple(body.objectives),
        constraints=tuple(body.constraints),
        device=body.device,
        metric=body.accuracy_metric,
        seed=body.seed,
        evaluations=body.evaluations,
        seconds=body.seconds,
    )
    job, _ = service.searches.submit(
        request,
        supernet=body.supernet,
        effort=body.effort,
        islands=body.islands,
        verify=body.verify,
        key=idempotency_key,
    )
    response.headers["Location"] = f"/v1/searches/{job.id}"
    return SearchOut.of(job)


@router.get("")
def list_searches(
    service: Service,
    state: State | None = None,
    page_token: PageToken = None,
    page_size: PageSize = 50,
) -> SearchList:
    """Searches, newest first."""
    page = service.searches.page(
        state=None if state is None else JobState(state), after=decode_place(page_token), limit=page_size
    )
    return SearchList(
        searches=[SearchOut.of(job) for job in page.jobs], next_page_token=encode_place(page.following)
    )


@router.get("/{search_id}")
def read_search(search_id: str, service: Service) -> SearchOut:
    """A search; `default` is the one that every service has."""
    return SearchOut.of(service.searches.get(search_id))


@router.post("/{search_id}:cancel", dependencies=[SUBMIT])
def cancel_search(search_id: str, service: Service) -> SearchOut:
    """Stop a search; the front found so far stays."""
    return SearchOut.of(service.searches.cancel(search_id))


@router.post("/{search_id}:resume", status_code=202, dependencies=[SUBMIT])
def resume_search(search_id: str, service: Service) -> SearchOut:
    """Continue a cancelled or failed search where it stopped."""
    return SearchOut.of(service.searches.resume(search_id))


@router.post("/{search_id}:fork", status_code=202, dependencies=[SUBMIT])
def fork_search(
    search_id: str,
    body: SearchFork,
    service: Service,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> SearchOut:
    """Queue a search that begins with the front of this one, under other constraints."""
    job, _ = service.searches.fork(
        search_id, constraints=body.constraints, effort=body.effort, seed=body.seed, key=idempotency_key
    )
    response.headers["Location"] = f"/v1/searches/{job.id}"
    return SearchOut.of(job)


@router.get(
    "/{search_id}/front",
    response_model=FrontOut,
    responses={200: {"content": {CSV: {}, PARQUET: {}}, "description": "The front."}},
)
def read_front(
    search_id: str,
    request: Request,
    service: Service,
    constraint: Annotated[list[Constraint], Query(max_length=20)] = [],  # noqa: B006
    k: Annotated[
        int | None, Query(ge=1, le=10_000, description="Only the k best by the first objective.")
    ] = None,
) -> Response:
    """The front within bounds such as `constraint=latency_ms<=40`; JSON, CSV or Parquet by Accept."""
    media = accepted(request, (JSON, CSV, PARQUET))
    job, front = service.searches.front(search_id, constraint)
    shown = front if k is None else front.best(k)
    headers = {"Vary": "Accept"}
    if media == JSON:
        return JSONResponse(front_json(job, shown, size=len(front)), headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{job.id}.{"csv" if media == CSV else "parquet"}"'
    return Response(_file(shown, media), media_type=media, headers=headers)


@router.get(
    "/{search_id}/events",
    response_model=EventList,
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}, "description": "The events."},
        204: {"description": "All events were sent already and no more will come."},
    },
)
async def read_events(
    search_id: str,
    request: Request,
    service: Service,
    page_token: PageToken = None,
    page_size: PageSize = 100,
    last_event_id: Annotated[
        str | None, Header(max_length=20, description="Id of the last event that the client has.")
    ] = None,
) -> Response:
    """What happened to a search: a stream of server-sent events, or a page of them as JSON, by Accept."""
    media = accepted(request, (JSON, EVENT_STREAM))
    job = await run_in_threadpool(service.searches.get, search_id)

    def fetch(after: int, limit: int = 100) -> list[Event]:
        return service.searches.events(job.id, after=after, limit=limit)

    if media == JSON:
        events = await run_in_threadpool(fetch, decode_number(page_token), page_size + 1)
        following = events[page_size - 1].number if len(events) > page_size else None
        return JSONResponse(_event_page(events[:page_size], encode_number(following)))
    after = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else 0
    if after >= job.events and job.state.is_final:
        return Response(status_code=204)
    if after > job.events:
        after = 0  # no event of this search: it was made anew since

    async def fetch_later(number: int) -> list[Event]:
        return await run_in_threadpool(fetch, number)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    events_to_come = stream(fetch_later, after, service.leaving)
    return _Stream(service.streams, events_to_come, headers)


class _Stream(StreamingResponse):
    """A stream of events, which has a place at a gate until it ends, however it ends."""

    def __init__(self, gate: Gate, content: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(content, 200, headers, EVENT_STREAM)
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._gate.place():
            await super().__call__(scope, receive, send)


def _event_page(events: list[Event], token: str | None) -> Any:
    page = EventList(events=[EventOut.of(event) for event in events], next_page_token=token)
    return page.model_dump(mode="json")


def _file(front: StoredFront, media: str) -> bytes:
    return front.table.to_csv(index=False).encode() if media == CSV else front.to_bytes()
