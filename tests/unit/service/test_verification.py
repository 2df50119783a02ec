"""Verified searches and islands through the workbench and the command line, on a tiny supernet."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search.distributed
from predictors.tables import read_table
from search.executors import InProcess
from search.islands import Ring
from search.record import load_record
from search.verify import Verified
from service.cli import run
from service.workbench import SearchRequest, Verification, Workbench, stored_front
from supernet.data.registry import open_dataset
from supernet.errors import DataError, DeviceError, SettingsError
from supernet.evaluate import evaluate
from supernet.network import extract
from supernet.space import get_space
from tests.fixtures.tiny import TINY, time_here, write_data

SPACE = get_space("tiny")
DEVICE = "cpu-1-thread"
REQUEST = SearchRequest(objectives=("accuracy", "macs"), constraints=("macs<=4e6",), seed=3)


@pytest.fixture(scope="module")
def results(results: Path) -> Path:
    """Its latency was measured on this machine."""
    time_here(results / "predictors" / TINY, DEVICE)
    return results


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_data(tmp_path_factory.mktemp("photos"), 10))


@pytest.fixture(scope="module")
def bench(results: Path) -> Workbench:
    return Workbench.open(results, TINY)


@pytest.fixture(scope="module")
def verified(
    bench: Workbench, photos: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Verified, Path]:
    folder = tmp_path_factory.mktemp("verified")
    return bench.verify(REQUEST, Verification(12, photos, 2), directory=folder), folder


def test_the_front_holds_scores_of_real_evaluations(
    bench: Workbench, verified: tuple[Verified, Path], photos: str
) -> None:
    result, _ = verified
    assert 1 <= result.measurements <= 12
    assert (result.front["macs"] <= 4e6).all()
    training = open_dataset(photos, split="train")
    for identity, measured in zip(result.front["id"], result.front["accuracy"], strict=True):
        whole = evaluate(extract(bench.supernet, SPACE.arch_of_id(identity)), training)
        assert measured == pytest.approx(np.nanmean(whole.columns["cc"][-2:]), abs=1e-6)
    said = bench.estimates.evaluate(bench.rows_of(result.front), ["accuracy"], REQUEST.choice)["accuracy"]
    np.testing.assert_allclose(result.front["accuracy_predicted"], said, rtol=1e-4)


def test_predicted_and_measured_stand_beside_each_other(
    bench: Workbench, verified: tuple[Verified, Path]
) -> None:
    result, folder = verified
    found = bench.front_json(result, REQUEST)
    assert found["measurements"] == result.measurements
    assert found["failures"] == 0
    assert found["rounds"][-1]["measurements"] == result.measurements
    stored = stored_front(load_record(folder))
    for subnets in (found["subnets"], stored["subnets"]):
        for subnet, line in zip(subnets, result.front.itertuples(), strict=True):
            assert subnet["id"] == line.id
            assert subnet["accuracy"]["measured"] == line.accuracy
            assert subnet["accuracy"]["predicted"] == pytest.approx(line.accuracy_predicted)
    first = found["subnets"][0]
    assert first["accuracy"]["low"] < first["accuracy"]["predicted"] < first["accuracy"]["high"]
    assert first["latency_ms"]["measured"] is None
    again = type(bench.front(result, REQUEST)).from_bytes(bench.front(result, REQUEST).to_bytes())
    assert again.subnets() == found["subnets"]
    json.dumps(found, allow_nan=False)


def test_every_measurement_is_kept_with_its_origin(bench: Workbench, verified: tuple[Verified, Path]) -> None:
    result, folder = verified
    table = read_table(folder / "measured-accuracy.parquet")
    assert set(table.ids) == set(result.measured["id"])
    assert table.identity["supernet_fingerprint"] == bench.file.fingerprint
    assert load_record(folder / "predicted").front is not None
    provenance = load_record(folder).manifest.provenance
    assert provenance["verification"]["measurements"] == 12
    assert provenance["request"]["seed"] == 3


def test_it_continues_with_what_was_measured(bench: Workbench, photos: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def die(done: int, most: int) -> None:
        if done == 5:
            raise Killed

    verification = Verification(12, photos, 2)
    with pytest.raises(Killed):
        bench.verify(REQUEST, verification, directory=tmp_path, on_measured=die)
    assert len(read_table(tmp_path / "measured-accuracy.parquet").ids) == 5
    result = bench.verify(REQUEST, verification, directory=tmp_path, resume=True)
    assert result.front.equals(bench.verify(REQUEST, verification).front)
    assert len(read_table(tmp_path / "measured-accuracy.parquet").ids) == result.measurements


def test_latency_is_timed_too(bench: Workbench, photos: str) -> None:
    request = SearchRequest(objectives=("accuracy", "latency_ms", f"latency_ms@{DEVICE}"))
    result = bench.verify(request, Verification(4, photos, 1))
    assert result.measurements == 4
    latency = result.measured["latency_ms"]
    assert (latency > 0).all()
    assert not np.allclose(latency, result.measured["latency_ms_predicted"])
    np.testing.assert_array_equal(latency, result.measured[f"latency_ms@{DEVICE}"])


def test_what_cannot_be_measured_is_told_before_the_search(
    bench: Workbench, photos: str, tmp_path: Path
) -> None:
    elsewhere = SearchRequest(device="cpu-2-threads")
    with pytest.raises(DeviceError, match="cannot be timed"):
        bench.verify(elsewhere, Verification(4, photos, 1), directory=tmp_path / "a")
    exact = SearchRequest(objectives=("macs", "parameters"))
    with pytest.raises(SettingsError, match="nothing to measure"):
        bench.verify(exact, Verification(4, photos, 1))
    with pytest.raises(DataError):
        bench.verify(REQUEST, Verification(4, photos, 1000), directory=tmp_path / "a")
    with pytest.raises(SettingsError, match="budget is 0"):
        bench.verify(REQUEST, Verification(0, photos, 1), directory=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_islands_are_for_our_engine_only(bench: Workbench) -> None:
    with pytest.raises(SettingsError, match="no islands of nsga3"):
        bench.search(SearchRequest(engine="nsga3"), ring=Ring(2))


WORDS = ["search", "-o", "accuracy", "-o", "macs", "-c", "macs<=4e6", "--seed", "3"]


def test_the_command_verifies(
    here: Path, photos: str, verified: tuple[Verified, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--verify", "--measurements", "12", "--data", photos, "--photos", "2", "--out", "front"]
    assert run([*WORDS, *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert [s["id"] for s in found["subnets"]] == verified[0].front["id"].tolist()
    assert found["measurements"] == verified[0].measurements
    assert (here / "front" / "subnets.csv").is_file()
    assert run([*WORDS, *options, "--resume"]) == 0
    shown = capsys.readouterr().out
    assert f"{found['measurements']} subnets measured in" in shown
    assert "*" in shown
    assert run(["front", "show", "front", "--json"]) == 0
    stored = json.loads(capsys.readouterr().out)
    assert [s["accuracy"] for s in stored["subnets"]] == [s["accuracy"] for s in found["subnets"]]


def test_the_command_searches_on_islands(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    @contextmanager
    def executor(**options: Any) -> Iterator[InProcess]:
        asked.append(options)
        yield InProcess()

    monkeypatch.setattr(search.distributed, "RayExecutor", executor)
    assert run([*WORDS, "--islands", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert asked == [{"devices": ("cpu-1-thread", "cpu-2-threads")}]
    assert run([*WORDS, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert found["subnets"] == alone["subnets"], "a space this small is enumerated either way"
    assert run([*WORDS, "--islands", "0", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "islands"


def test_a_search_in_one_process_never_imports_ray(here: Path) -> None:
    script = (
        "import sys; from service.cli import run\n"
        f"assert run({[*WORDS, '--json']!r}) == 0\n"
        "assert not [m for m in sys.modules if m.partition('.')[0] == 'ray']"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
