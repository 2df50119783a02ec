"""Verification: measured fronts, budgets, corrections that pay, resuming, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.front import hypervolume
from search.improvement import best_batch
from search.measuring import Measure
from search.problem import FloatArray, IntArray, make_problem
from search.record import load_record
from search.run import Stop, search
from search.synthetic import AdditiveSpace, additive_space
from search.verify import Effort, Round, Verified, verify
from supernet.errors import (
    ExportError,
    InfeasibleBudget,
    InvalidConstraint,
    PredictorError,
    SettingsError,
)

SPACE = additive_space(20, 3, 1)
QUICK = Stop(evaluations=6_000)


def truth(rows: IntArray, space: AdditiveSpace = SPACE) -> dict[str, FloatArray]:
    columns = space(rows)
    return {**columns, "latency_ms": columns["latency_ms"] + 2.0}


class Biased:
    """Predictors that misjudge genes: accuracy by a sum, latency by a factor; macs are exact."""

    def __init__(self, seed: int, size: float, space: AdditiveSpace = SPACE) -> None:
        rng = np.random.default_rng(seed)
        self.space = space
        self.wrong = size * rng.normal(size=(2, len(space.sizes)))

    def __call__(self, rows: IntArray) -> dict[str, FloatArray]:
        off = self.wrong @ (rows / (self.space.sizes - 1)).T
        columns = truth(rows, self.space)
        accuracy, latency = columns["accuracy"] + off[0], columns["latency_ms"] * np.exp(off[1])
        return {**columns, "accuracy": accuracy, "latency_ms": latency}


class Real:
    """The truth as a measurement that counts, and fails or dies where it is told to."""

    def __init__(self, *, dies_at: int | None = None, fails_every: int | None = None) -> None:
        self.asked: list[tuple[int, ...]] = []
        self.dies_at = dies_at
        self.fails_every = fails_every

    def __call__(self, rows: IntArray) -> Mapping[str, FloatArray]:
        if self.dies_at is not None and len(self.asked) >= self.dies_at:
            raise KeyboardInterrupt
        self.asked += [tuple(row) for row in rows.tolist()]
        if self.fails_every and len(self.asked) % self.fails_every == 0:
            raise ExportError("this one fails")
        columns = truth(rows)
        return {name: columns[name] for name in ("accuracy", "latency_ms")}


def measured(real: Real, **about: Any) -> list[Measure]:
    return [Measure(real, ("accuracy", "latency_ms"), **about)]


def run(seed: int = 0, real: Real | None = None, **options: Any) -> Verified:
    options.setdefault("effort", Effort(24, 6, 0.0))
    return verify(SPACE, Biased(seed, 0.05), measured(real or Real()), seed=seed, stop=QUICK, **options)


def test_the_front_is_measured_and_inside_the_budget() -> None:
    bounds = ["latency_ms<=4.5", "macs<=3.2", "accuracy>=1"]
    real = Real()
    result = run(1, real, constraints=bounds)
    front = result.front
    assert len(front) > 3
    assert (front["latency_ms"] <= 4.5).all()
    assert (front["macs"] <= 3.2).all()
    assert (front["accuracy"] >= 1).all()
    rows = result.pareto.rows(SPACE)
    for name, column in truth(rows).items():
        np.testing.assert_array_equal(front[name], column)
    said = Biased(1, 0.05)(rows)
    np.testing.assert_allclose(front["accuracy_predicted"], said["accuracy"])
    np.testing.assert_allclose(front["latency_ms_predicted"], said["latency_ms"])
    assert "macs_predicted" not in front
    assert set(front["id"]) <= set(result.measured["id"])
    assert result.measurements == len(result.measured) == len(real.asked) == len(set(real.asked)) == 24
    assert result.reason == "budget"
    assert result.failures == 0
    assert result.knee in set(front["id"])


def test_rounds_tell_what_was_measured_and_how_wrong_predictions_were() -> None:
    seen: list[Round] = []
    result = run(2, on_round=seen.append)
    assert [replace(r, hypervolume=0.0) for r in seen] == [replace(r, hypervolume=0.0) for r in result.rounds]
    assert [r.measurements for r in seen] == [6, 12, 18, 24]
    volumes = [r.hypervolume for r in result.rounds]
    assert volumes == sorted(volumes)
    assert volumes[-1] == result.hypervolume
    assert [m.hypervolume for m in result.history] == volumes
    assert set(seen[0].error) == {"accuracy", "latency_ms"}


def test_predictions_get_better_with_every_measurement() -> None:
    rounds = [run(seed).rounds for seed in range(6)]
    for name, share in (("accuracy", 0.5), ("latency_ms", 0.2)):
        first, last = (np.mean([r[i].error[name] for r in rounds]) for i in (0, -1))
        assert last < share * first


def test_measuring_pays_against_the_same_number_from_the_predicted_front() -> None:
    better = []
    for seed in range(8):
        predict = Biased(seed, 0.05)
        names = ("accuracy", "latency_ms")
        problem, real = make_problem(SPACE, predict, names), make_problem(SPACE, truth, names)
        found = search(SPACE, predict, objectives=names, seed=seed, stop=QUICK).pareto.rows(SPACE)
        F = problem.minimised(problem.values(found)) / problem.scale
        places, _ = best_batch(
            F[None], np.ones((1, len(F)), bool), np.empty((0, 2)), problem.reference / problem.scale, 24
        )

        def volume(rows: IntArray, real: Any = real) -> float:
            return hypervolume(real.minimised(real.values(rows)), real.reference, real.scale)

        better.append(volume(run(seed).pareto.rows(SPACE)) / volume(found[places]))
    assert np.mean(better) > 1.015
    assert np.mean(np.array(better) > 1.0) >= 0.75


def test_the_same_seed_asks_for_the_same_subnets() -> None:
    first, second, other = Real(), Real(), Real()
    a, b = run(3, first), run(3, second)
    verify(SPACE, Biased(3, 0.05), measured(other), seed=4, stop=QUICK, effort=Effort(6, 6))
    assert first.asked == second.asked
    assert first.asked[:6] != other.asked
    assert a.front.equals(b.front)


@pytest.mark.parametrize("dies_at", [0, 1, 9, 18])
def test_after_a_kill_nothing_is_lost_or_repeated(tmp_path: Path, dies_at: int) -> None:
    whole = Real()
    expected = run(5, whole)
    dying, rest = Real(dies_at=dies_at), Real()
    with pytest.raises(KeyboardInterrupt):
        run(5, dying, directory=tmp_path)
    result = run(5, rest, directory=tmp_path)
    assert dying.asked + rest.asked == whole.asked
    assert result.front.equals(expected.front)
    assert [asdict(r) | {"seconds": 0} for r in result.rounds] == [
        asdict(r) | {"seconds": 0} for r in expected.rounds
    ]


def test_a_record_of_it_is_left(tmp_path: Path) -> None:
    result = run(directory=tmp_path, constraints=["macs<=3"], provenance={"supernet": "s"})
    record = load_record(tmp_path)
    assert record.front is not None
    assert record.front.table.equals(result.front)
    assert record.manifest.engine == "verified"
    assert record.manifest.state == "done"
    assert record.manifest.reason == result.reason
    assert record.manifest.stop["budget"] == 24
    assert record.manifest.provenance["supernet"] == "s"
    assert len(record.manifest.provenance["rounds"]) == len(result.rounds)
    assert (tmp_path / "measured-values.parquet").is_file()


def test_perfect_predictors_make_a_stable_front() -> None:
    result = verify(
        SPACE, truth, measured(Real()), stop=QUICK, effort=Effort(200, 10, 5e-3), objectives=SPACE.names[:2]
    )
    assert result.reason == "stable"
    assert result.measurements < 120
    exact = search(SPACE, truth, objectives=SPACE.names[:2], seed=1)
    assert result.hypervolume > 0.97 * exact.hypervolume


def test_a_small_space_is_measured_to_the_end() -> None:
    space = additive_space(5, 2, 0, choices=(2, 3))
    real = Measure(lambda rows: truth(rows, space), ("accuracy", "latency_ms"))
    result = verify(
        space,
        Biased(0, 0.1, space),
        [real],
        effort=Effort(1000, 8, 0.0),
        objectives=("accuracy", "latency_ms"),
    )
    F, _ = space.exact_front()
    assert result.reason in ("exhausted", "stable")
    np.testing.assert_allclose(np.sort(result.front["latency_ms"]), np.sort(F[:, 1] + 2.0))


def test_failing_subnets_are_left_out() -> None:
    result = run(6, Real(fails_every=5))
    assert result.failures == 4
    assert result.measurements == 24
    assert len(result.measured) == 20
    assert np.isfinite(result.front[["accuracy", "latency_ms"]]).all(axis=None)


def test_nothing_that_can_be_measured_is_an_error() -> None:
    with pytest.raises(PredictorError, match="this one fails"):
        run(6, Real(fails_every=1))


def test_predictors_far_off_are_put_right() -> None:
    """What is measured lies outside of all that was predicted."""

    def hopeful(rows: IntArray) -> dict[str, FloatArray]:
        columns = truth(rows)
        return {**columns, "accuracy": columns["accuracy"] + 50.0, "latency_ms": columns["latency_ms"] / 20.0}

    result = verify(
        SPACE, hopeful, measured(Real()), stop=QUICK, effort=Effort(24, 6, 0.0), objectives=SPACE.names[:2]
    )
    right = verify(
        SPACE, truth, measured(Real()), stop=QUICK, effort=Effort(24, 6, 0.0), objectives=SPACE.names[:2]
    )
    assert result.measurements == 24
    assert result.hypervolume == pytest.approx(right.hypervolume, rel=0.05)


def test_a_budget_that_only_predictions_keep_is_infeasible() -> None:
    class Slow(Real):
        def __call__(self, rows: IntArray) -> Mapping[str, FloatArray]:
            return {**super().__call__(rows), "latency_ms": 30.0 + truth(rows)["latency_ms"]}

    with pytest.raises(InfeasibleBudget, match=r"smallest latency_ms measured is 3\d\.") as caught:
        run(7, Slow(), constraints=["latency_ms<=4"], effort=Effort(12, 6))
    assert caught.value.field == "latency_ms"


def test_a_budget_that_predictions_miss_is_found_by_measuring() -> None:
    """The predictors are optimistic, so what they put first violates; later rounds know better."""

    def optimistic(rows: IntArray) -> dict[str, FloatArray]:
        columns = truth(rows)
        return {**columns, "latency_ms": columns["latency_ms"] * 0.7}

    result = verify(
        SPACE,
        optimistic,
        measured(Real()),
        constraints=["latency_ms<=4"],
        stop=QUICK,
        effort=Effort(32, 8, 0.0),
    )
    assert (result.front["latency_ms"] <= 4).all()
    violating = [r.hypervolume for r in result.rounds]
    assert violating[-1] > 1.05 * violating[0]
    assert result.front["latency_ms"].max() > 3.8


def test_it_can_be_stopped_and_keeps_what_it_has() -> None:
    real = Real()
    result = run(8, real, should_stop=lambda: len(real.asked) >= 9)
    assert result.reason == "stopped"
    assert result.measurements == len(real.asked) == 9
    assert len(result.front) > 0
    nothing = run(8, Real(), should_stop=lambda: True)
    assert nothing.reason == "stopped"
    assert nothing.measurements == len(nothing.front) == 0
    assert nothing.knee is None


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    run(on_measured=lambda done, most: told.append((done, most)))
    assert told == [(i + 1, 24) for i in range(24)]


def test_accuracy_and_latency_may_be_measured_apart(tmp_path: Path) -> None:
    def part(name: str) -> Measure:
        return Measure(lambda rows: {name: truth(rows)[name]}, (name,), name=name, at_once=4)

    parts = [part("accuracy"), part("latency_ms")]
    result = verify(SPACE, Biased(0, 0.05), parts, stop=QUICK, effort=Effort(24, 6, 0.0), directory=tmp_path)
    assert result.front.equals(run(0).front)
    assert {path.name for path in tmp_path.glob("measured-*")} == {
        "measured-accuracy.parquet",
        "measured-latency_ms.parquet",
    }


def test_a_front_found_before_begins_it() -> None:
    predict = Biased(0, 0.05)
    found = search(SPACE, predict, objectives=("accuracy", "latency_ms"), stop=Stop(evaluations=50_000))
    rows = found.pareto.rows(SPACE)
    result = verify(
        SPACE, predict, measured(Real()), warm_start=rows, stop=Stop(generations=1), effort=Effort(8, 8)
    )
    assert set(result.front["id"]) <= set(found.front["id"]) | set(result.measured["id"])
    assert len(set(result.measured["id"]) & set(found.front["id"])) >= 6


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"batch": 0}, {"tolerance": -1.0}, {"tolerance": np.nan}])
def test_nonsense_efforts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Effort(**wrong)


def test_what_is_known_exactly_needs_no_verification() -> None:
    with pytest.raises(SettingsError, match="nothing to measure"):
        verify(
            SPACE,
            lambda rows: {n: truth(rows)[n] for n in ("macs", "latency_ms")},
            [Measure(Real(), ("accuracy",))],
            objectives=("macs", "latency_ms"),
        )


def test_mistakes_and_impossible_budgets_are_told_before_anything_is_measured() -> None:
    real = Real()
    with pytest.raises(InvalidConstraint):
        run(0, real, constraints=["beauty>=3"])
    with pytest.raises(InfeasibleBudget):
        run(0, real, constraints=["latency_ms<=0.1"])
    assert not real.asked
