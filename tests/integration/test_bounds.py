"""What a client with a small key or bad manners cannot do: exhaust the service, or break its answers."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from anyio import to_thread
from fastapi import FastAPI
from PIL import Image

from service.devices import PackRunner, RegisteredDevices
from service.estimates import Estimates
from service.jobs import JobKind, JobState
from service.keys import Scope, new_key
from service.main import create_app
from service.ports import Outcome, Session
from service.runner import ExportRunner, SearchRunner
from service.settings import Settings
from service.workbench import Workbench
from supernet import images
from supernet.errors import SettingsError
from tests.fixtures.made_up import use_made_up_accuracy
from tests.fixtures.tiny import TINY
from tests.integration.test_http import device_form, finished, fitted, is_problem, measured

JSON = {"content-type": "application/json"}
STREAM = {"accept": "text/event-stream"}
SHORT = {"evaluations": 100}

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(results: Path, tmp_path: Path) -> Settings:
    return Settings(results=results, supernet=TINY, state=tmp_path / "state", max_queue=2)


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_accuracy(monkeypatch)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    app = create_app(settings, search_processes=0)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client,
    ):
        yield client, app


def busy(self: object, session: Session) -> Outcome:
    """A job that ends when it is told to."""
    while not session.should_stop():
        time.sleep(0.01)
    return Outcome({}, complete=False, blobs={})


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job ends by itself, so whatever comes behind the first one waits."""
    for runner in (SearchRunner, ExportRunner, PackRunner):
        monkeypatch.setattr(runner, "run", busy)


def bearer(app: FastAPI, scope: Scope) -> dict[str, str]:
    key, text = new_key(scope.value, scope, 1.0)
    app.state.context.store.add_key(key)
    return {"authorization": f"Bearer {text}"}


async def until(state: str, client: httpx.AsyncClient, path: str) -> None:
    while (await client.get(path)).json()["state"] != state:
        await asyncio.sleep(0.02)


# --- the queue ------------------------------------------------------------------------------------------


async def test_a_known_key_answers_on_a_full_queue(settings: Settings, stuck: None) -> None:
    named = {"Idempotency-Key": "mine"}
    async with running(settings) as (client, _):
        await until("running", client, "/v1/searches/default")
        for path, wanted in (("/v1/searches", SHORT), ("/v1/exports", {"arch": "min"})):
            other = {**wanted, "supernet": TINY}
            if path == "/v1/exports":
                await until("running", client, (await client.post(path, json=other)).headers["location"])
            mine = await client.post(path, json=wanted, headers=named)
            await client.post(path, json=other)
            is_problem(await client.post(path, json=other), 429, "queue-full")
            again = await client.post(path, json=wanted, headers=named)
            assert (again.status_code, again.json()["id"]) == (202, mine.json()["id"])
            is_problem(
                await client.post(path, json={**wanted, "arch": "max", "seed": 9}, headers=named),
                422,
                "invalid-request",
            )


async def test_a_fork_is_found_by_its_key_whatever_became_of_its_parent(settings: Settings) -> None:
    named = {"Idempotency-Key": "mine"}
    async with running(settings) as (client, app):
        store = app.state.context.store
        parent = await finished(client, (await client.post("/v1/searches", json=SHORT)).headers["location"])
        fork = f"{parent['links']['self']}:fork"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SearchRunner, "run", busy)
            first = await client.post(fork, json={"effort": "quick"}, headers=named)
            await until("running", client, first.headers["location"])
            for seed in (1, 2):
                await client.post("/v1/searches", json={**SHORT, "seed": seed})
            again = await client.post(fork, json={"effort": "quick"}, headers=named)
            full = await client.post(fork, json={"effort": "quick"})
            store.update(parent["id"], lambda job: replace(job, state=JobState.RUNNING))
            later = await client.post(fork, json={"effort": "quick"}, headers=named)
    assert first.status_code == again.status_code == later.status_code == 202
    assert first.json()["id"] == again.json()["id"] == later.json()["id"]
    is_problem(full, 429, "queue-full")


async def test_what_was_cancelled_waits_in_the_same_queue(settings: Settings, stuck: None) -> None:
    async with running(settings) as (client, _):
        await until("running", client, "/v1/searches/default")
        paths = []
        for seed in range(3):
            paths.append(
                (await client.post("/v1/searches", json={**SHORT, "seed": seed})).headers["location"]
            )
            await client.post(f"{paths[-1]}:cancel")
        answers = [await client.post(f"{path}:resume") for path in paths]
        waiting = await client.post(f"{paths[0]}:resume")
    assert [answer.status_code for answer in answers[:2]] == [202, 202]
    is_problem(answers[2], 429, "queue-full")
    is_problem(waiting, 409, "wrong-state")


@pytest.mark.parametrize("wanted", [{"seconds": 20.0}, {}, {"seconds": 20.0, "effort": "quick"}])
async def test_no_search_tries_more_than_the_service_allows(
    settings: Settings, wanted: dict[str, Any]
) -> None:
    async with running(replace(settings, max_evaluations=300)) as (client, _):
        answer = await client.post("/v1/searches", json=wanted)
        assert answer.json()["request"]["evaluations"] == 300
        job = await finished(client, answer.headers["location"])
        fork = await client.post(f"{job['links']['self']}:fork", json={})
        assert fork.json()["request"]["evaluations"] == 300
    assert job["result"]["reason"] == "evaluations"
    assert 300 <= job["result"]["evaluations"] < 1000


async def test_a_search_that_is_within_the_limit_stops_as_it_did(settings: Settings) -> None:
    async with running(replace(settings, max_queue=9)) as (client, _):
        request = (await client.post("/v1/searches", json={})).json()["request"]
        short = (await client.post("/v1/searches", json={"seconds": 0.1})).json()["request"]
    assert (request["evaluations"], request["seconds"]) == (None, None)
    assert (short["evaluations"], short["seconds"]) == (settings.max_evaluations, 0.1)


# --- packs and devices ----------------------------------------------------------------------------------


async def test_packs_are_made_for_who_may_submit_and_not_without_end(settings: Settings, stuck: None) -> None:
    async with running(replace(settings, keys="always")) as (client, app):
        read, submit = bearer(app, Scope.READ), bearer(app, Scope.SUBMIT)

        async def ask(models: int, headers: dict[str, str]) -> httpx.Response:
            return await client.get("/v1/devices/x/pack", params={"models": models}, headers=headers)

        is_problem(await ask(10, read), 403, "forbidden")
        store = app.state.context.store
        assert store.page(kind=JobKind.PACK) == []
        asking = [asyncio.create_task(ask(10, submit))]
        async with asyncio.timeout(60):  # else the queue may be full before a worker takes the first
            while [job.state for job in store.page(kind=JobKind.PACK)] != [JobState.RUNNING]:
                await asyncio.sleep(0.05)
        asking += [asyncio.create_task(ask(models, submit)) for models in range(11, 60)]
        done, waiting = await asyncio.wait(asking, timeout=5)
        queued = store.page(kind=JobKind.PACK, limit=100)
        app.state.context.leaving.set()
        await asyncio.gather(*waiting)
    states = [job.state for job in queued]
    assert sorted(states) == [JobState.QUEUED, JobState.QUEUED, JobState.RUNNING]
    for task in done:
        is_problem(task.result(), 429, "queue-full")


async def test_a_pack_that_was_made_is_for_all(settings: Settings) -> None:
    async with running(replace(settings, keys="always")) as (client, app):
        read, submit = bearer(app, Scope.READ), bearer(app, Scope.SUBMIT)
        made = await client.get("/v1/devices/x/pack", params={"models": 10}, headers=submit)
        assert made.status_code == 200, made.text
        for name in ('"; x=y', "a\r\nX-Evil: 1", "é\u2028", "\x00", "a" * 200):
            path = f"/v1/devices/{quote(name, safe='')}/pack"
            answer = await client.get(path, params={"models": 10}, headers=read)
            assert answer.content == made.content
            assert "x-evil" not in answer.headers
            disposition = answer.headers["content-disposition"]
            assert disposition.isascii()
            assert disposition.isprintable()
            assert disposition.count('"') in (0, 2), disposition


async def test_one_key_makes_one_device(settings: Settings) -> None:
    named = {"Idempotency-Key": "mine"}
    async with running(settings) as (client, _):
        first = await client.post("/v1/devices", **device_form("phone", measured()), headers=named)
        assert first.status_code == 202, first.text
        again = await client.post("/v1/devices", **device_form("phone", measured()), headers=named)
        other = await client.post("/v1/devices", **device_form("other", measured()), headers=named)
        devices = (await client.get("/v1/devices")).json()["devices"]
    assert again.json()["id"] == first.json()["id"] == "phone"
    is_problem(other, 422, "idempotency-mismatch")
    assert [device["id"] for device in devices if not device["builtin"]] == ["phone"]


async def test_devices_that_are_gone_are_forgotten(settings: Settings) -> None:
    async with running(settings) as (client, app):
        for name in ("one", "two"):
            answer = await client.post("/v1/devices", **device_form(name, measured()))
            assert (await fitted(client, answer.headers["location"]))["state"] == "ready"
            await client.post("/v1/subnets:describe", json={"arch": "min"})
            await client.delete(f"/v1/devices/{name}")
        await client.post("/v1/subnets:describe", json={"arch": "min"})
        registered: RegisteredDevices = app.state.context.benches._registered
    assert [len(found) for found in registered._loaded.values()] == [0]


# --- answers that take long -----------------------------------------------------------------------------


class Counted:
    """How many are in a block at the same time; they leave it when told to."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.leaving = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.leaving.wait(20)
        with self._lock:
            self.now -= 1


async def test_one_key_cannot_keep_the_service_from_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(replace(settings, keys="always", rate=10_000)) as (client, app):
        read, other = bearer(app, Scope.READ), bearer(app, Scope.SUBMIT)
        path = (await client.post("/v1/searches", json=SHORT, headers=other)).headers["location"]
        counted, evaluate = Counted(), Estimates.evaluate

        def slow(*arguments: Any) -> Any:
            counted()
            return evaluate(*arguments)

        monkeypatch.setattr(Estimates, "evaluate", slow)
        asked = {"by": "macs", "fresh": True}
        fresh = [
            asyncio.create_task(client.post("/v1/subnets:query", json=asked, headers=read)) for _ in range(80)
        ]
        await asyncio.sleep(1.0)
        answer = await asyncio.wait_for(client.get(path, headers=other), 5)
        refused = [task.result() for task in fresh if task.done()]
        monkeypatch.setattr(Estimates, "evaluate", evaluate)
        counted.leaving.set()
        answers = [await task for task in fresh]
    assert answer.status_code == 200
    assert len(refused) >= 60
    for found in refused:
        is_problem(found, 429, "too-many-requests")
        assert int(found.headers["retry-after"]) > 0
    assert sorted({found.status_code for found in answers}) == [200, 429]


async def test_keys_are_looked_up_where_no_other_request_is_in_the_way(settings: Settings) -> None:
    async with running(replace(settings, keys="always")) as (client, app):
        read = bearer(app, Scope.READ)
        leaving = threading.Event()
        held = [asyncio.create_task(to_thread.run_sync(leaving.wait)) for _ in range(60)]
        await asyncio.sleep(0.2)
        try:
            refused = await asyncio.wait_for(client.post("/v1/searches", json=SHORT, headers=read), 5)
        finally:
            leaving.set()
            await asyncio.gather(*held)
    is_problem(refused, 403, "forbidden")


async def test_few_photos_are_in_memory_at_the_same_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, load = Counted(), images.load_upload

    def slow(*arguments: Any) -> Image.Image:
        counted()
        return load(*arguments)

    monkeypatch.setattr(images, "load_upload", slow)
    stream = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(stream, "PNG")
    async with running(settings) as (client, _):
        asked = [
            asyncio.create_task(client.post("/v1/predictions", files={"image": stream.getvalue()}))
            for _ in range(40)
        ]
        done, _ = await asyncio.wait(asked, timeout=2)
        counted.leaving.set()
        answers = [await task for task in asked]
    assert counted.most == 2
    assert [answer.status_code for answer in answers].count(200) == 32
    assert len(done) == 8
    for task in done:
        is_problem(task.result(), 429, "too-many-requests")


async def test_streams_have_a_limit_and_give_their_place_back(settings: Settings, stuck: None) -> None:
    async with running(replace(settings, max_streams=2)) as (_, app):
        path = "/v1/searches/default/events"
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(listening(app, path)) for _ in range(3)]
            assert [status for status, _ in streams] == [200, 200, 429]
            assert streams[2][1]["content-type"] == "application/problem+json"
            assert streams[2][1]["retry-after"]
        async with listening(app, path) as (status, _):
            assert status == 200


@asynccontextmanager
async def listening(app: FastAPI, path: str, **headers: str) -> AsyncIterator[tuple[int, dict[str, str]]]:
    """Status and headers of an answer, whose client is there until the block ends."""
    gone, began = asyncio.Event(), asyncio.get_running_loop().create_future()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            began.set_result(message)

    fields = {"host": "127.0.0.1", **STREAM, **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    task = asyncio.create_task(app(scope, receive, send))
    start = await asyncio.wait_for(began, 10)
    try:
        yield start["status"], {name.decode(): value.decode() for name, value in start["headers"]}
    finally:
        gone.set()
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("number", ["9" * 20, "2147483648", "99"])
async def test_a_stream_behind_an_event_that_never_was_begins_anew(settings: Settings, number: str) -> None:
    async with running(settings) as (client, _):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SearchRunner, "run", busy)
            path = (await client.post("/v1/searches", json=SHORT)).headers["location"]
            listen = client.get(f"{path}/events", headers={**STREAM, "last-event-id": number})
            streamed = asyncio.create_task(listen)
            await asyncio.sleep(0.3)
            await client.post(f"{path}:cancel")
            answer = await asyncio.wait_for(streamed, 20)
        ended = await client.get(f"{path}/events", headers={**STREAM, "last-event-id": number})
    assert answer.status_code == 200
    assert answer.text.count("event: queued") == 1
    assert "event: cancelled" in answer.text
    assert ended.status_code == 204


# --- the default front ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [JobState.CANCELLED, JobState.FAILED])
async def test_a_default_search_that_was_given_up_is_made_anew(settings: Settings, ending: JobState) -> None:
    async with running(settings) as (client, app):
        await finished(client, "/v1/searches/default")
        store, name = app.state.context.store, app.state.context.searches.default_id
        store.update(name, lambda job: replace(job, state=ending, result={}), blobs={"front": None})
    async with running(settings) as (client, _):
        assert (await finished(client, "/v1/searches/default"))["state"] == "succeeded"
        assert (await client.post("/v1/subnets:query", json={})).status_code == 200


# --- what is left on the disk ---------------------------------------------------------------------------


async def test_work_in_progress_lies_in_the_state_folder_and_none_of_it_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, artifacts = settings.state / "work", settings.state / "artifacts"
    for left in (work / "salnas-search-x", artifacts / ".incoming-x"):
        left.mkdir(parents=True)
        (left / "half").write_text("x")
    seen: list[Path] = []

    def search(*_: object, directory: Path, **__: object) -> None:
        assert directory.is_dir()
        seen.append(directory)
        raise SettingsError("That is enough.")

    monkeypatch.setattr(Workbench, "search", search)
    async with running(settings) as (client, _):
        assert not list(artifacts.glob(".incoming-*"))
        assert (await finished(client, "/v1/searches/default"))["error"]["detail"] == "That is enough."
    assert [folder.parent for folder in seen] == [work]
    assert list(work.iterdir()) == []


# --- requests that are none -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/searches", r'{"supernet": "\ud800"}'),
        ("/v1/searches", r'{"constraints": ["\ud800<=1"]}'),
        ("/v1/searches", r'{"objectives": ["accuracy", "\ud800"]}'),
        ("/v1/searches", r'{"\ud800": 1}'),
        ("/v1/searches", r'{"device": "a\u0000"}'),
        ("/v1/subnets:query", r'{"by": "\ud800"}'),
        ("/v1/subnets:query", r'{"by": "\ud800", "fresh": true}'),
        ("/v1/subnets:describe", r'{"arch": "\ud800"}'),
        ("/v1/subnets:describe", r'{"arch": {"\ud800": 1}}'),
        ("/v1/subnets:describe", r'{"arch": {"resolution": "\ud800"}}'),
        ("/v1/subnets:describe", '{"arch": ' + "[" * 900 + "]" * 900 + "}"),
        ("/v1/subnets:describe", '{"arch": ' + '{"a": ' * 900 + "1" + "}" * 900 + "}"),
        ("/v1/subnets:describe", '{"arch": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        ("/v1/measurements", r'{"subnets": ["\ud800"]}'),
        ("/v1/exports", r'{"arch": "\ud800"}'),
    ],
)
async def test_bodies_that_hold_what_none_should(settings: Settings, path: str, body: str) -> None:
    async with running(settings) as (client, _):
        answer = await client.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_headers_that_hold_what_none_should(settings: Settings) -> None:
    async with running(replace(settings, keys="always")) as (client, app):
        foreign = await client.post("/v1/searches", json={}, headers={"origin": "http://["})
        key = await client.get("/v1/searches", headers=[(b"authorization", b"Basic \xe9")])
        read = bearer(app, Scope.READ)
        nul = await client.get("/v1/searches/%00", headers=read)
        page = await client.get("/v1/searches", params={"page_token": "WzEsIlx1ZDgwMCJd"}, headers=read)
    is_problem(foreign, 403, "forbidden")
    is_problem(key, 401, "unauthorised")
    is_problem(nul, 404, "not-found")
    is_problem(page, 422, "invalid-request")


async def test_a_foreign_name_is_in_the_document_wherever_it_is_refused(settings: Settings) -> None:
    async with running(settings) as (client, _):
        document = (await client.get("/openapi.json")).json()
        for path in ("/healthz", "/readyz"):
            is_problem(await client.get(path, headers={"host": "evil.example"}), 403, "forbidden")
            assert "403" in document["paths"][path]["get"]["responses"]
    for path, methods in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in methods.values():
                assert "Retry-After" in operation["responses"]["429"]["headers"], path


async def test_fresh_and_stored_fronts_know_the_same_orders(settings: Settings) -> None:
    async with running(settings) as (client, _):
        await finished(client, "/v1/searches/default")
        for by in ("accuracy", "max:accuracy", "latency_ms", "min:latency_ms", "macs", "min:macs"):
            answers = [
                await client.post("/v1/subnets:query", json={"by": by, "k": 3, "fresh": fresh})
                for fresh in (False, True)
            ]
            assert [answer.status_code for answer in answers] == [200, 200], (by, answers[1].text)
            name = by.rpartition(":")[2]
            for answer in answers:
                values = [value(subnet[name]) for subnet in answer.json()["subnets"]]
                assert values == sorted(values, reverse=name == "accuracy")
        empty = await client.post("/v1/subnets:query", json={"by": "accuracy_measured"})
    problem = is_problem(empty, 422, "invalid-constraint")
    assert "accuracy_low" in problem["remedy"]
    assert "accuracy_measured" not in problem["remedy"]


def value(quantity: Any) -> float:
    return float(quantity["predicted"] if isinstance(quantity, dict) else quantity)


# --- the log --------------------------------------------------------------------------------------------


async def test_requests_and_jobs_are_logged_with_their_ids(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(settings) as (client, _):
        answer = await client.post("/v1/exports", json={"arch": "min"}, headers={"x-request-id": "asked-1"})
        job = await finished(client, answer.headers["location"])
        unnamed = await client.get("/healthz")
    requests = {vars(record).get("request"): record.getMessage() for record in caplog.records}
    assert requests["asked-1"] == "POST /v1/exports 202"
    assert requests[unnamed.headers["x-request-id"]] == "GET /healthz 200"
    of_job = [record.getMessage() for record in caplog.records if vars(record).get("job") == job["id"]]
    assert of_job == ["job claimed", "job succeeded"]
