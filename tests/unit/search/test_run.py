"""Searches from question to front: stop conditions, records, resume, cancelling, engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.engine import Generation, Settings
from search.front import hypervolume
from search.problem import make_problem
from search.record import load_manifest, load_record
from search.run import DEFAULT_STOP, ENGINES, Stop, search
from search.synthetic import additive_space
from supernet.errors import CheckpointError, InfeasibleBudget, InvalidConstraint, SettingsError

SPACE = additive_space(27, 2, 1)


class Killed(Exception):
    pass


def killer(at: int) -> Callable[[Generation], None]:
    def on_generation(generation: Generation) -> None:
        if generation.number == at:
            raise Killed

    return on_generation


def test_the_default_search_is_near_the_exact_front() -> None:
    result = search(SPACE, SPACE)
    problem = make_problem(SPACE, SPACE)
    truth = hypervolume(SPACE.exact_front()[0], problem.reference, problem.scale)
    assert result.hypervolume > 0.999 * truth
    assert result.reason == "stalled_hypervolume"
    assert result.evaluations_per_second == pytest.approx(result.evaluations / result.seconds)
    assert result.knee == result.front["id"][result.front["knee"]].item() == result.pareto.knee
    assert [m.evaluations for m in result.history] == sorted(m.evaluations for m in result.history)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (Stop(evaluations=3000), "evaluations"),
        (Stop(generations=7), "generations"),
        (Stop(seconds=0.1), "seconds"),
        (Stop(stalled_hypervolume=0.01, window=10, evaluations=10**6), "stalled_hypervolume"),
    ],
)
def test_each_stop_condition_ends_a_search(stop: Stop, reason: str) -> None:
    result = search(SPACE, SPACE, stop=stop)
    assert result.reason == reason
    if stop.generations:
        assert result.generations == 7
    if reason == "evaluations":
        assert 3000 <= result.evaluations < 3400


@pytest.mark.parametrize(
    "wrong", [{}, {"evaluations": 0}, {"seconds": -1.0}, {"generations": 5, "window": 0}]
)
def test_nonsense_stops_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Stop(**wrong)


def test_a_small_space_is_enumerated() -> None:
    space = additive_space(7, 2, 0, choices=(2, 3))
    result = search(space, space)
    F, _ = space.exact_front()
    assert result.reason == "enumerated"
    assert result.evaluations == np.prod(space.sizes)
    np.testing.assert_allclose(np.sort(result.front["latency_ms"]), np.sort(F[:, 1]))


def test_a_small_space_under_few_evaluations_is_searched() -> None:
    space = additive_space(10, 2, 0, choices=(3,))
    result = search(space, space, stop=Stop(evaluations=1000))
    assert 1000 <= result.evaluations < 1200


def test_a_search_that_has_nothing_new_to_try_ends() -> None:
    space = additive_space(12, 2, 0, choices=(2,))
    result = search(space, space, stop=Stop(evaluations=4000), settings=Settings(population=3900))
    assert result.reason in ("evaluations", "enumerated", "exhausted")


@pytest.mark.parametrize("at", [0, 3, 11, 19])
@pytest.mark.parametrize("stop", [Stop(evaluations=24_000), Stop(stalled_hypervolume=1e-3, window=20)])
def test_a_killed_search_resumes_to_the_identical_front(tmp_path: Path, at: int, stop: Stop) -> None:
    arguments: dict[str, Any] = {"constraints": ["latency_ms<=4"], "seed": 4, "stop": stop}
    whole = search(SPACE, SPACE, **arguments)
    with pytest.raises(Killed):
        search(SPACE, SPACE, **arguments, directory=tmp_path, save_every=0, on_generation=killer(at))
    assert load_manifest(tmp_path).state == "running"
    assert load_record(tmp_path).front is None
    resumed = search(SPACE, SPACE, **arguments, directory=tmp_path, resume=True)
    pd.testing.assert_frame_equal(resumed.front, whole.front, check_exact=True)
    assert (resumed.generations, resumed.evaluations, resumed.reason) == (
        whole.generations,
        whole.evaluations,
        whole.reason,
    )
    without_time = [(m.generation, m.evaluations, m.hypervolume) for m in resumed.history]
    assert without_time == [(m.generation, m.evaluations, m.hypervolume) for m in whole.history]


def test_a_search_is_stopped_between_its_starts(tmp_path: Path) -> None:
    seen: list[int] = []
    result = search(
        SPACE,
        SPACE,
        constraints=["latency_ms<=4"],
        on_generation=lambda generation: seen.append(generation.evaluations),
        should_stop=lambda: len(seen) == 2,
        directory=tmp_path,
    )
    assert (result.reason, result.generations) == ("stopped", 0)
    assert result.evaluations == seen[-1] < Settings().start_evaluations / 2
    assert len(result.front)
    assert (result.front["latency_ms"] <= 4).all()
    resumed = search(SPACE, SPACE, constraints=["latency_ms<=4"], directory=tmp_path, resume=True)
    whole = search(SPACE, SPACE, constraints=["latency_ms<=4"])
    pd.testing.assert_frame_equal(resumed.front, whole.front, check_exact=True)


def test_a_finished_search_resumes_with_more_to_do(tmp_path: Path) -> None:
    search(SPACE, SPACE, stop=Stop(evaluations=5000), directory=tmp_path)
    longer = search(SPACE, SPACE, stop=Stop(evaluations=10_000), directory=tmp_path, resume=True)
    whole = search(SPACE, SPACE, stop=Stop(evaluations=10_000))
    pd.testing.assert_frame_equal(longer.front, whole.front, check_exact=True)


def test_resuming_with_other_inputs_is_refused(tmp_path: Path) -> None:
    search(SPACE, SPACE, stop=Stop(evaluations=2000), directory=tmp_path)
    with pytest.raises(CheckpointError, match="another seed"):
        search(SPACE, SPACE, stop=Stop(evaluations=4000), directory=tmp_path, resume=True, seed=1)


def test_a_new_search_in_an_old_directory_begins_anew(tmp_path: Path) -> None:
    search(SPACE, SPACE, stop=Stop(evaluations=2000), directory=tmp_path)
    again = search(SPACE, SPACE, stop=Stop(evaluations=4000), directory=tmp_path, seed=1)
    assert load_manifest(tmp_path).seed == 1
    pd.testing.assert_frame_equal(
        again.front, search(SPACE, SPACE, stop=Stop(evaluations=4000), seed=1).front
    )


def test_a_cancelled_search_keeps_its_partial_front(tmp_path: Path) -> None:
    seen: list[int] = []
    result = search(
        SPACE,
        SPACE,
        on_generation=lambda generation: seen.append(generation.number),
        should_stop=lambda: seen[-1] == 5,
        directory=tmp_path,
    )
    assert result.reason == "stopped"
    assert seen == [0] * Settings().starts + [0, 1, 2, 3, 4, 5]
    record = load_record(tmp_path)
    assert record.manifest.state == "stopped"
    assert record.front is not None
    assert len(record.front) == len(result.front) > 0


def test_bad_questions_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="engine"):
        search(SPACE, SPACE, engine="magic", directory=tmp_path / "a")
    with pytest.raises(InvalidConstraint):
        search(SPACE, SPACE, constraints=["bogus<=3"], directory=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_budget_is_refused_with_what_is_possible() -> None:
    with pytest.raises(InfeasibleBudget, match="smallest latency_ms found is 0, the largest"):
        search(SPACE, SPACE, constraints=["latency_ms<=-1"])


def test_an_impossible_budget_in_a_small_space_is_refused_too() -> None:
    space = additive_space(7, 2, 0, choices=(2, 3))
    with pytest.raises(InfeasibleBudget, match="The smallest latency_ms found is"):
        search(space, space, constraints=["latency_ms<=-1"])


def test_a_narrow_feasible_region_is_found() -> None:
    F, _ = SPACE.exact_front()
    point = len(F) // 2
    result = search(
        SPACE,
        SPACE,
        constraints=[f"accuracy>={-F[point, 0] * 0.999}", f"latency_ms<={F[point, 1] * 1.001}"],
    )
    assert len(result.front) >= 1


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "nsga2"])
def test_every_engine_finds_most_of_the_front(engine: str) -> None:
    space = additive_space(15, 2, 2)
    result = search(
        space, space, engine=engine, stop=Stop(evaluations=1800), settings=Settings(population=60)
    )
    problem = make_problem(space, space)
    truth = hypervolume(space.exact_front()[0], problem.reference, problem.scale)
    assert result.hypervolume > 0.95 * truth
    assert 1800 <= result.evaluations <= 1860


def test_the_default_stop_is_the_same_on_every_machine() -> None:
    assert DEFAULT_STOP.seconds is None
