"""The service as users run it: a process that listens, a worker process, and what happens when they are killed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.workbench import SearchRequest, Workbench
from tests.fixtures.hollow import HOLLOW, write_hollow_supernet
from tests.fixtures.postgresql import postgresql
from tests.fixtures.serving import (
    Served,
    ended,
    evaluated,
    exists,
    front_ids,
    serving,
    start_search,
    wait_for,
)

SEARCH: dict[str, Any] = {
    "objectives": ["max:macs", "parameters", "memory_bytes"],
    "evaluations": 150_000,
    "seed": 5,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_hollow_supernet(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(results: Path) -> list[str]:
    """The front that a search gives when nothing happens to it."""
    request = SearchRequest(
        objectives=tuple(SEARCH["objectives"]), evaluations=SEARCH["evaluations"], seed=SEARCH["seed"]
    )
    found = Workbench.open(results, HOLLOW).search(request)
    return [str(identity) for identity in found.front["id"]]


def test_a_search_runs_in_a_process_of_its_own(results: Path, tmp_path: Path, undisturbed: list[str]) -> None:
    with serving(results, tmp_path / "state") as served:
        path = start_search(served, SEARCH)
        assert served.worker() != served.process.pid
        job = wait_for(lambda: ended(served, path))
        assert job["state"] == "succeeded", job
        assert job["attempts"] == 1
        assert front_ids(served, path) == undisturbed
        page = served.client.get("/")
        assert page.headers["content-type"].startswith("text/html")


def test_a_service_that_is_told_to_end_hands_its_search_back(
    results: Path, tmp_path: Path, undisturbed: list[str]
) -> None:
    state = tmp_path / "state"
    with serving(results, state) as served:
        path = start_search(served, SEARCH)
        worker = served.worker()
        wait_for(lambda: evaluated(served, path) > 20_000)
        lines: list[str] = []
        listener = threading.Thread(target=listen, args=(served, path, lines))
        listener.start()
        wait_for(lambda: lines or None)
        began = time.monotonic()
        served.process.terminate()
        assert served.process.wait(20) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 15
        listener.join(5)
        assert not listener.is_alive(), "the stream of events has ended"
        assert not exists(worker)
    with serving(results, state) as served:
        events = served.client.get(f"{path}/events", params={"page_size": 200}).json()["events"]
        assert "queued" in [event["kind"] for event in events[1:]], "it was handed back, not lost"
        job = wait_for(lambda: ended(served, path))
        assert job["state"] == "succeeded", job
        assert front_ids(served, path) == undisturbed


def listen(served: Served, path: str, lines: list[str]) -> None:
    headers = {"accept": "text/event-stream"}
    with httpx.stream("GET", served.client.base_url.join(f"{path}/events"), headers=headers) as stream:
        for line in stream.iter_lines():
            lines.append(line)


def test_killed_workers_change_nothing(results: Path, tmp_path: Path, undisturbed: list[str]) -> None:
    rng = random.Random(3)
    with serving(results, tmp_path / "state") as served:
        path = start_search(served, SEARCH)
        for _ in range(3):
            kill_the_worker(served, path, rng.uniform(0.0, 1.0))
        job = wait_for(lambda: ended(served, path), 120)
        assert job["state"] == "succeeded", job
        assert job["attempts"] > 1
        assert front_ids(served, path) == undisturbed


def kill_the_worker(served: Served, path: str, pause: float) -> None:
    """Wait until it has done something, and a little longer."""
    before = evaluated(served, path)
    worker = served.worker()
    wait_for(lambda: evaluated(served, path) > before or ended(served, path) is not None)
    time.sleep(pause)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not exists(worker))


def test_two_services_share_the_work_of_one_database(
    results: Path, tmp_path: Path, undisturbed: list[str]
) -> None:
    with (
        postgresql() as url,
        serving(results, tmp_path / "one" / "state", database=url) as one,
        serving(results, tmp_path / "two" / "state", database=url) as two,
    ):
        paths = [start_search(one, SEARCH) for _ in range(4)]
        for path in paths:
            job = wait_for(lambda path=path: ended(two, path), 120)  # type: ignore[misc]
            assert (job["state"], job["attempts"]) == ("succeeded", 1), job
            assert front_ids(one, path) == front_ids(two, path) == undisturbed
        claims = [served.log.read_text().count("job claimed") for served in (one, two)]
    assert min(claims) >= 1, claims
    assert sum(claims) == len(paths), "each search ran once"


def test_a_killed_service_loses_nothing(results: Path, tmp_path: Path, undisturbed: list[str]) -> None:
    state = tmp_path / "state"
    with serving(results, state) as served:
        path = start_search(served, SEARCH)
        worker = served.worker()
        wait_for(lambda: evaluated(served, path) > 20_000)
        served.process.kill()
        served.process.wait()
        wait_for(lambda: not exists(worker))  # it leaves with its service
    with serving(results, state) as served:
        job = wait_for(lambda: ended(served, path), 120)
        assert job["state"] == "succeeded", job
        assert front_ids(served, path) == undisturbed
