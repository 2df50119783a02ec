"""Islands and measurements on a real local Ray: same results as in this process, whatever happens to workers."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path
from socket import ntohl
from typing import Any

import numpy as np
import pytest

from search.distributed import RayExecutor
from search.engine import Generation, Settings
from search.executors import InProcess
from search.islands import Ring, search_islands
from search.measuring import Measure
from search.problem import FloatArray, IntArray
from search.run import SearchResult, Stop
from search.synthetic import additive_space
from search.verify import Effort, verify
from service.workbench import DEFAULT_CHOICE, Workbench
from supernet.errors import DeviceError, InfeasibleBudget, PredictorError
from tests.fixtures.serving import descendants, kill_ray_workers

pytestmark = [
    pytest.mark.slow,
    # Not `importorskip`: an executor sets up the environment before it imports ray.
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "cpu-1-thread"
SPACE = additive_space(27, 2, 1)


@pytest.fixture(scope="session")
def ray_executor() -> Iterator[RayExecutor]:
    with warnings.catch_warnings():
        # Ray starts processes that it does not wait for when it ends.
        warnings.simplefilter("ignore", ResourceWarning)
        with RayExecutor(workers=2, devices=[DEVICE]) as executor:
            yield executor
        gc.collect()


def islands(executor: Any, evaluate: Any = SPACE, **options: Any) -> SearchResult:
    values = {"ring": Ring(2, every=10), "stop": Stop(generations=50), "settings": Settings(population=60)}
    return search_islands(SPACE, evaluate, executor=executor, seed=4, **{**values, **options})


def kill_worker_once(marker: Path) -> None:
    """End this process as `kill -9` does, the first time that any process gets here."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class DeadlyAt:
    """The synthetic predictors; the worker that is asked the n-th time is killed, once."""

    marker: Path
    n: int
    driver: int
    calls: int = 0

    def __call__(self, rows: IntArray) -> dict[str, FloatArray]:
        self.calls += 1
        if os.getpid() != self.driver and self.calls == self.n:
            kill_worker_once(self.marker)
        return SPACE(rows)


def test_islands_on_ray_find_the_front_of_this_process(ray_executor: RayExecutor) -> None:
    assert ray_executor.workers == 2
    assert islands(ray_executor).front.equals(islands(InProcess()).front)


def test_the_predictors_that_ship_travel_to_workers(ray_executor: RayExecutor) -> None:
    bench = Workbench.open(ROOT / "results")
    evaluate = partial(bench.estimates.evaluate, names=("accuracy", "latency_ms"), choice=DEFAULT_CHOICE)
    short: dict[str, Any] = {
        "ring": Ring(2, every=5),
        "stop": Stop(generations=10),
        "settings": Settings(population=60),
    }
    found = [
        search_islands(bench.space, evaluate, executor=at, seed=1, **short)
        for at in (ray_executor, InProcess())
    ]
    assert found[0].front.equals(found[1].front)


@pytest.mark.parametrize("n", [5, 25])
def test_a_killed_worker_changes_nothing(
    ray_executor: RayExecutor, tmp_path: Path, n: int, capfd: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "killed"
    result = islands(ray_executor, DeadlyAt(marker, n, os.getpid()))
    assert marker.exists(), "no worker was killed"
    expected = islands(InProcess())
    assert result.front.equals(expected.front)
    assert result.evaluations == expected.evaluations
    assert capfd.readouterr().out == "", "standard output belongs to the command"


def test_workers_killed_from_outside_change_nothing(ray_executor: RayExecutor) -> None:
    """Every worker gets SIGKILL while the islands are under way."""

    def slow(rows: IntArray) -> dict[str, FloatArray]:
        time.sleep(0.005)
        return SPACE(rows)

    killed: list[int] = []

    def kill_all(generation: Generation) -> None:
        if generation.number == 10:
            threading.Timer(0.1, lambda: killed.extend(kill_ray_workers(os.getpid()))).start()

    result = islands(ray_executor, slow, on_generation=kill_all)
    assert killed, "no worker was killed"
    assert result.front.equals(islands(InProcess()).front)


def test_a_killed_search_resumes_on_ray(ray_executor: RayExecutor, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def die(generation: Generation) -> None:
        if generation.number == 30:
            raise Killed

    with pytest.raises(Killed):
        islands(ray_executor, directory=tmp_path, save_every=0.0, on_generation=die)
    result = islands(ray_executor, directory=tmp_path, resume=True)
    assert result.front.equals(islands(InProcess()).front)


def measure_slowly(rows: IntArray) -> dict[str, FloatArray]:
    time.sleep(0.02)
    return SPACE(rows)


def test_a_verification_survives_a_killed_worker(ray_executor: RayExecutor, tmp_path: Path) -> None:
    marker = tmp_path / "killed"

    def measure(rows: IntArray) -> dict[str, FloatArray]:
        if int(rows.sum()) % 3 == 0:
            kill_worker_once(marker)
        return measure_slowly(rows)

    def run(executor: Any, function: Any, directory: Path | None) -> Any:
        return verify(
            SPACE,
            predicted,
            [Measure(function, ("accuracy", "latency_ms"))],
            executor=executor,
            stop=Stop(evaluations=3_000),
            effort=Effort(16, 8, 0.0),
            directory=directory,
        )

    result = run(ray_executor, measure, tmp_path)
    assert marker.exists(), "no worker was killed"
    assert result.failures == 0
    assert result.front.equals(run(InProcess(), measure_slowly, None).front)


def predicted(rows: IntArray) -> dict[str, FloatArray]:
    columns = SPACE(rows)
    return {**columns, "accuracy": columns["accuracy"] + 0.02 * rows[:, 0]}


def test_a_subnet_that_kills_every_worker_is_given_up(ray_executor: RayExecutor) -> None:
    cursed: list[list[int]] = []

    def measure(rows: IntArray) -> dict[str, FloatArray]:
        if rows.tolist() == cursed:
            os.kill(os.getpid(), signal.SIGKILL)
        return SPACE(rows)

    def run() -> Any:
        return verify(
            SPACE,
            predicted,
            [Measure(measure, ("accuracy", "latency_ms"))],
            executor=ray_executor,
            stop=Stop(evaluations=3_000),
            effort=Effort(6, 6, 0.0),
        )

    whole = run()
    first = whole.measured["id"].iloc[2]
    cursed.append([int(part) for part in first.split("-")])
    result = run()
    assert result.failures == 1
    assert set(whole.measured["id"]) - set(result.measured["id"]) == {first}


@dataclass(frozen=True)
class Timed:
    """Notes when it runs, in a folder that all workers see."""

    folder: Path

    def __call__(self, task: int) -> None:
        began = time.monotonic()
        time.sleep(0.15)
        (self.folder / f"{task}").write_text(f"{began} {time.monotonic()}")

    def overlaps(self) -> int:
        spans = sorted(tuple(map(float, p.read_text().split())) for p in self.folder.iterdir())
        return sum(a[1] > b[0] for a, b in pairwise(spans))


def test_one_subnet_is_timed_at_a_time(ray_executor: RayExecutor, tmp_path: Path) -> None:
    alone, beside = Timed(tmp_path / "alone"), Timed(tmp_path / "beside")
    alone.folder.mkdir()
    beside.folder.mkdir()
    assert sorted(i for i, _ in ray_executor.run(alone, range(4), device=DEVICE)) == [0, 1, 2, 3]
    assert alone.overlaps() == 0
    for _ in range(20):  # the second worker may still be starting
        list(ray_executor.run(beside, range(8)))
        if beside.overlaps():
            return
    pytest.fail("without a device nothing ran side by side, so the test above proves nothing")


def test_a_device_that_no_machine_has_is_told(ray_executor: RayExecutor) -> None:
    with pytest.raises(DeviceError, match="pi4") as caught:
        list(ray_executor.run(abs, [1], device="pi4"))
    assert DEVICE in str(caught.value.remedy)


def test_errors_travel_whole(ray_executor: RayExecutor) -> None:
    def refuse(task: int) -> None:
        raise InfeasibleBudget("Too small.", field="macs", value=task, remedy="Take more.")

    with pytest.raises(InfeasibleBudget, match="Too small") as caught:
        list(ray_executor.run(refuse, [7]))
    error = caught.value
    assert (error.field, error.value, error.remedy) == ("macs", 7, "Take more.")


def test_an_error_of_the_predictors_ends_the_search(ray_executor: RayExecutor) -> None:
    driver = os.getpid()

    def broken(rows: IntArray) -> dict[str, FloatArray]:
        columns = SPACE(rows)
        return {**columns, "accuracy": columns["accuracy"] * (1 if os.getpid() == driver else np.nan)}

    with pytest.raises(PredictorError, match="accuracy"):
        islands(ray_executor, broken)


def test_what_waits_is_dropped_when_nobody_listens(ray_executor: RayExecutor, tmp_path: Path) -> None:
    timed = Timed(tmp_path)
    results = ray_executor.run(timed, range(40))
    next(results)
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.5)
    left = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert left < 10
    assert len(list(tmp_path.iterdir())) == left


def test_a_cluster_is_joined_by_its_address(ray_executor: RayExecutor) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    code = (
        "import sys; from tests.integration.test_distributed import *\n"
        f"with RayExecutor(address={address!r}) as executor:\n"
        "    assert executor.workers == 2\n"
        "    print(*islands(executor).front['id'])\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == islands(InProcess()).front["id"].tolist()


def test_ray_listens_on_loopback_only(ray_executor: RayExecutor) -> None:
    list(ray_executor.run(abs, [1, 2]))
    listening = listening_addresses(descendants(os.getpid()))
    assert len(listening) >= 3, "gcs, raylet and workers listen"
    assert [str(address) for address in listening if not address.is_loopback] == []


def listening_addresses(pids: list[int]) -> list[IPv4Address | IPv6Address]:
    """The addresses on which the processes accept TCP connections, an IPv4 one within IPv6 as itself."""
    sockets = set()
    for pid in pids:
        try:
            sockets |= {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                words = fields[1].partition(":")[0]
                parts = [ntohl(int(words[i : i + 8], 16)) for i in range(0, len(words), 8)]
                address = ip_address(b"".join(part.to_bytes(4, "big") for part in parts))
                found.append(getattr(address, "ipv4_mapped", None) or address)
    return found
