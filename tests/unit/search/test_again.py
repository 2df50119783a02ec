"""A recorded search of any engine runs again to the identical front."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.again import Again, run_again
from search.engine import Settings
from search.executors import InProcess
from search.islands import Ring, search_islands
from search.measuring import Measure
from search.problem import FloatArray, IntArray
from search.record import load_record
from search.run import Stop, search
from search.synthetic import additive_space
from search.verify import Effort, verify
from supernet.errors import CheckpointError

SPACE = additive_space(20, 2, 1)
SMALL = Settings(population=50)
STOPS = (
    Stop(seconds=1e-9),
    Stop(seconds=0.3),
    Stop(evaluations=3_000),
    Stop(stalled_hypervolume=1e-2, window=10),
)


def assert_identical(again: Again, directory: Path) -> None:
    recorded = load_record(directory).front
    assert recorded is not None
    assert again.identical
    assert again.differences == {}
    assert again.result.front.equals(recorded.table)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("engine", ["nsga2", "pymoo-nsga2"])
def test_however_it_ended(tmp_path: Path, engine: str, stop: Stop) -> None:
    search(
        SPACE,
        SPACE,
        constraints=["latency_ms<=3", "gene0!=1"] if engine == "nsga2" else [],
        stop=stop,
        settings=SMALL,
        engine=engine,
        warm_start=SPACE.exact_front()[1][:5],
        directory=tmp_path / "run",
    )
    again = run_again(tmp_path / "run", SPACE, SPACE, out=tmp_path / "again")
    assert_identical(again, tmp_path / "run")
    assert_identical(again, tmp_path / "again")
    assert_identical(run_again(tmp_path / "again", SPACE, SPACE), tmp_path / "run")


def test_a_small_space_that_was_not_enumerated_is_not_now(tmp_path: Path) -> None:
    space = additive_space(8, 2, 0, choices=(2, 3))
    result = search(
        space, space, stop=Stop(evaluations=200), settings=Settings(population=20), directory=tmp_path
    )
    assert result.reason == "evaluations"
    again = run_again(tmp_path, space, space)
    assert again.identical
    assert again.result.evaluations == result.evaluations


@pytest.mark.parametrize("stop", STOPS)
def test_islands(tmp_path: Path, stop: Stop) -> None:
    search_islands(
        SPACE,
        SPACE,
        ring=Ring(3, every=7, migrants=4),
        executor=InProcess(),
        stop=stop,
        settings=SMALL,
        seed=3,
        directory=tmp_path,
    )
    assert_identical(run_again(tmp_path, SPACE, SPACE), tmp_path)


def test_a_verification_is_not_measured_again(tmp_path: Path) -> None:
    asked: list[int] = []
    rng = np.random.default_rng(0)

    def measure(rows: IntArray) -> Mapping[str, FloatArray]:
        asked.append(len(rows))
        columns = SPACE(rows)
        return {**columns, "latency_ms": columns["latency_ms"] * (1.1 + 0.02 * rng.random(len(rows)))}

    meters = [Measure(measure, ("accuracy", "latency_ms"))]
    verify(
        SPACE,
        SPACE,
        meters,
        stop=Stop(evaluations=3_000),
        effort=Effort(12, 4, 0.0),
        settings=SMALL,
        warm_start=SPACE.exact_front()[1][:5],
        directory=tmp_path / "run",
    )
    assert len(asked) == 12
    again = run_again(tmp_path / "run", SPACE, SPACE, measurements=meters)
    assert_identical(again, tmp_path / "run")
    assert len(asked) == 12, "measured values come from the record"


def test_other_predictors_and_other_versions_are_told(tmp_path: Path) -> None:
    search(SPACE, SPACE, stop=Stop(evaluations=1_000), directory=tmp_path)
    path = tmp_path / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text())
    manifest["versions"]["numpy"] = "1.0"
    path.write_text(json.dumps(manifest))

    def other(rows: IntArray) -> dict[str, FloatArray]:
        return {**SPACE(rows), "accuracy": SPACE(rows)["accuracy"] + 0.1 * rows[:, 0]}

    again = run_again(tmp_path, SPACE, other)
    assert not again.identical
    assert again.differences == {"numpy": ("1.0", np.__version__)}


def test_another_space_and_an_unfinished_search_are_refused(tmp_path: Path) -> None:
    search(SPACE, SPACE, stop=Stop(evaluations=1_000), directory=tmp_path)
    other = additive_space(9, 2, 1)
    object.__setattr__(other, "fingerprint", "other")
    with pytest.raises(CheckpointError, match="of space"):
        run_again(tmp_path, other, other)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "front_sha256": None}))
    with pytest.raises(CheckpointError, match="not finished"):
        run_again(tmp_path, SPACE, SPACE)


def test_a_verification_that_was_stopped_is_refused(tmp_path: Path) -> None:
    meters = [Measure(SPACE, ("accuracy", "latency_ms"))]
    verify(
        SPACE,
        SPACE,
        meters,
        stop=Stop(evaluations=1_000),
        effort=Effort(8, 4, 0.0),
        should_stop=lambda: True,
        directory=tmp_path,
    )
    with pytest.raises(CheckpointError, match="stopped half-way"):
        run_again(tmp_path, SPACE, SPACE, measurements=meters)
