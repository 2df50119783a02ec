"""The client against a real service."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from service.client import Client, JobFailed, ServiceProblem
from supernet.cost import cost
from supernet.space import get_space
from tests.fixtures.served import served_made_up
from tests.fixtures.tiny import TINY, write_photo


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served_made_up(tmp_path_factory.mktemp("service")) as (found, _):
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as found:
        yield found


def test_a_search_from_beginning_to_end(client: Client, tmp_path: Path) -> None:
    search = client.search(evaluations=600, seed=1)
    kinds = [event["kind"] for event in client.events(search["id"])]
    assert (kinds[0], kinds[-1]) == ("queued", "succeeded")
    done = client.wait(search["id"], seconds=30)
    front = client.front(search["id"])
    assert len(front["subnets"]) == done["result"]["subnets"]
    best = client.front(search["id"], ["resolution==32x32"], k=1)["subnets"]
    assert [s["resolution"] for s in best] == [[32, 32]]
    csv = pd.read_csv(client.front_file(search["id"], tmp_path / "front.csv"))
    parquet = pd.read_parquet(client.front_file(search["id"], tmp_path / "front.parquet"))
    assert csv["id"].tolist() == parquet["id"].tolist() == [s["id"] for s in front["subnets"]]
    assert client.get(search["id"]) == done
    child = client.fork(search["id"], constraints=["resolution==32x32"], effort="quick")
    assert client.wait(child["id"], seconds=30)["parent"] == search["id"]
    assert {search["id"], child["id"]} <= {s["id"] for s in client.searches("succeeded")}


def test_events_go_on_behind_what_one_has(client: Client) -> None:
    search = client.search(evaluations=600, seed=1)
    client.wait(search["id"], seconds=30)
    every = list(client.events(search["id"]))
    assert list(client.events(search["id"], after=2)) == every[2:]
    assert list(client.events(search["id"], after=every[-1]["id"])) == []


def test_the_same_key_finds_the_same_search(client: Client) -> None:
    first = client.search(evaluations=600, key="mine")
    assert client.search(evaluations=600, key="mine")["id"] == first["id"]


def test_questions_about_subnets(client: Client) -> None:
    client.wait("default", seconds=30)
    (best,) = client.query(["macs<=5e6"])
    assert best["macs"] <= 5e6
    assert client.query(["macs<=5e6"], fresh=True)[0]["macs"] <= 5e6
    described = client.describe(best["id"])
    assert described["macs"] == best["macs"]
    assert client.describe(described["arch"])["id"] == best["id"]
    assert client.describe(described["genotype"])["id"] == best["id"]
    assert [s["id"] for s in client.supernets()] == [TINY]
    assert client.space("tiny")["size"] == get_space("tiny").size


def test_maps(client: Client, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.png")
    assert client.predict(photo, "min").startswith(b"\x89PNG")
    assert client.predict(photo.read_bytes(), "min", style="grey").startswith(b"\x89PNG")
    found = client.predict_numbers(photo, "min", longest_side=32)
    assert np.array(found["values"]).shape == (24, 32)


def test_an_export(client: Client, tmp_path: Path) -> None:
    manifest = client.export("min", tmp_path / "net.onnx", precision="fp16")
    content = (tmp_path / "net.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest["sha256"]
    assert manifest["precision"] == "fp16"


def test_a_device(client: Client, tmp_path: Path) -> None:
    assert client.pack(tmp_path / "pack.zip", models=10).read_bytes().startswith(b"PK")
    space = get_space("tiny")
    rows = np.unique(space.sample(np.random.default_rng(0), 12), axis=0)
    latency = 2 + cost(space, rows).macs / 1e6
    lines = [f"{identity},{ms}" for identity, ms in zip(space.ids(rows), latency, strict=True)]
    device = client.register_device("phone", "\n".join(["id,latency_ms", *lines]).encode(), threads=4)
    assert (device["state"], device["threads"]) == ("ready", 4)
    assert "phone" in [d["id"] for d in client.devices()]


def test_problems_are_errors(client: Client) -> None:
    with pytest.raises(ServiceProblem) as caught:
        client.search(constraints=["latency_ms<=0.001"])
    assert (caught.value.kind, caught.value.status, caught.value.field) == (
        "infeasible-budget",
        422,
        "latency_ms",
    )
    assert caught.value.remedy
    with pytest.raises(ServiceProblem) as caught:
        client.get("a/../b c?d#e")
    assert caught.value.kind == "not-found"
    with pytest.raises(ServiceProblem):
        list(client.events("none"))


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        ("cancelled", None, "cancelled"),
        ("failed", {"type": "/problems/infeasible-budget", "detail": "No."}, "infeasible-budget"),
    ],
)
def test_a_job_that_did_not_succeed(state: str, error: dict[str, str] | None, kind: str) -> None:
    job = {"id": "s", "state": state, "error": error}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=job))
    with Client("http://x", transport=transport) as client, pytest.raises(JobFailed) as caught:
        client.wait("s")
    assert caught.value.kind == kind


def test_a_job_that_takes_too_long() -> None:
    job = {"id": "s", "state": "running"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=job))
    with Client("http://x", transport=transport) as client, pytest.raises(TimeoutError):
        client.wait("s", seconds=0.01)


def test_where_there_is_no_service() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ServiceProblem) as caught:
        client.supernets()
    assert caught.value.kind == "unreachable"
    assert "salnas serve" in str(caught.value.remedy)


def test_another_server_is_not_taken_for_the_service() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(404, text="<html>"))
    with Client("http://x", transport=transport) as client, pytest.raises(ServiceProblem) as caught:
        client.supernets()
    assert caught.value.kind == "no-service"


def test_a_service_that_is_busy_for_a_moment_is_asked_again() -> None:
    answers = iter([httpx.Response(503, text=""), httpx.Response(200, json={"devices": []})])
    with Client("http://x", "k", transport=httpx.MockTransport(lambda request: next(answers))) as client:
        assert client.devices() == []


def test_what_cannot_be_repeated_is_not() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ConnectError("gone")

    with Client("http://x", transport=httpx.MockTransport(answer)) as client, pytest.raises(ServiceProblem):
        client.cancel("one")
    assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_events_outlive_a_service_that_is_busy_for_a_moment(status: int) -> None:
    event = "id: {}\nevent: progress\ndata: {{}}\n\n"
    busy = httpx.Response(status, text="")
    answers = [busy, httpx.Response(200, text=event.format(1)), busy]
    answers += [httpx.Response(200, text=event.format(2)), httpx.Response(204)]
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Last-Event-ID"])
        return answers[len(asked) - 1]

    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        assert [found["id"] for found in client.events("one")] == [1, 2]
    assert asked == ["0", "0", "1", "1", "2"]


@pytest.mark.parametrize("status", [404, 500, 503])
def test_events_of_a_service_that_does_not_recover_end(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client._PATIENCE", 0.3)
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=""))
    with Client("http://x", transport=transport) as client, pytest.raises(ServiceProblem) as caught:
        list(client.events("one"))
    assert caught.value.status == status


@pytest.mark.parametrize("sent", ["other bytes", "half of it"])
def test_a_damaged_file_does_not_take_the_place_of_a_good_one(tmp_path: Path, sent: str) -> None:
    content = b"the file"
    manifest = {"sha256": hashlib.sha256(content).hexdigest()}
    job = {"id": "e", "state": "succeeded", "manifest": manifest, "links": {"file": "/file"}, "error": None}
    arriving: bytes | None = content

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield content[:4]
            raise httpx.ReadError("cut")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/file":
            return httpx.Response(200, json=job)
        if arriving is None:
            return httpx.Response(200, stream=Broken())
        return httpx.Response(200, content=arriving)

    target = tmp_path / "net.onnx"
    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        client.export("max", target)
        assert target.read_bytes() == content
        arriving = b"x" if sent == "other bytes" else None
        with pytest.raises(ServiceProblem) as caught:
            client.export("max", target)
        assert caught.value.kind == ("damaged-file" if sent == "other bytes" else "unreachable")
        assert target.read_bytes() == content
        with pytest.raises(ServiceProblem):
            client.export("max", tmp_path / "new.onnx")
    assert list(tmp_path.iterdir()) == [target]
