"""What users can do, free of HTTP: submit, follow, cancel and resume searches, export, query and describe subnets."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.problem import Clause, Objective
from search.record import load_record
from service.artifacts import Artifacts
from service.errors import NotFound, NotReady, Unavailable
from service.estimates import Choice
from service.fronts import BudgetIndex, StoredFront, annotated
from service.jobs import Event, IdempotencyKey, Job, JobKind, JobState, check_room
from service.ports import Bench, Benches, JobStore, Place
from service.runner import ANCESTORS, FRONT, search_request
from service.workbench import DEFAULT_OBJECTIVES, SearchRequest
from supernet.errors import CheckpointError, SettingsError
from supernet.formats import PRECISIONS
from supernet.space import Rows

DEFAULT = "default"
"""Names the search that every service has: the front of the default supernet without constraints."""

EFFORTS: Mapping[str, int | None] = {"quick": 20_000, "balanced": None, "thorough": 1_000_000}
"""Evaluations by effort; a balanced search ends when the front stops growing."""

MOST_ISLANDS = 16
MOST_VERIFIED = 200

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CACHED_FRONTS = 16
_FRESH_EVALUATIONS = 40_000


@dataclass(frozen=True)
class Limits:
    """What one client may ask for."""

    queue: int = 100
    evaluations: int = 5_000_000


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first, and where the next page begins, None behind the last one."""

    jobs: Sequence[Job]
    following: Place | None


class Searches:
    """Search jobs and their fronts."""

    def __init__(
        self,
        store: JobStore,
        benches: Benches,
        *,
        default_supernet: str,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._benches = benches
        self.default_id = f"{DEFAULT}-{default_supernet}"
        self._limits = limits or Limits()
        self._clock = clock
        self._fronts = _FrontCache()
        self._found_default: StoredFront | None = None

    def submit(
        self,
        request: SearchRequest,
        *,
        supernet: str | None = None,
        effort: str = "balanced",
        islands: int | None = None,
        verify: int | None = None,
        key: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue a search, on islands if a number of them is given; `verify` subnets of it are measured.

        Returns the job and whether it is new (see `JobStore.add`).

        Raises what `Workbench.check` raises, SettingsError (too many evaluations, islands to verify), QueueFull,
        IdempotencyMismatch.
        """
        bench = self._benches.get(supernet)
        request = self._with_effort(request, effort)
        job = self._new_search(bench, request, islands=islands, verify=verify)
        named = idempotency_key(key, job.request)
        if named is not None and (known := self._store.find(job.kind, named)) is not None:
            return known, False
        if verify is not None and islands is not None:
            raise SettingsError(
                "A search on islands is not verified here.",
                field="verify",
                value=verify,
                remedy="Leave out islands or verify.",
            )
        bench.check(request, verify=verify is not None)
        return self._store.add(job, key=named, room=self._limits.queue)

    def get(self, search_id: str) -> Job:
        """A search by id, or the default one. Raises NotFound."""
        job = self._store.get(self._resolve(search_id))
        if job.kind is not JobKind.SEARCH:
            raise NotFound(f"There is no search {search_id[:80]!r}.", field="id", value=search_id[:80])
        return job

    def page(self, *, state: JobState | None = None, after: Place | None = None, limit: int = 50) -> Page:
        """Searches, newest first."""
        return _page(self._store, JobKind.SEARCH, state, after, limit)

    def cancel(self, search_id: str) -> Job:
        """Ask a search to stop; it keeps the front found so far. Raises NotFound, IllegalTransition."""
        return self._store.update(self.get(search_id).id, lambda job: job.cancelling(self._clock()))

    def resume(self, search_id: str) -> Job:
        """Continue a cancelled or failed search from its last saved generation.

        Raises NotFound, IllegalTransition, QueueFull.
        """
        job = self.get(search_id)
        job.resumed()
        waiting = sum(
            count.jobs
            for count in self._store.counts()
            if (count.kind, count.state) == (JobKind.SEARCH, JobState.QUEUED)
        )
        check_room(JobKind.SEARCH, waiting, self._limits.queue)
        return self._store.update(job.id, lambda job: job.resumed())

    def fork(
        self,
        search_id: str,
        *,
        constraints: Sequence[str] | None = None,
        effort: str = "balanced",
        seed: int | None = None,
        key: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue a search like another that has ended, begun with its front, under other constraints.

        What is None stays as it was. Raises as `submit` does, and NotReady where there is no front yet.
        """
        parent = self.get(search_id)
        request = search_request(parent.request)
        request = replace(
            request,
            constraints=request.constraints if constraints is None else tuple(constraints),
            seed=request.seed if seed is None else seed,
            evaluations=None,
            seconds=None,
        )
        bench = self._benches.get(str(parent.request["supernet"]))
        request = self._with_effort(request, effort)
        kept = {name: parent.request.get(name) for name in ("islands", "verify")}
        job = replace(self._new_search(bench, request, **kept), parent=parent.id)
        named = idempotency_key(key, {**job.request, "parent": parent.id})
        if named is not None and (known := self._store.find(job.kind, named)) is not None:
            return known, False
        parent, front = self.front(search_id)
        if not parent.state.is_final or not len(front):
            raise NotReady(
                f"Search {parent.id} is {parent.state} and has no final front to begin with.",
                field="state",
                value=parent.state.value,
                remedy="Fork a search that has ended.",
            )
        bench.check(request, verify=kept["verify"] is not None)
        ancestors = json.dumps(front.table["id"].tolist()).encode()
        return self._store.add(job, key=named, blobs={ANCESTORS: ancestors}, room=self._limits.queue)

    def events(self, search_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """Events behind number `after`. Raises NotFound."""
        return self._store.events(self.get(search_id).id, after=after, limit=limit)

    def front(self, search_id: str, constraints: Sequence[str] = ()) -> tuple[Job, StoredFront]:
        """The front of a search, as far as it is known, inside the bounds.

        Raises NotFound, InvalidConstraint, InfeasibleBudget (says what is possible).
        """
        job = self.get(search_id)
        front = self._fronts.get(job, lambda: self._stored_front(job))
        return job, front.within(constraints) if constraints and len(front) else front

    def default_front(self) -> StoredFront:
        """The default front. Raises Unavailable until it has been found."""
        if self._found_default is not None:
            return self._found_default
        try:
            job, front = self.front(DEFAULT)
        except NotFound:
            job, front = None, None
        if job is None or front is None or not job.state.is_final or not len(front):
            raise Unavailable(
                "The front that answers budgets at once is not found yet.",
                remedy="Try again in some seconds, or ask with fresh=true.",
            )
        if job.state is JobState.SUCCEEDED:
            self._found_default = front  # nothing changes it any more
        return front

    def ensure_default(self, fronts: Path, fingerprint: str) -> Job | None:
        """Make sure that the default search exists for what is at hand; None where nothing can be searched.

        `fingerprint` names the supernet and its predictors: with other ones, and where it was cancelled or
        failed, the search is made anew. A record of that supernet under `fronts` is taken over instead of searching.
        """
        bench = self._benches.get()
        objectives = _default_objectives(bench)
        if objectives is None:
            return None
        try:
            known = self._store.get(self.default_id)
            given_up = known.state in (JobState.FAILED, JobState.CANCELLED)
            if known.request.get("fingerprint") == fingerprint and not given_up:
                return known
            self._store.remove(self.default_id)
        except NotFound:
            pass
        request = SearchRequest(objectives=objectives)
        stored = {"supernet": bench.id, **request.to_json(), "fingerprint": fingerprint}
        job = Job(self.default_id, JobKind.SEARCH, _plain(stored), self._clock())
        shipped = _shipped(bench, request, fronts / bench.id, job, self._clock())
        if shipped is not None:
            return self._store.add(shipped[0], blobs={FRONT: shipped[1].to_bytes()})[0]
        return self._store.add(job)[0]

    def _new_search(self, bench: Bench, request: SearchRequest, **options: int | None) -> Job:
        wanted = {name: value for name, value in options.items() if value is not None}
        stored = {"supernet": bench.id, **request.to_json(), **wanted}
        return Job(new_id("search", self._clock()), JobKind.SEARCH, _plain(stored), self._clock())

    def _resolve(self, search_id: str) -> str:
        return self.default_id if search_id == DEFAULT else search_id

    def _stored_front(self, job: Job) -> StoredFront:
        content = self._store.blob(job.id, FRONT)
        if content is None:
            return StoredFront.empty(search_request(job.request).parsed_objectives())
        return StoredFront.from_bytes(content)

    def _with_effort(self, request: SearchRequest, effort: str) -> SearchRequest:
        if effort not in EFFORTS:
            raise SettingsError(
                f"There is no effort {effort!r}.",
                field="effort",
                value=effort,
                remedy=f"Choose one of {', '.join(EFFORTS)}.",
            )
        evaluations, most = request.evaluations, self._limits.evaluations
        if evaluations is None and request.seconds is None and request.generations is None:
            evaluations = EFFORTS[effort]
        if evaluations is None and (request.stop().evaluations or math.inf) > most:
            evaluations = most
        if evaluations is not None and evaluations > most:
            raise SettingsError(
                f"{evaluations} evaluations are more than this service allows.",
                field="evaluations",
                value=evaluations,
                remedy=f"Ask for at most {most}.",
            )
        return replace(request, evaluations=evaluations)


class Exports:
    """Export jobs and their files."""

    def __init__(
        self,
        store: JobStore,
        benches: Benches,
        artifacts: Artifacts,
        *,
        with_photos: bool = False,
        queue: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._benches = benches
        self._artifacts = artifacts
        self._with_photos = with_photos
        self._queue = queue
        self._clock = clock

    def submit(
        self,
        arch: Any,
        *,
        form: str = "onnx",
        precision: str = "fp32",
        supernet: str | None = None,
        key: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue an export in a format and a precision that it comes in (see `supernet.formats`).

        Raises InvalidArch, CheckpointError, SettingsError (the precision), QueueFull, IdempotencyMismatch.
        """
        bench = self._benches.get(supernet)
        subnet = bench.space.id_of(bench.arch(arch))
        self._check_precision(form, precision)
        request = {"supernet": bench.id, "arch": subnet, "format": form, "precision": precision}
        job = Job(new_id("export", self._clock()), JobKind.EXPORT, request, self._clock())
        return self._store.add(job, key=idempotency_key(key, request), room=self._queue)

    def get(self, export_id: str) -> Job:
        """Raises NotFound."""
        job = self._store.get(export_id)
        if job.kind is not JobKind.EXPORT:
            raise NotFound(f"There is no export {export_id[:80]!r}.", field="id", value=export_id[:80])
        return job

    def file(self, export_id: str) -> tuple[Path, str]:
        """The exported file and a name for it. Raises NotFound, NotReady."""
        job = self.get(export_id)
        if job.state is not JobState.SUCCEEDED:
            raise NotReady(
                f"Export {job.id} is {job.state}.",
                field="state",
                value=job.state.value,
                remedy="Ask again when it has succeeded.",
            )
        path = self._artifacts.path(str(job.result["artifact"]))
        precision = job.request["precision"]
        marks = [job.request["format"]] if path.suffix == ".zip" else []
        marks += [] if precision == "fp32" else [precision]
        return path, "-".join([job.result["subnet"], *marks]) + path.suffix

    def _check_precision(self, form: str, precision: str) -> None:
        if precision not in PRECISIONS[form]:
            reason = f"There are no {form} files in {precision}."
            remedy = f"Choose {' or '.join(PRECISIONS[form])}, or the format onnx."
        elif precision == "int8" and not self._with_photos:
            reason = "This service has no photos to calibrate int8 on."
            remedy = "Choose fp16, or name a folder of photos with SALNAS_PHOTOS."
        else:
            return
        raise SettingsError(reason, field="precision", value=precision, remedy=remedy)


class Subnets:
    """Questions about subnets that are answered at once."""

    def __init__(self, searches: Searches, benches: Benches) -> None:
        self._searches = searches
        self._benches = benches
        self._index: tuple[StoredFront, BudgetIndex] | None = None

    def describe(self, arch: Any, *, supernet: str | None, choice: Choice) -> dict[str, Any]:
        """All that is known of a subnet. Raises InvalidArch, CheckpointError."""
        bench = self._benches.get(supernet)
        return bench.describe(bench.arch(arch), choice)

    @property
    def is_ready(self) -> bool:
        """Whether budgets are answered from memory."""
        return self._index is not None

    def query(self, constraints: Sequence[str], *, k: int, by: str) -> list[dict[str, Any]]:
        """The k best subnets of the default front inside the bounds, best first.

        Raises Unavailable, InvalidConstraint, InfeasibleBudget (says what is possible).
        """
        front = self._searches.default_front()
        if self._index is None or self._index[0] is not front:
            self._index = (front, BudgetIndex([front]))
        return self._index[1].best(constraints, k, Objective.parse(by))

    def query_fresh(
        self, constraints: Sequence[str], *, k: int, by: str, supernet: str | None, choice: Choice
    ) -> list[dict[str, Any]]:
        """The same from a new short search, begun with the default front where that is of the same supernet."""
        bench = self._benches.get(supernet)
        first = Objective.parse(by).name
        bounded = [Clause.parse(text).name for text in constraints]
        known = bench.estimates.columns(choice)
        second = next(
            (name for name in (*bounded, "latency_ms", "macs") if name in known and name != first), first
        )
        request = SearchRequest(
            objectives=(by, second),
            constraints=tuple(constraints),
            device=choice.device,
            metric=choice.metric,
            evaluations=_FRESH_EVALUATIONS,
        )
        result = bench.search(request, warm_start=self._known_rows(bench))
        front = annotated(
            result.pareto, bench.rows_of(result.front), bench.estimates, choice, result.hypervolume
        )
        return BudgetIndex([front]).best(constraints, k, request.parsed_objectives()[0])

    def _known_rows(self, bench: Bench) -> Rows | None:
        if bench is not self._benches.get(None):
            return None
        try:
            return bench.rows_of(self._searches.default_front().table)
        except Unavailable:
            return None


class _FrontCache:
    """The last fronts that will not change any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fronts: OrderedDict[tuple[str, float], StoredFront] = OrderedDict()

    def get(self, job: Job, load: Callable[[], StoredFront]) -> StoredFront:
        """The front of a job, loaded where it is not known."""
        if not job.state.is_final or job.finished is None:
            return load()
        key = (job.id, job.finished)
        with self._lock:
            if key in self._fronts:
                self._fronts.move_to_end(key)
                return self._fronts[key]
        front = load()
        with self._lock:
            self._fronts[key] = front
            while len(self._fronts) > _CACHED_FRONTS:
                self._fronts.popitem(last=False)
        return front


def new_id(prefix: str, now: float) -> str:
    """An id that sorts by time: prefix, milliseconds and 60 random bits in base 32."""
    number = (int(now * 1000) << 60) | secrets.randbits(60)
    digits = [_ALPHABET[number >> 5 * place & 31] for place in reversed(range(21))]
    return f"{prefix}-{''.join(digits)}"


def idempotency_key(key: str | None, request: Mapping[str, Any]) -> IdempotencyKey | None:
    """The key with the digest of the request, None without a key."""
    if key is None:
        return None
    content = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return IdempotencyKey(key, hashlib.sha256(content.encode()).hexdigest())


def _page(store: JobStore, kind: JobKind, state: JobState | None, after: Place | None, limit: int) -> Page:
    jobs = store.page(kind=kind, state=state, after=after, limit=limit + 1)
    shown = jobs[:limit]
    return Page(shown, Place(shown[-1].created, shown[-1].id) if len(jobs) > limit else None)


def _plain(request: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(request))
    return plain


def _default_objectives(bench: Bench) -> tuple[str, str] | None:
    known = bench.estimates.columns(SearchRequest().choice)
    if "accuracy" not in known:
        return None
    return DEFAULT_OBJECTIVES if "latency_ms" in known else ("accuracy", "macs")


def _shipped(
    bench: Bench, request: SearchRequest, directory: Path, job: Job, now: float
) -> tuple[Job, StoredFront] | None:
    """The job as finished, with the front recorded in `directory`, where that is of this supernet."""
    try:
        record = load_record(directory)
    except CheckpointError:
        return None
    manifest = record.manifest
    fitting = manifest.provenance.get("supernet_fingerprint") == bench.file.fingerprint
    if record.front is None or not fitting or manifest.objectives != request.parsed_objectives():
        return None
    rows = bench.rows_of(record.front.table)
    front = annotated(record.front, rows, bench.estimates, request.choice, manifest.hypervolume)
    result = {
        "subnets": len(front),
        "knee": front.knee,
        **{
            name: getattr(manifest, name)
            for name in ("hypervolume", "evaluations", "generations", "seconds", "reason")
        },
    }
    return replace(job, state=JobState.SUCCEEDED, started=now, finished=now, result=result), front
