"""The API over ASGI, with a tiny supernet, synthetic predictors and the workers in this process."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.estimates import Choice, Estimates
from service.keys import Scope, new_key
from service.main import create_app
from service.runner import ExportRunner
from service.settings import Settings
from supernet.cost import cost
from supernet.errors import ExportError
from supernet.space import Rows, get_space
from tests.fixtures.made_up import use_made_up_accuracy
from tests.fixtures.tiny import TINY, write_photo
from tests.unit.supernet.test_export import needs_coreml, needs_openvino
from tests.unit.supernet.test_images import bomb

PROBLEM = "application/problem+json"
QUICK = {"evaluations": 600, "seed": 1}
LONGER = {"evaluations": 6000, "seed": 1}


@pytest.fixture
def settings(results: Path, tmp_path: Path) -> Settings:
    return Settings(results=results, supernet=TINY, state=tmp_path / "state", max_photo_bytes=200_000)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, search_processes=0)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_accuracy(monkeypatch)


pytestmark = pytest.mark.anyio


async def finished(client: httpx.AsyncClient, path: str, seconds: float = 60.0) -> dict[str, Any]:
    """The job at `path` when it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job: dict[str, Any] = (await client.get(path)).json()
        if job["state"] not in ("queued", "running"):
            return job
        await asyncio.sleep(0.05)
    raise TimeoutError(path)


async def searched(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    answer = await client.post("/v1/searches", json={**QUICK, **wanted})
    assert answer.status_code == 202, answer.text
    return await finished(client, answer.headers["location"])


async def latency(client: httpx.AsyncClient, arch: str) -> float:
    described = (await client.post("/v1/subnets:describe", json={"arch": arch})).json()
    return float(described["predictions"]["latency_ms"]["cpu-1-thread"]["predicted"])


def photo(size: tuple[int, int] = (80, 60)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def is_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    content: dict[str, Any] = answer.json()
    assert content["type"] == f"/problems/{kind}"
    assert content["status"] == status
    assert content["detail"]
    return content


async def test_a_search_from_request_to_front(settings: Settings) -> None:
    async with running(settings) as client:
        bound = (await latency(client, "min") + await latency(client, "max")) / 2
        constraint = f"latency_ms<={bound}"
        created = await client.post("/v1/searches", json={**QUICK, "constraints": [constraint]})
        assert created.status_code == 202
        location = created.headers["location"]
        assert created.json()["links"]["self"] == location
        job = await finished(client, location)
        assert job["state"] == "succeeded"
        assert job["request"]["constraints"] == [constraint]
        assert job["progress"]["evaluations"] >= 1
        front = (await client.get(f"{location}/front")).json()
    subnets = front["subnets"]
    assert front["size"] == len(subnets) == job["result"]["subnets"] > 3
    assert front["objectives"] == ["max:accuracy", "min:latency_ms"]
    latencies = [s["latency_ms"]["predicted"] for s in subnets]
    accuracies = [s["accuracy"]["predicted"] for s in subnets]
    assert max(latencies) <= bound
    assert latencies == sorted(latencies)
    assert accuracies == sorted(accuracies)
    assert all(s["accuracy"]["low"] < s["accuracy"]["predicted"] < s["accuracy"]["high"] for s in subnets)
    assert subnets[0]["accuracy"]["measured"] is None
    assert subnets[0]["resolution"] == [32, 32]
    assert sum(s["knee"] for s in subnets) == 1
    assert front["knee"] in {s["id"] for s in subnets}


async def test_a_front_within_a_budget_and_in_other_formats(settings: Settings) -> None:
    async with running(settings) as client:
        job = await searched(client)
        path = job["links"]["front"]
        whole = (await client.get(path)).json()
        bound = whole["subnets"][len(whole["subnets"]) // 2]["macs"]
        part = (await client.get(path, params={"constraint": f"macs<={bound}"})).json()
        best = (await client.get(path, params={"constraint": f"macs<={bound}", "k": 2})).json()
        csv = await client.get(path, headers={"accept": "text/csv"})
        parquet = await client.get(path, headers={"accept": "application/vnd.apache.parquet"})
        wrong = await client.get(path, headers={"accept": "image/gif"})
        impossible = await client.get(path, params={"constraint": "macs<=1"})
        unknown = await client.get(path, params={"constraint": "colour<=1"})
    assert [s["id"] for s in part["subnets"]] == [s["id"] for s in whole["subnets"] if s["macs"] <= bound]
    assert best["size"] == len(part["subnets"])
    assert [s["id"] for s in best["subnets"]] == [s["id"] for s in reversed(part["subnets"])][:2]
    table = pd.read_csv(io.StringIO(csv.text))
    assert csv.headers["content-type"].startswith("text/csv")
    assert table["id"].tolist() == [s["id"] for s in whole["subnets"]]
    assert "accuracy_low" in table
    assert pd.read_parquet(io.BytesIO(parquet.content))["id"].tolist() == table["id"].tolist()
    is_problem(wrong, 406, "not-acceptable")
    assert "goes from" in is_problem(impossible, 422, "infeasible-budget")["remedy"]
    is_problem(unknown, 422, "invalid-constraint")


async def test_one_key_makes_one_search(settings: Settings) -> None:
    headers = {"Idempotency-Key": "k1"}
    async with running(settings) as client:
        first = await client.post("/v1/searches", json=QUICK, headers=headers)
        again = await client.post("/v1/searches", json=QUICK, headers=headers)
        other = await client.post("/v1/searches", json={**QUICK, "seed": 2}, headers=headers)
        listed = (await client.get("/v1/searches")).json()["searches"]
    assert first.json()["id"] == again.json()["id"]
    is_problem(other, 422, "idempotency-mismatch")
    assert len([job for job in listed if not job["id"].startswith("default")]) == 1


async def test_pages_of_searches(settings: Settings) -> None:
    async with running(settings) as client:
        made = [(await client.post("/v1/searches", json={**QUICK, "seed": n})).json()["id"] for n in range(3)]
        first = (await client.get("/v1/searches", params={"page_size": 2})).json()
        token = first["next_page_token"]
        second = (await client.get("/v1/searches", params={"page_size": 2, "page_token": token})).json()
        bad = await client.get("/v1/searches", params={"page_token": "x!"})
    found = [job["id"] for job in first["searches"] + second["searches"]]
    assert [name for name in found if not name.startswith("default")] == made[::-1]
    is_problem(bad, 422, "invalid-request")


async def test_cancel_keeps_the_front_and_resume_goes_on(
    settings: Settings, full_speed: threading.Event
) -> None:
    async with running(settings) as client:
        path = (await client.post("/v1/searches", json=LONGER)).json()["links"]["self"]
        waiting = (await client.post(f"{path}:resume")).json()
        assert waiting["type"] == "/problems/wrong-state"
        await until_it_has_found_something(client, path)
        assert (await client.post(f"{path}:cancel")).status_code == 200
        cancelled = await finished(client, path)
        assert cancelled["state"] == "cancelled"
        full_speed.set()
        partial = (await client.get(f"{path}/front")).json()["subnets"]
        assert len(partial) == cancelled["result"]["subnets"] > 0
        assert (await client.post(f"{path}:cancel")).json() == cancelled
        assert (await client.post(f"{path}:resume")).status_code == 202
        assert (await finished(client, path))["state"] == "succeeded"
        is_problem(await client.post(f"{path}:cancel"), 409, "wrong-state")
        resumed = (await client.get(f"{path}/front")).json()
        undisturbed = await searched(client, **LONGER)
        expected = (await client.get(undisturbed["links"]["front"])).json()
    assert resumed["subnets"] == expected["subnets"]
    assert len(resumed["subnets"]) > len(partial)


async def test_a_fork_begins_with_the_front_of_its_parent(settings: Settings) -> None:
    async with running(settings) as client:
        parent = await searched(client)
        front = (await client.get(parent["links"]["front"])).json()["subnets"]
        bound = front[len(front) // 2]["latency_ms"]["predicted"]
        wanted = {"constraints": [f"latency_ms<={bound}"], "effort": "quick"}
        headers = {"Idempotency-Key": "f"}
        answer = await client.post(f"{parent['links']['self']}:fork", json=wanted, headers=headers)
        again = await client.post(f"{parent['links']['self']}:fork", json=wanted, headers=headers)
        assert answer.status_code == 202, answer.text
        child = await finished(client, answer.headers["location"])
        found = (await client.get(child["links"]["front"])).json()["subnets"]
        missing = await client.post("/v1/searches/none:fork", json={})
    assert again.json()["id"] == child["id"]
    assert child["parent"] == parent["id"]
    assert child["request"]["constraints"] == wanted["constraints"]
    assert max(s["latency_ms"]["predicted"] for s in found) <= bound
    best = [s["accuracy"]["predicted"] for s in front if s["latency_ms"]["predicted"] <= bound]
    assert max(s["accuracy"]["predicted"] for s in found) >= max(best)
    is_problem(missing, 404, "not-found")


async def until_it_has_found_something(client: httpx.AsyncClient, path: str) -> None:
    while True:
        job = (await client.get(path)).json()
        assert job["state"] in ("queued", "running"), "the search was too quick for this test"
        if job["progress"] and job["progress"]["generation"] > 0:
            return
        await asyncio.sleep(0.02)


@pytest.fixture
def full_speed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until it is set, every evaluation of the predictors takes a while."""
    quick, released = Estimates.evaluate, threading.Event()

    def slow(self: Estimates, rows: Rows, names: Iterable[str], choice: Choice) -> dict[str, NDArray[Any]]:
        released.wait(0.3)
        return quick(self, rows, names, choice)

    monkeypatch.setattr(Estimates, "evaluate", slow)
    return released


async def test_events_as_pages_and_as_a_stream(settings: Settings) -> None:
    async with running(settings) as client:
        job = await searched(client)
        path = job["links"]["events"]
        page = (await client.get(path)).json()
        kinds = [event["kind"] for event in page["events"]]
        assert kinds[:2] == ["queued", "running"]
        assert kinds[-1] == "succeeded"
        assert "progress" in kinds
        first = (await client.get(path, params={"page_size": 1})).json()
        second = (await client.get(path, params={"page_token": first["next_page_token"]})).json()
        assert first["events"] + second["events"] == page["events"]
        streamed = await client.get(path, headers={"accept": "text/event-stream"})
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert stream_ids(streamed.text) == [event["id"] for event in page["events"]]
        replayed = await client.get(path, headers={"accept": "text/event-stream", "last-event-id": "2"})
        assert stream_ids(replayed.text) == [event["id"] for event in page["events"]][2:]
        last = str(page["events"][-1]["id"])
        over = await client.get(path, headers={"accept": "text/event-stream", "last-event-id": last})
        assert over.status_code == 204


def stream_ids(text: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")]


async def test_the_default_front_answers_budgets(settings: Settings) -> None:
    async with running(settings) as client:
        await finished(client, "/v1/searches/default")
        front = (await client.get("/v1/searches/default/front")).json()["subnets"]
        bound = front[len(front) // 2]["latency_ms"]["predicted"]
        wanted = {"constraints": [f"latency_ms<={bound}"], "k": 3}
        answer = await client.post("/v1/subnets:query", json=wanted)
        fresh = await client.post("/v1/subnets:query", json={**wanted, "fresh": True})
        impossible = await client.post("/v1/subnets:query", json={"constraints": ["latency_ms<=0.1"]})
    expected = [s for s in front if s["latency_ms"]["predicted"] <= bound][::-1][:3]
    assert answer.json()["subnets"] == expected
    assert fresh.json()["subnets"][0]["id"] == expected[0]["id"]
    assert "goes from" in is_problem(impossible, 422, "infeasible-budget")["remedy"]


async def test_the_default_front_is_kept_over_a_restart(settings: Settings) -> None:
    async with running(settings) as client:
        before = await finished(client, "/v1/searches/default")
    async with running(settings) as client:
        await asyncio.sleep(0.5)
        assert (await client.get("/v1/searches/default")).json() == before


async def test_an_impossible_budget_says_what_is_possible(settings: Settings) -> None:
    async with running(settings) as client:
        answer = await client.post("/v1/searches", json={"constraints": ["latency_ms<=0.5"]})
    content = is_problem(answer, 422, "infeasible-budget")
    assert content["field"] == "latency_ms"
    assert "The smallest latency_ms found is" in content["remedy"]


@pytest.mark.parametrize(
    ("wanted", "kind", "field"),
    [
        ({"objectives": ["accuracy", "beauty"]}, "invalid-constraint", "objectives"),
        ({"objectives": ["accuracy"]}, "invalid-request", "objectives"),
        ({"constraints": ["macs < 3"]}, "invalid-constraint", "constraints"),
        ({"constraints": ["mb3.colour==2"]}, "invalid-constraint", "constraints"),
        ({"device": "moon"}, "invalid-device", "device"),
        ({"device": "../x"}, "invalid-request", "device"),
        ({"accuracy_metric": "beauty"}, "invalid-request", "accuracy_metric"),
        ({"supernet": "none"}, "invalid-checkpoint", "supernet"),
        ({"seed": -1}, "invalid-request", "seed"),
        ({"evaluations": 10**9}, "invalid-settings", "evaluations"),
        ({"colour": "red"}, "invalid-request", "colour"),
    ],
)
async def test_a_bad_search_names_field_and_remedy(
    settings: Settings, wanted: dict[str, Any], kind: str, field: str
) -> None:
    async with running(settings) as client:
        content = is_problem(await client.post("/v1/searches", json=wanted), 422, kind)
    assert content["field"] == field
    assert content["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/nothing.html", 404, "not-found"),
        ("GET", "/../pyproject.toml", 404, "not-found"),
        ("DELETE", "/v1/searches", 405, "method-not-allowed"),
        ("GET", "/v1/searches/none", 404, "not-found"),
        ("GET", "/v1/searches/none/front", 404, "not-found"),
        ("GET", "/v1/searches/none/events", 404, "not-found"),
        ("POST", "/v1/searches/none:cancel", 404, "not-found"),
        ("GET", "/v1/exports/none", 404, "not-found"),
        ("GET", "/v1/exports/none/file", 404, "not-found"),
        ("GET", "/v1/supernets/none", 404, "not-found"),
        ("GET", "/v1/devices/none", 404, "not-found"),
        ("DELETE", "/v1/devices/none", 404, "not-found"),
        ("GET", "/v1/spaces/none", 404, "not-found"),
    ],
)
async def test_what_is_not_there(settings: Settings, method: str, path: str, status: int, kind: str) -> None:
    async with running(settings) as client:
        is_problem(await client.request(method, path), status, kind)


async def test_bodies_that_make_no_sense(settings: Settings) -> None:
    async with running(settings) as client:
        broken = await client.post("/v1/searches", content=b"{", headers={"content-type": "application/json"})
        text = await client.post("/v1/searches", content=b"{}", headers={"content-type": "text/plain"})
        large = await client.post("/v1/searches", json={"constraints": ["x" * 2_000_000]})

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 50_000

        undeclared = await client.post(
            "/v1/searches", content=chunks(), headers={"content-type": "application/json"}
        )
    is_problem(broken, 422, "invalid-request")
    is_problem(text, 422, "invalid-request")
    is_problem(large, 413, "too-large")
    is_problem(undeclared, 413, "too-large")


async def test_describe_a_subnet(settings: Settings) -> None:
    space = get_space("tiny")
    arch = space.largest()
    forms = ["max", space.id_of(arch), arch.to_json(), space.encode(arch).tolist()]
    async with running(settings) as client:
        answers = [await client.post("/v1/subnets:describe", json={"arch": form}) for form in forms]
        bad = await client.post("/v1/subnets:describe", json={"arch": "tiny-zzzz"})
        path = await client.post("/v1/subnets:describe", json={"arch": "../secret.json"})
    assert all(answer.status_code == 200 for answer in answers)
    assert len({answer.text for answer in answers}) == 1
    described = answers[0].json()
    assert described["macs"] == cost(space, space.encode(arch)[None]).macs[0]
    assert described["predictions"]["latency_ms"]["cpu-1-thread"]["predicted"] > 1
    is_problem(bad, 422, "invalid-arch")
    is_problem(path, 422, "invalid-arch")


async def test_supernets_spaces_and_devices(settings: Settings) -> None:
    async with running(settings) as client:
        supernets = (await client.get("/v1/supernets")).json()["supernets"]
        one = (await client.get("/v1/supernets/tiny-random")).json()
        devices = (await client.get("/v1/devices")).json()["devices"]
        space = (await client.get("/v1/spaces/tiny")).json()
        spaces = (await client.get("/v1/spaces")).json()["spaces"]
    assert supernets == [one]
    assert (one["space"], one["default"], one["provenance"]["seed"]) == ("tiny", True, 0)
    assert [(d["id"], d["default"], d["supernets"]) for d in devices] == [
        ("cpu-1-thread", True, [TINY]),
        ("cpu-2-threads", False, [TINY]),
    ]
    assert space["size"] == get_space("tiny").size
    assert {"tiny", "salnas"} <= set(spaces)


async def test_export_a_subnet(settings: Settings) -> None:
    async with running(settings) as client:
        answer = await client.post("/v1/exports", json={"arch": "min"}, headers={"Idempotency-Key": "e"})
        again = await client.post("/v1/exports", json={"arch": "min"}, headers={"Idempotency-Key": "e"})
        assert answer.status_code == 202, answer.text
        export = await finished(client, answer.headers["location"])
        assert export["state"] == "succeeded", export
        assert again.json()["id"] == export["id"]
        file = await client.get(export["links"]["file"])
        as_search = await client.get(f"/v1/searches/{export['id']}")
        bad = await client.post("/v1/exports", json={"arch": "huge"})
    manifest = export["manifest"]
    assert hashlib.sha256(file.content).hexdigest() == manifest["sha256"]
    assert len(file.content) == manifest["size_bytes"]
    assert manifest["parity_error"] <= 1e-4
    assert f"{export['subnet']}.onnx" in file.headers["content-disposition"]
    session = onnxruntime.InferenceSession(file.content)
    photos = np.zeros((2, 3, 32, 32), session_type(session))
    (maps,) = session.run(None, {session.get_inputs()[0].name: photos})
    assert maps.shape == (2, 32, 32)
    is_problem(as_search, 404, "not-found")
    is_problem(bad, 422, "invalid-arch")


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("onnx", "fp16"),
        ("onnx", "int8"),
        ("torch", "fp32"),
        pytest.param("openvino", "fp16", marks=needs_openvino),
        # What a thread ignores of warnings, another may undo.
        pytest.param("coreml", "fp32", marks=[needs_coreml, pytest.mark.filterwarnings("ignore")]),
    ],
)
async def test_exports_in_other_forms(settings: Settings, tmp_path: Path, form: str, precision: str) -> None:
    for seed in range(3):
        write_photo(tmp_path / "photos" / f"{seed}.png", seed=seed)
    calibrated = replace(settings, photos=str(tmp_path / "photos"))
    async with running(calibrated) as client:
        wanted = {"arch": "min", "format": form, "precision": precision}
        answer = await client.post("/v1/exports", json=wanted)
        assert answer.status_code == 202, answer.text
        export = await finished(client, answer.headers["location"])
        assert export["state"] == "succeeded", export
        file = await client.get(export["links"]["file"])
    assert (export["format"], export["precision"]) == (form, precision)
    assert hashlib.sha256(file.content).hexdigest() == export["manifest"]["sha256"]
    assert export["manifest"]["input"]["shape"] == [1 if form == "coreml" else "batch", 3, 32, 32]
    assert (export["manifest"]["latency_ms"] is None) == (form != "onnx")
    assert (export["manifest"]["parity_error"] is None) == (form == "coreml")
    ending = {
        "onnx": f"-{precision}.onnx",
        "torch": ".pt2",
        "openvino": f"-openvino-{precision}.zip",
        "coreml": "-coreml.zip",
    }[form]
    assert file.headers["content-disposition"].endswith(f'{ending}"')


async def test_exports_that_cannot_be_made(settings: Settings) -> None:
    async with running(settings) as client:
        uncalibrated = await client.post("/v1/exports", json={"arch": "min", "precision": "int8"})
        others = [
            await client.post("/v1/exports", json={"arch": "min", "format": form, "precision": precision})
            for form, precision in (("torch", "fp16"), ("openvino", "int8"), ("coreml", "int8"))
        ]
        unknown = await client.post("/v1/exports", json={"arch": "min", "format": "tflite"})
    for answer in (uncalibrated, *others):
        assert is_problem(answer, 422, "invalid-settings")["field"] == "precision"
    is_problem(unknown, 422, "invalid-request")


@pytest.mark.parametrize(("form", "package"), [("openvino", "openvino"), ("coreml", "coremltools")])
async def test_an_export_whose_package_is_missing_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, form: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    async with running(settings) as client:
        answer = await client.post("/v1/exports", json={"arch": "min", "format": form})
        export = await finished(client, answer.headers["location"])
    assert export["state"] == "failed"
    assert (export["error"]["field"], export["error"]["value"]) == ("package", package)
    assert f"salnas[{form}]" in export["error"]["remedy"]


def session_type(session: Any) -> Any:
    return {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[session.get_inputs()[0].type]


async def test_the_file_of_an_export_that_waits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExportRunner, "run", lambda *_: time.sleep(0.5))
    async with running(settings) as client:
        location = (await client.post("/v1/exports", json={"arch": "min"})).headers["location"]
        is_problem(await client.get(f"{location}/file"), 409, "not-ready")


async def test_a_failed_job_says_why(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ExportError("It differs.", field="arch", value=0.5, remedy="Report it.")

    monkeypatch.setattr(ExportRunner, "run", refuse)
    async with running(settings) as client:
        location = (await client.post("/v1/exports", json={"arch": "min"})).headers["location"]
        export = await finished(client, location)
    assert export["state"] == "failed"
    assert export["error"] == {
        "type": "/problems/export-failed",
        "detail": "It differs.",
        "field": "arch",
        "value": 0.5,
        "remedy": "Report it.",
    }


async def test_the_map_of_a_photo(settings: Settings) -> None:
    files = {"image": ("photo.png", photo((80, 60)))}
    async with running(settings) as client:
        pictures = {
            style: await client.post("/v1/predictions", files=files, data={"arch": "min", "style": style})
            for style in ("overlay", "heat", "grey")
        }
        jpeg = await client.post("/v1/predictions", files=files, headers={"accept": "image/jpeg"})
        numbers = await client.post("/v1/predictions", files=files, headers={"accept": "application/json"})
        small = await client.post(
            "/v1/predictions",
            files=files,
            data={"longest_side": "20"},
            headers={"accept": "application/json"},
        )
    for answer in pictures.values():
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (80, 60)
    assert len({answer.content for answer in pictures.values()}) == 3
    assert jpeg.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(jpeg.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (80, 60))
    found = numbers.json()
    values = np.array(found["values"])
    assert values.shape == (60, 80) == (found["height"], found["width"])
    assert 0 <= values.min() <= values.max() <= 1
    assert values[found["peak"][1], found["peak"][0]] == values.max()
    assert found["photo_size"] == [60, 80]
    assert np.array(small.json()["values"]).shape == (15, 20)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"no image", "invalid-image"),
        (b"", "invalid-image"),
        (photo()[:200], "invalid-image"),
        (bomb(60_000, 60_000), "invalid-image"),
    ],
)
async def test_a_photo_that_is_none(settings: Settings, content: bytes, kind: str) -> None:
    async with running(settings) as client:
        answer = await client.post("/v1/predictions", files={"image": ("photo.png", content)})
    problem = is_problem(answer, 422, kind)
    assert problem["field"] == "image"
    assert problem["remedy"]


async def test_predictions_refuse_what_they_do_not_know(settings: Settings) -> None:
    files = {"image": ("photo.png", photo())}
    async with running(settings) as client:
        none = await client.post("/v1/predictions", data={"arch": "max"})
        arch = await client.post("/v1/predictions", files=files, data={"arch": "../x.json"})
        style = await client.post("/v1/predictions", files=files, data={"style": "neon"})
        large = await client.post("/v1/predictions", files={"image": ("photo.png", b"x" * 300_000)})
    assert is_problem(none, 422, "invalid-request")["field"] == "image"
    is_problem(arch, 422, "invalid-arch")
    assert is_problem(style, 422, "invalid-request")["field"] == "style"
    is_problem(large, 413, "too-large")


async def test_health_and_metrics(settings: Settings) -> None:
    async with running(settings) as client:
        assert (await client.get("/healthz")).json()["status"] == "alive"
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        metrics = (await client.get("/metrics")).text
        named = await client.get("/healthz", headers={"x-request-id": "abc-1"})
        forged = await client.get("/healthz", headers={"x-request-id": "a b\tc"})
    assert 'salnas_http_requests_total{method="GET",route="/healthz",status="200"} 1' in metrics
    assert "salnas_workers 2" in metrics
    rows = [line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, _, value in rows}
    assert values["salnas_workers_wanted"] == 2
    assert values["salnas_queue_limit"] == settings.max_queue
    assert values["salnas_disk_free_bytes"] > 0
    assert values["salnas_oldest_waiting_seconds"] >= 0
    slow = 'salnas_http_request_seconds_bucket{route="/healthz",le="+Inf"}'
    assert values[slow] == 1
    assert named.headers["x-request-id"] == "abc-1"
    assert forged.headers["x-request-id"] != "a b\tc"


async def test_without_its_supernet_the_service_lives_but_is_not_ready(
    settings: Settings, tmp_path: Path
) -> None:
    bare = Settings(results=tmp_path, supernet=TINY, state=tmp_path / "state")
    async with running(bare) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        search = await client.post("/v1/searches", json={})
    assert ready.status_code == 503
    assert "There is no supernet" in ready.json()["checks"]["supernet"]
    is_problem(search, 422, "invalid-checkpoint")


def measured(n: int = 12, factor: float = 3.0) -> bytes:
    """A CSV as the pack's script writes it, of a device `factor` times slower than macs in millions."""
    space = get_space("tiny")
    rows = space.sample(np.random.default_rng(1), 3 * n)
    values = dict(zip(space.ids(rows), factor * (1 + 2 * cost(space, rows).macs / 1e6), strict=True))
    lines = [f"{identity},{value:.4f}" for identity, value in list(values.items())[:n]]
    return "\n".join(["id,latency_ms", *lines]).encode()


def device_form(name: str, content: bytes, **fields: str) -> dict[str, Any]:
    return {"files": {"measurements": ("device.csv", content)}, "data": {"name": name, **fields}}


async def fitted(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    while True:
        device: dict[str, Any] = (await client.get(path)).json()
        if device["state"] != "fitting":
            return device
        await asyncio.sleep(0.05)


async def test_a_device_of_ones_own(settings: Settings) -> None:
    async with running(settings) as client:
        form = device_form("my.Phone", measured(), runtime="ort", threads="4")
        answer = await client.post("/v1/devices", **form)
        assert answer.status_code == 202, answer.text
        device = await fitted(client, answer.headers["location"])
        assert device["state"] == "ready", device
        assert (device["builtin"], device["runtime"], device["threads"]) == (False, "ort", 4)
        assert device["quality"]["spearman"] > 0.9
        listed = (await client.get("/v1/devices")).json()["devices"]
        assert [d["id"] for d in listed] == ["cpu-1-thread", "cpu-2-threads", "my.Phone"]

        described = (await client.post("/v1/subnets:describe", json={"arch": "max"})).json()
        predicted = described["predictions"]["latency_ms"]["my.Phone"]["predicted"]
        assert predicted == pytest.approx(3 * (1 + 2 * described["macs"] / 1e6), rel=0.2)
        job = await searched(client, device="my.Phone", objectives=["accuracy", "latency_ms"])
        front = (await client.get(job["links"]["front"])).json()
        assert front["device"] == "my.Phone"
        both = await searched(client, constraints=[f"latency_ms@my.Phone<={predicted}", "latency_ms<=100"])
        assert both["state"] == "succeeded"

        assert (await client.post("/v1/devices", **form)).json()["state"] == "ready"
        other = await client.post("/v1/devices", **device_form("my.Phone", measured(factor=2.0)))
        is_problem(other, 409, "already-exists")
        taken = await client.post("/v1/devices", **device_form("cpu-1-thread", measured()))
        is_problem(taken, 409, "already-exists")
        builtin = await client.delete("/v1/devices/cpu-1-thread")
        is_problem(builtin, 409, "wrong-state")
        assert (await client.delete("/v1/devices/my.Phone")).status_code == 204
        is_problem(await client.get("/v1/devices/my.Phone"), 404, "not-found")
        gone = await client.post("/v1/searches", json={**QUICK, "device": "my.Phone"})
        is_problem(gone, 422, "invalid-device")


async def test_a_device_has_the_threads_that_its_file_names(settings: Settings) -> None:
    heading, *lines = measured().decode().splitlines()
    content = "\n".join([f"{heading},threads", *(f"{line},2" for line in lines)]).encode()
    async with running(settings) as client:
        answer = await client.post("/v1/devices", **device_form("board", content))
        assert (await fitted(client, answer.headers["location"]))["threads"] == 2
        answer = await client.post("/v1/devices", **device_form("other", content, threads="3"))
        other = await fitted(client, answer.headers["location"])
        assert other["state"] == "failed", other
        mixed = await client.post("/v1/devices", **device_form("mixed", content[:-1] + b"1"))
        assert is_problem(mixed, 422, "invalid-device")["field"] == "threads"


async def test_the_energy_of_a_device_is_searched_for(settings: Settings) -> None:
    heading, *lines = measured().decode().splitlines()
    content = "\n".join(
        [f"{heading},energy_j", *(f"{line},{0.004 * float(line.split(',')[1])}" for line in lines)]
    )
    async with running(settings) as client:
        answer = await client.post("/v1/devices", **device_form("camera", content.encode()))
        device = await fitted(client, answer.headers["location"])
        assert device["state"] == "ready", device
        assert device["energy_quality"]["spearman"] > 0.9
        assert (await client.get("/v1/devices/cpu-1-thread")).json()["energy_quality"] is None

        described = (await client.post("/v1/subnets:describe", json={"arch": "min"})).json()["predictions"]
        least, watts = described["energy_mj"]["camera"]["predicted"], 4.0
        assert least == pytest.approx(watts * described["latency_ms"]["camera"]["predicted"], rel=0.2)
        budget = f"energy_mj<={1.5 * least}"
        asked = {"device": "camera", "objectives": ["accuracy", "energy_mj"], "constraints": [budget]}
        job = await searched(client, **asked)
        front = (await client.get(job["links"]["front"])).json()
        energies = [subnet["energy_mj"]["predicted"] for subnet in front["subnets"]]
        assert front["device"] == "camera"
        assert energies
        assert max(energies) <= 1.5 * least
        assert all(subnet["energy_mj"]["low"] is not None for subnet in front["subnets"])
        everywhere = await searched(client, constraints=[f"energy_mj@camera<={1.5 * least}"])
        assert everywhere["state"] == "succeeded"
        nowhere = await client.post("/v1/searches", json={**QUICK, "objectives": ["accuracy", "energy_mj"]})
        assert "Energy is known on: camera." in is_problem(nowhere, 422, "invalid-device")["remedy"]


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("x", b"", "id"),
        ("x", b"\xff\xfe\x00", "csv"),
        ("x", b"id,latency_ms\nnone,1", "rows"),
        ("x", measured(n=9), "rows"),
        ("../x", measured(), "device"),
        ("x", measured().replace(b"tiny-", b"salnas-"), None),
        ("x", measured().replace(b".", b".-", 1), "latency_ms"),
    ],
)
async def test_measurements_that_make_no_sense(
    settings: Settings, name: str, content: bytes, field: str | None
) -> None:
    async with running(settings) as client:
        answer = await client.post("/v1/devices", **device_form(name, content))
        problem = is_problem(answer, 422, "invalid-device")
        assert problem["remedy"]
        assert field in (None, problem["field"])
        assert len((await client.get("/v1/devices")).json()["devices"]) == 2


async def test_a_device_whose_fit_fails_says_why_and_can_be_corrected(settings: Settings) -> None:
    lines = measured(n=30).decode().splitlines()
    latencies = [line.partition(",")[2] for line in lines[1:]]
    shuffled = np.random.default_rng(0).permutation(latencies)
    mixed = [f"{line.partition(',')[0]},{value}" for line, value in zip(lines[1:], shuffled, strict=True)]
    async with running(settings) as client:
        wrong = await client.post("/v1/devices", **device_form("x", "\n".join([lines[0], *mixed]).encode()))
        device = await fitted(client, wrong.headers["location"])
        assert device["state"] == "failed"
        assert "do not go with the subnets" in device["error"]["detail"]
        right = await client.post("/v1/devices", **device_form("x", measured(n=30)))
        assert (await fitted(client, right.headers["location"]))["state"] == "ready"


async def test_the_pack_that_measures_a_device(settings: Settings) -> None:
    async with running(settings) as client:
        answer = await client.get("/v1/devices/mine/pack", params={"models": 10})
        assert answer.status_code == 200, answer.text
        again = await client.get("/v1/devices/other/pack", params={"models": 10})
    assert again.content == answer.content
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
    assert "measure.py" in names
    assert len(manifest["models"]) == 10


OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}


async def test_with_keys_nothing_is_open_but_health_and_the_document(settings: Settings) -> None:
    async with running(replace(settings, keys="always")) as client:
        document = (await client.get("/openapi.json")).json()
        paths = {path.replace("{search_id}", "default") for path in document["paths"]} - OPEN
        for path in sorted(paths | {"/", "/js/main.js", "/plotly.min.js"}):
            for method in document["paths"].get(path, {"get": None}):
                answer = await client.request(method, path)
                is_problem(answer, 401, "unauthorised")
                assert "Bearer" in answer.headers["www-authenticate"]
        assert (await client.get("/healthz")).status_code == 200


async def test_a_key_opens_what_its_scope_allows(settings: Settings) -> None:
    app = create_app(replace(settings, keys="always"), search_processes=0)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        headers = {}
        for scope in (Scope.READ, Scope.SUBMIT):
            key, text = new_key("test", scope, 1.0)
            app.state.context.store.add_key(key)
            headers[scope] = {"authorization": f"Bearer {text}"}
        assert (await client.get("/v1/searches", headers=headers[Scope.READ])).status_code == 200
        refused = await client.post("/v1/searches", json=QUICK, headers=headers[Scope.READ])
        is_problem(refused, 403, "forbidden")
        answer = await client.post("/v1/searches", json=QUICK, headers=headers[Scope.SUBMIT])
        assert answer.status_code == 202
        assert (await client.get("/", headers=headers[Scope.READ])).status_code == 200


async def test_browsers_are_told_to_be_strict(settings: Settings) -> None:
    async with running(settings) as client:
        page = await client.get("/")
        foreign = await client.post("/v1/searches", json={}, headers={"origin": "http://evil.example"})
        renamed = await client.get("/v1/searches", headers={"host": "evil.example"})
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    is_problem(foreign, 403, "forbidden")
    is_problem(renamed, 403, "forbidden")


async def test_the_api_document_is_complete(settings: Settings) -> None:
    async with running(settings) as client:
        document = (await client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            assert operation.get("description"), (method, path)
    assert "/v1/searches/{search_id}/events" in document["paths"]
    json.dumps(document)
