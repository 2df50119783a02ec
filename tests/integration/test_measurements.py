"""Subnets measured over HTTP, those that are named and those that a search finds: real evaluations and timings."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from search.instruments import AccuracyMeter
from search.problem import FloatArray, IntArray
from search.verify import Verified
from service.benches import WorkbenchShelf
from service.cli import run
from service.client import Client, JobFailed, ServiceProblem
from service.errors import QueueFull
from service.jobs import JobKind, JobState
from service.measurements import MOST_SUBNETS, MeasurementRunner, Measurements
from service.runner import SearchRunner
from service.settings import Settings
from service.store.memory import MemoryStore
from service.use_cases import Searches
from service.workbench import SearchRequest, Verification, Workbench
from service.worker import Worker
from supernet.data.registry import open_dataset
from supernet.evaluate import evaluate
from supernet.network import extract
from supernet.space import get_space
from tests.fixtures.made_up import use_made_up_accuracy, write_made_up_results
from tests.fixtures.served import served
from tests.fixtures.tiny import TINY, time_here, write_data

SPACE = get_space("tiny")
HERE, ELSEWHERE = "cpu-1-thread", "cpu-2-threads"
PATH = "/v1/measurements"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_made_up_results(folder)
    time_here(folder / "predictors" / TINY, HERE)
    time_here(folder / "predictors" / TINY, ELSEWHERE, processor="Pocket 3")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Photos where the service looks for OSIE."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "osie", 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALNAS_DATA", str(folder))
        yield folder / "osie"


@pytest.fixture(scope="module")
def address(results: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(results=results, supernet=TINY, state=tmp_path_factory.mktemp("state"))
    with pytest.MonkeyPatch.context() as patch:
        use_made_up_accuracy(patch)
        with served(settings) as (found, _):
            yield found


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as found:
        yield found


def test_accuracy_and_latency_are_measured_beside_their_predictions(
    client: Client, address: str, results: Path, data: Path
) -> None:
    wanted = {"subnets": ["max", "min", "max"], "accuracy": True, "photos": 2, "accuracy_metric": "nss"}
    created = httpx.post(f"{address}{PATH}", json=wanted)
    assert created.status_code == 202, created.text
    location = created.headers["location"]
    assert created.json()["links"]["self"] == location
    assert (created.json()["device"], created.json()["photos"]) == (HERE, 2)
    smallest, largest = SPACE.id_of(SPACE.smallest()), SPACE.id_of(SPACE.largest())
    assert [s["id"] for s in created.json()["subnets"]] == [largest, smallest], "each is measured once"
    found = finished(address, location)
    assert (found["state"], found["error"], found["fraction"]) == ("succeeded", None, 1.0), found
    photos = open_dataset(data, split="train")
    bench = Workbench.open(results, TINY)
    for subnet in found["subnets"]:
        assert set(subnet["scores"]) == {"cc", "nss", "sim", "auc", "kld"}
        assert subnet["accuracy"]["measured"] == subnet["scores"]["nss"]
        described = client.describe(subnet["id"])["predictions"]
        for name, choice in (("accuracy", "nss"), ("latency_ms", HERE)):
            assert {**subnet[name], "measured": None} == {**described[name][choice], "measured": None}
        assert subnet["failure"] is None
    whole = evaluate(extract(bench.supernet, SPACE.smallest()), photos)
    for metric, score in found["subnets"][1]["scores"].items():
        assert score == pytest.approx(np.nanmean(whole.columns[metric][-2:]), abs=1e-5)
    slow, quick = (s["latency_ms"]["measured"] for s in found["subnets"])
    assert slow > quick > 0.2


def test_only_what_was_asked_for_is_measured(client: Client) -> None:
    (subnet,) = client.measure(["min"], accuracy=True, latency=False, photos=1)
    assert subnet["latency_ms"]["measured"] is None
    assert subnet["latency_ms"]["low"] < subnet["latency_ms"]["predicted"] < subnet["latency_ms"]["high"]
    assert set(subnet["scores"]) == {"cc", "nss", "sim", "auc", "kld"}
    (subnet,) = client.measure([SPACE.largest().to_json()])
    assert (subnet["scores"], subnet["accuracy"]["measured"]) == (None, None)
    assert subnet["latency_ms"]["measured"] > 0


def test_one_key_makes_one_measurement(address: str) -> None:
    headers = {"Idempotency-Key": "m1"}
    first = httpx.post(f"{address}{PATH}", json={"subnets": ["min"]}, headers=headers)
    again = httpx.post(f"{address}{PATH}", json={"subnets": ["min"]}, headers=headers)
    other = httpx.post(f"{address}{PATH}", json={"subnets": ["max"]}, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-mismatch")


@pytest.mark.parametrize(
    ("wanted", "kind", "field"),
    [
        ({}, "invalid-request", "subnets"),
        ({"subnets": []}, "invalid-request", "subnets"),
        ({"subnets": ["min"] * (MOST_SUBNETS + 1)}, "invalid-request", "subnets"),
        ({"subnets": ["huge"]}, "invalid-arch", "arch"),
        ({"subnets": ["../x.json"]}, "invalid-arch", "arch"),
        ({"subnets": ["min"], "latency": False}, "invalid-settings", "latency"),
        ({"subnets": ["min"], "accuracy": "yes"}, "invalid-request", "accuracy"),
        ({"subnets": ["min"], "photos": 0}, "invalid-request", "photos"),
        ({"subnets": ["min"], "accuracy_metric": "beauty"}, "invalid-request", "accuracy_metric"),
        ({"subnets": ["min"], "device": "moon"}, "invalid-device", "device"),
        ({"subnets": ["min"], "device": "../x"}, "invalid-request", "device"),
        ({"subnets": ["min"], "supernet": "none"}, "invalid-checkpoint", "supernet"),
        ({"subnets": ["min"], "colour": "red"}, "invalid-request", "colour"),
    ],
)
def test_a_bad_measurement_names_field_and_remedy(
    address: str, wanted: dict[str, Any], kind: str, field: str
) -> None:
    answer = httpx.post(f"{address}{PATH}", json=wanted)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, f"/problems/{kind}"), problem
    assert problem["field"] == field
    assert problem["remedy"]


def test_what_this_machine_cannot_measure_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobFailed, match="is not the device cpu-2-threads") as elsewhere:
        client.measure(["min", "max"], device=ELSEWHERE)
    assert (elsewhere.value.kind, elsewhere.value.field) == ("invalid-device", "device")
    with pytest.raises(JobFailed, match="has 8 photos, not 500") as few:
        client.measure(["min"], accuracy=True, photos=500)
    assert (few.value.kind, few.value.field) == ("invalid-data", "photos")
    monkeypatch.setenv("SALNAS_DATA", "/nowhere")
    with pytest.raises(JobFailed, match="osie is not at") as none:
        client.measure(["min"], accuracy=True)
    assert none.value.remedy is not None
    assert "SALNAS_DATA" in none.value.remedy


def test_a_device_known_by_numbers_alone_is_refused(client: Client) -> None:
    rows = SPACE.sample(np.random.default_rng(1), 40)
    latencies = {
        SPACE.id_of(arch): 1 + 3e-6 * client.describe(SPACE.id_of(arch))["macs"]
        for arch in SPACE.decode_many(rows)
    }
    lines = [f"{name},{value:.4f}" for name, value in list(latencies.items())[:15]]
    client.register_device("phone", "\n".join(["id,latency_ms", *lines]).encode())
    with pytest.raises(ServiceProblem, match="cannot be timed on phone") as refused:
        client.measure(["min"], device="phone")
    assert (refused.value.status, refused.value.kind) == (422, "invalid-device")


def test_nothing_is_loaded_to_accept_a_measurement(results: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from service.benches import WorkbenchShelf\n"
        "from service.measurements import Measurements\n"
        "from service.store.memory import MemoryStore\n"
        f"benches = WorkbenchShelf(Path({str(results)!r}), {TINY!r})\n"
        f"Measurements(MemoryStore(), benches, default_device={HERE!r}).submit(['min'])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_measurement_is_no_search_and_no_export(client: Client, address: str) -> None:
    identity = httpx.post(f"{address}{PATH}", json={"subnets": ["min"]}).json()["id"]
    for other in ("searches", "exports"):
        assert httpx.get(f"{address}/v1/{other}/{identity}").status_code == 404
    missing = httpx.get(f"{address}{PATH}/default-{TINY}")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")


def test_the_api_document_holds_measurements(address: str) -> None:
    paths = httpx.get(f"{address}/openapi.json").json()["paths"]
    assert set(paths[PATH]["post"]["responses"]) >= {"202", "422"}
    assert "get" in paths[f"{PATH}/{{measurement_id}}"]
    assert (
        "verify"
        in httpx.get(f"{address}/openapi.json").json()["components"]["schemas"]["SearchCreate"]["properties"]
    )


# --- what survives a worker -----------------------------------------------------------------------------


class Killed(BaseException):
    """What no worker survives."""


class Scores:
    """The subnets that were evaluated, in order; the one numbered `deadly` kills its worker; each takes `seconds`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        self.deadly: int | None = None
        self.seconds = 0.0
        measure = AccuracyMeter.__call__

        def watched(meter: AccuracyMeter, rows: IntArray) -> dict[str, FloatArray]:
            if len(self.ids) + 1 == self.deadly:
                self.deadly = None
                raise Killed
            self.ids.extend(SPACE.ids(rows))
            time.sleep(self.seconds)
            return measure(meter, rows)

        monkeypatch.setattr(AccuracyMeter, "__call__", watched)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Scores:
    return Scores(monkeypatch)


def later() -> float:
    """When every lease has run out."""
    return time.time() + 60


def test_the_next_worker_measures_only_what_the_dead_one_did_not(
    results: Path, data: Path, scores: Scores
) -> None:
    store, benches = MemoryStore(), WorkbenchShelf(results, TINY)
    rows = SPACE.sample(np.random.default_rng(5), 4)
    measuring = Measurements(store, benches, default_device=HERE, queue=1)
    job, _ = measuring.submit(SPACE.ids(rows), accuracy=True, latency=False, photos=1)
    with pytest.raises(QueueFull):
        measuring.submit(["min"])
    runners = {JobKind.MEASUREMENT: MeasurementRunner(benches)}
    scores.deadly = 3
    with pytest.raises(Killed):
        Worker(store, runners, name="dies").run_one(threading.Event())
    assert store.get(job.id).state is JobState.RUNNING
    progress = store.get(job.id).progress
    assert progress is not None
    assert progress.fraction == 0.5
    Worker(store, runners, name="next", clock=later).run_one(threading.Event())
    done = store.get(job.id)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert scores.ids == SPACE.ids(rows), "none of them twice"
    assert all(subnet["scores"]["cc"] is not None for subnet in done.result["subnets"])
    assert store.blob(job.id, "measured") is None


# --- searches that verify -------------------------------------------------------------------------------

WANTED: dict[str, Any] = {
    "objectives": ["accuracy", "macs"],
    "constraints": ["macs<=4e6"],
    "seed": 3,
    "verify": 8,
}
REQUEST = SearchRequest(objectives=("accuracy", "macs"), constraints=("macs<=4e6",), seed=3)


@pytest.fixture
def few_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches verify on four photos, which takes less time than on eighty."""
    monkeypatch.setattr("service.runner.Verification", partial(Verification, photos=4))


@pytest.fixture(scope="module")
def undisturbed(address: str, results: Path, data: Path) -> Verified:
    """What the search finds that nobody kills or cancels."""
    return Workbench.open(results, TINY).verify(REQUEST, Verification(8, str(data), 4))


@pytest.mark.usefixtures("few_photos")
def test_a_search_measures_what_it_finds(client: Client, undisturbed: Verified, tmp_path: Path) -> None:
    search = client.search(**WANTED)
    assert search["request"]["verify"] == 8
    done = client.wait(search["id"], seconds=60)
    result = done["result"]
    assert (result["measurements"], result["failures"]) == (undisturbed.measurements, 0)
    assert result["rounds"][-1]["measurements"] == result["measurements"]
    assert (done["progress"]["fraction"], done["progress"]["remaining_seconds"]) == (1.0, 0.0)
    front = client.front(search["id"])
    assert result["subnets"] == len(front["subnets"])
    assert [s["id"] for s in front["subnets"]] == undisturbed.front["id"].tolist()
    for subnet, line in zip(front["subnets"], undisturbed.front.itertuples(), strict=True):
        assert subnet["accuracy"]["measured"] == pytest.approx(line.accuracy)
        assert subnet["accuracy"]["predicted"] == pytest.approx(line.accuracy_predicted)
        assert subnet["accuracy"]["low"] < subnet["accuracy"]["predicted"] < subnet["accuracy"]["high"]
        assert subnet["latency_ms"]["measured"] is None
    events = list(client.events(search["id"]))
    told = [event["data"] for event in events if event["kind"] == "measured"]
    assert [data["measured"] for data in told] == list(range(1, result["measurements"] + 1))
    assert {data["most"] for data in told} == {8}
    fractions = [event["data"]["fraction"] for event in events if event["kind"] == "progress"]
    assert fractions == sorted(fractions)
    table = pd.read_csv(client.front_file(search["id"], tmp_path / "front.csv"))
    np.testing.assert_allclose(table["accuracy_measured"], undisturbed.front["accuracy"])


@pytest.mark.usefixtures("few_photos")
def test_a_fork_of_a_verified_search_is_verified(client: Client) -> None:
    parent = client.search(**{**WANTED, "verify": 2})
    client.wait(parent["id"], seconds=60)
    child = client.fork(parent["id"], constraints=["macs<=3e6"])
    assert child["request"]["verify"] == 2
    assert client.wait(child["id"], seconds=60)["result"]["measurements"] == 2
    front = client.front(child["id"])["subnets"]
    assert all(s["accuracy"]["measured"] is not None for s in front)
    assert all(s["macs"] <= 3e6 for s in front)


@pytest.mark.usefixtures("few_photos")
def test_a_cancelled_verification_keeps_what_was_measured_and_goes_on(
    client: Client, undisturbed: Verified, scores: Scores
) -> None:
    scores.seconds = 0.3
    search = client.search(**WANTED)
    for event in client.events(search["id"]):
        if event["kind"] == "measured" and event["data"]["measured"] == 2:
            client.cancel(search["id"])
            break
    with pytest.raises(JobFailed):
        client.wait(search["id"], seconds=60)
    result = client.get(search["id"])["result"]
    assert result["reason"] == "stopped"
    assert 2 <= result["measurements"] == len(scores.ids) < 8
    partial_front = client.front(search["id"])["subnets"]
    assert 0 < len(partial_front) == result["subnets"]
    assert all(s["accuracy"]["measured"] is not None for s in partial_front)
    scores.seconds = 0.0
    client.resume(search["id"])
    done = client.wait(search["id"], seconds=60)
    assert done["result"]["measurements"] == undisturbed.measurements
    assert len(scores.ids) == len(set(scores.ids)) == undisturbed.measurements, "none of them twice"
    assert front_of(client, search) == list(
        undisturbed.front[["id", "accuracy"]].itertuples(index=False, name=None)
    )


def front_of(client: Client, search: dict[str, Any]) -> list[tuple[str, float]]:
    subnets = client.front(search["id"])["subnets"]
    return [(subnet["id"], subnet["accuracy"]["measured"]) for subnet in subnets]


@pytest.mark.usefixtures("few_photos")
def test_the_next_worker_verifies_on(results: Path, undisturbed: Verified, scores: Scores) -> None:
    store, benches = MemoryStore(), WorkbenchShelf(results, TINY)
    searches = Searches(store, benches, default_supernet=TINY)
    job, _ = searches.submit(REQUEST, verify=8)
    runners = {JobKind.SEARCH: SearchRunner(benches)}
    leaving = threading.Event()
    leaving.set()
    Worker(store, runners, name="leaves").run_one(leaving)
    assert (store.get(job.id).state, scores.ids) == (JobState.QUEUED, [])
    assert len(searches.front(job.id)[1]) > 0, "what is predicted so far"
    scores.deadly = 5
    with pytest.raises(Killed):
        Worker(store, runners, name="dies").run_one(threading.Event())
    assert len(scores.ids) == 4
    Worker(store, runners, name="next", clock=later).run_one(threading.Event())
    done = store.get(job.id)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 3)
    assert len(scores.ids) == len(set(scores.ids)) == undisturbed.measurements, "none of them twice"
    table = searches.front(job.id)[1].table
    assert table[["id", "accuracy"]].equals(undisturbed.front[["id", "accuracy"]])
    assert [store.blob(job.id, name) for name in ("state", "manifest", "measured")] == [None] * 3


@pytest.mark.usefixtures("few_photos")
def test_the_command_line_has_a_service_verify(
    address: str,
    data: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SALNAS_RESULTS", str(results))
    monkeypatch.setenv("SALNAS_SUPERNET", TINY)
    words = ["search", "-o", "accuracy", "-o", "macs", "-c", "macs<=4e6", "--seed", "3", "--json"]
    asked = [*words, "--verify", "--measurements", "4"]
    assert run([*asked, "--data", str(data), "--photos", "4"]) == 0
    local = json.loads(capsys.readouterr().out)
    assert run([*asked, "--server", address]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(local) <= set(found)
    for name in ("subnets", "knee", "measurements", "failures", "reason"):
        assert found[name] == local[name]
    assert run([*asked, "--photos", "4", "--server", address]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "photos"


@pytest.mark.parametrize(
    ("wanted", "kind", "field"),
    [
        ({"verify": 0}, "invalid-request", "verify"),
        ({"verify": 201}, "invalid-request", "verify"),
        ({"verify": True}, "invalid-request", "verify"),
        ({"verify": 4, "islands": 2}, "invalid-settings", "verify"),
        ({"verify": 4, "objectives": ["macs", "parameters"]}, "invalid-settings", "verify"),
        ({"verify": 4, "device": "moon"}, "invalid-device", "device"),
    ],
)
def test_a_verification_that_makes_no_sense_names_field_and_remedy(
    address: str, wanted: dict[str, Any], kind: str, field: str
) -> None:
    answer = httpx.post(f"{address}/v1/searches", json=wanted)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, f"/problems/{kind}"), problem
    assert problem["field"] == field
    assert problem["remedy"]


def test_a_search_that_cannot_be_verified_here_says_why(client: Client) -> None:
    few = client.search(evaluations=600, verify=4)
    with pytest.raises(JobFailed, match="has 8 photos, not 80"):
        client.wait(few["id"], seconds=60)
    elsewhere = client.search(evaluations=600, verify=4, device=ELSEWHERE)
    with pytest.raises(JobFailed, match="is not the device cpu-2-threads"):
        client.wait(elsewhere["id"], seconds=60)
    plain = client.search(evaluations=600)
    assert "verify" not in plain["request"], (
        "requests of searches before there was verification read the same"
    )


def finished(address: str, location: str) -> dict[str, Any]:
    """The job when it has ended."""
    while True:
        job: dict[str, Any] = httpx.get(f"{address}{location}").json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.05)
