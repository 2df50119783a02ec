"""A service and a Ray cluster of two nodes with addresses of their own: one search runs on both."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from search.executors import InProcess
from search.islands import Ring
from service.islands import is_listening
from service.workbench import SearchRequest, Workbench
from tests.fixtures.hollow import HOLLOW, write_hollow_supernet
from tests.fixtures.serving import ROOT, ended, free_port, front_ids, serving, start_search, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
"""On loopback, and not 127.0.0.1, which Ray replaces by an address of the network."""

SEARCH = {
    "objectives": ["max:macs", "parameters", "memory_bytes"],
    "evaluations": 40_000,
    "seed": 5,
    "islands": 2,
}


@contextmanager
def node(environment: dict[str, str], log: Path, *options: str) -> Iterator[None]:
    """A Ray node with one core until the block ends."""
    program = shutil.which("ray", path=Path(sys.executable).parent)
    assert program is not None
    command = [program, "start", "--block", "--num-cpus=1", "--disable-usage-stats", *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a client of the cluster needs in its environment."""
    folder = tmp_path_factory.mktemp("ray")
    address = f"{HEAD}:{free_port()}"
    client = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **client, "OMP_NUM_THREADS": "1"}
    del environment["RAY_ADDRESS"]
    port = address.rpartition(":")[2]
    with ExitStack() as stack:
        options = ["--head", f"--port={port}", f"--node-ip-address={HEAD}", "--include-dashboard=false"]
        stack.enter_context(node(environment, folder / "head", *options))
        try:
            wait_for(lambda: is_listening(address), 60)
        except TimeoutError:
            pytest.fail((folder / "head").read_text())
        options = [f"--address={address}", f"--node-ip-address={OTHER}"]
        stack.enter_context(node(environment, folder / "other", *options))
        yield {**client, "log": str(folder / "other")}


def test_islands_of_one_search_run_on_two_nodes(cluster: dict[str, str], tmp_path: Path) -> None:
    code = f"""
import os, time
from pathlib import Path
import ray
from search.distributed import RayExecutor
from search.engine import Settings
from search.executors import InProcess
from search.islands import Ring, search_islands
from search.run import Stop
from search.synthetic import additive_space

space = additive_space(27, 2, 1)
folder, driver = Path({str(tmp_path)!r}), os.getpid()

def evaluate(rows):
    if os.getpid() != driver:
        (folder / ray.util.get_node_ip_address()).touch()
        time.sleep(0.01)
    return space(rows)

def run(executor):
    return search_islands(space, evaluate, ring=Ring(2, every=10), stop=Stop(generations=50),
                          settings=Settings(population=60), seed=4, executor=executor).front

with RayExecutor() as executor:
    deadline = time.monotonic() + 60
    while executor.workers < 2:
        assert time.monotonic() < deadline, "the second node never came"
        time.sleep(0.2)
    found = run(executor)
assert found.equals(run(InProcess()))
"""
    environment = {**os.environ, **cluster}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:] + Path(cluster["log"]).read_text()[-3000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [HEAD, OTHER]


def test_a_service_joins_the_cluster(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    write_hollow_supernet(tmp_path / "results")
    request = SearchRequest(("max:macs", "parameters", "memory_bytes"), seed=5, evaluations=40_000)
    bench = Workbench.open(tmp_path / "results", HOLLOW)
    expected = bench.search(request, ring=Ring(2), executor=InProcess()).front["id"].tolist()
    with serving(tmp_path / "results", tmp_path / "state", ray="start") as served:
        path = start_search(served, SEARCH)
        job = wait_for(lambda: ended(served, path), 120)
        assert job["state"] == "succeeded", job
        assert front_ids(served, path) == expected
        assert b"Ray is ready" in served.log.read_bytes()


def test_a_service_without_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only searches on islands wait for Ray, and can be cancelled while they do."""
    monkeypatch.setenv("RAY_ADDRESS", f"{HEAD}:{free_port()}")
    write_hollow_supernet(tmp_path / "results")
    with serving(tmp_path / "results", tmp_path / "state", ray="demand") as served:
        plain = start_search(served, {**SEARCH, "islands": None, "evaluations": 2_000})
        assert wait_for(lambda: ended(served, plain))["state"] == "succeeded"
        path = start_search(served, SEARCH)
        wait_for(lambda: served.job(path)["state"] == "running" or None)
        assert served.client.post("/v1/subnets:describe", json={"arch": "max"}).is_success
        assert served.client.post(f"{path}:cancel").is_success
        assert wait_for(lambda: ended(served, path))["state"] == "cancelled"
