"""The service as users run it: a process that listens, a worker process, and what happens when they are killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from service.workbench import SearchRequest, Workbench
from tests.fixtures.hollow import HOLLOW, write_hollow_supernet

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
SEARCH = {"objectives": ["max:macs", "parameters", "memory_bytes"], "evaluations": 150_000, "seed": 5}

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
        objectives=tuple(SEARCH["objectives"]),  # type: ignore[arg-type]
        evaluations=SEARCH["evaluations"],  # type: ignore[arg-type]
        seed=SEARCH["seed"],  # type: ignore[arg-type]
    )
    found = Workbench.open(results, HOLLOW).search(request)
    return [str(identity) for identity in found.front["id"]]


@dataclass
class Served:
    """A running service."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path

    def worker(self) -> int:
        """Process id of its search worker."""
        return wait_for(lambda: next(iter(children(self.process.pid)), None))

    def job(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(path).json()
        return found


@contextmanager
def serving(results: Path, state: Path, **settings: str) -> Iterator[Served]:
    """The service on a free port until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    chosen = {
        "results": str(results),
        "state": str(state),
        "supernet": HOLLOW,
        "port": str(port),
        "lease_seconds": "2",
        "save_seconds": "1",
        **settings,
    }
    environment = {f"SALNAS_{name.upper()}": value for name, value in chosen.items()}
    log = state.parent / f"{port}.log"
    code = "from service.main import serve; from service.settings import Settings; serve(Settings.from_environment())"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
            stdout=stream,
            stderr=stream,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        served = Served(process, client, log)
        try:
            wait_for(lambda: answers(client, process))
            yield served
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def answers(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the service ended"
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def wait_for(what: Callable[[], T | None], seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise TimeoutError


def children(parent: int) -> list[int]:
    """Process ids of the living children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def exists(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start_search(served: Served) -> str:
    answer = served.client.post("/v1/searches", json=SEARCH)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def evaluated(served: Served, path: str) -> int:
    progress = served.job(path)["progress"]
    return int(progress["evaluations"]) if progress else 0


def ended(served: Served, path: str) -> dict[str, Any] | None:
    job = served.job(path)
    return job if job["state"] not in ("queued", "running") else None


def front_ids(served: Served, path: str) -> list[str]:
    return [subnet["id"] for subnet in served.client.get(f"{path}/front").json()["subnets"]]


def test_a_search_runs_in_a_process_of_its_own(results: Path, tmp_path: Path, undisturbed: list[str]) -> None:
    with serving(results, tmp_path / "state") as served:
        path = start_search(served)
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
        path = start_search(served)
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
        path = start_search(served)
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


def test_a_killed_service_loses_nothing(results: Path, tmp_path: Path, undisturbed: list[str]) -> None:
    state = tmp_path / "state"
    with serving(results, state) as served:
        path = start_search(served)
        worker = served.worker()
        wait_for(lambda: evaluated(served, path) > 20_000)
        served.process.kill()
        served.process.wait()
        wait_for(lambda: not exists(worker))  # it leaves with its service
    with serving(results, state) as served:
        job = wait_for(lambda: ended(served, path), 120)
        assert job["state"] == "succeeded", job
        assert front_ids(served, path) == undisturbed
