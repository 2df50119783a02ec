"""Verification: a predicted front is measured, the predictors are corrected with the result, the search goes on.

Each round searches among the subnets that are not measured yet, with predictions corrected by what was measured
(`search.correction`). Of what it finds, the batch with the largest expected improvement of the measured front
(`search.improvement`) is measured. The front that is returned consists of measured subnets
only, inside all constraints by measured values.

Everything but the measured values follows from the seed, and measured values are kept in tables
(`search.measuring`). So a verification that died is run again with the same inputs: it asks for the same subnets,
finds them in the tables, and continues where it ended.

Notation: n subnets, d genes, c columns, m objectives; rows (n, d); F (n, m) is minimised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predictors.threads import one_blas_thread
from search.correction import Correction, fit_correction
from search.engine import Generation, Settings, evolve
from search.executors import Executor, InProcess
from search.feasibility import feasible_rows
from search.front import Front, front_table, hypervolume, nondominated
from search.improvement import best_batch
from search.measuring import Asker, MeasuredTable, Measurement
from search.operators import new_rows
from search.problem import Evaluate, FloatArray, IntArray, Objective, Problem, SearchSpace, make_problem
from search.record import (
    Moment,
    new_manifest,
    save_manifest,
)
from search.run import (
    ENUMERABLE,
    SearchResult,
    Stop,
    save_result,
)
from supernet.errors import InfeasibleBudget, SettingsError

ENGINE = "verified"
"""What the record of a verification has for its engine."""

ROUND = Stop(evaluations=60_000, stalled_hypervolume=1e-4)
"""When the search of a round ends."""

PREDICTED = "_predicted"
"""Ending of the columns that hold what the predictors said of a measured column."""

_SCENARIOS = 64
_CANDIDATES = 400


@dataclass(frozen=True)
class Effort:
    """How much is measured: at most `budget` subnets, `batch` of them between two searches.

    The front is stable, which ends it earlier, where neither the last round improved nor the next is expected to
    improve the hypervolume of the measured front by more than `tolerance` of it.
    """

    budget: int = 64
    batch: int = 8
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        for name, value, least in (("budget", self.budget, 1), ("batch", self.batch, 1)):
            if value < least:
                raise SettingsError(
                    f"{name} is {value}.", field=name, value=value, remedy=f"It is at least {least}."
                )
        if not self.tolerance >= 0.0:
            raise SettingsError(
                f"tolerance is {self.tolerance}.",
                field="tolerance",
                value=self.tolerance,
                remedy="It is 0 or above.",
            )


@dataclass(frozen=True)
class Round:
    """What one round of measurements brought.

    `measurements` and `hypervolume` (of the measured front) count everything so far; `expected` is the gain of
    hypervolume that was expected of this round; `error` is by column the mean absolute error of the corrected
    predictions for the subnets of this round, in the unit of the column. Hypervolumes are in the box of
    `search.problem.make_problem` for the predictors as corrected until then; in a result, all are in the last one.
    """

    number: int
    measurements: int
    hypervolume: float
    expected: float
    error: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Verified(SearchResult):
    """A search result whose front was measured.

    Beside each measured column the front has what the predictors said at first, as `<column>_predicted`; `measured`
    holds all measured subnets in that form. `evaluations` counts predictions, `measurements` real evaluations,
    `failures` those of them that failed. `reason` is stable, budget, exhausted (nothing left to measure) or stopped.
    """

    measured: pd.DataFrame
    measurements: int
    failures: int
    rounds: tuple[Round, ...]


def verify(
    space: SearchSpace,
    evaluate: Evaluate,
    measurements: Sequence[Measurement],
    *,
    objectives: Sequence[str | Objective] = ("accuracy", "latency_ms"),
    constraints: Sequence[str] = (),
    seed: int = 0,
    effort: Effort | None = None,
    stop: Stop = ROUND,
    settings: Settings | None = None,
    warm_start: IntArray | None = None,
    executor: Executor | None = None,
    on_round: Callable[[Round], None] | None = None,
    on_measured: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    directory: Path | str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Verified:
    """Search a space for a Pareto front of measured subnets.

    `space`, `evaluate`, `objectives`, `constraints` and `seed` are those of `search.run.search`; columns that no
    measurement gives are taken as exact. Each search ends by `stop`; the first begins with `warm_start` (k, d),
    say a front found before. With `directory` all measured values are kept there, and found again by the same call;
    it ends with a record that `search.record.load_record` reads. `on_measured` is called with the number of
    measurements made and the most there can be, and `should_stop` asked, after each.

    Raises InvalidConstraint, InfeasibleBudget (no subnet is predicted, or none measured, to keep the bounds),
    SettingsError (nothing to measure), PredictorError (no subnet could be measured), DataError (the directory
    holds measurements of something else).
    """
    began = time.perf_counter()
    effort = effort or Effort()
    settings = settings or Settings()
    settings = settings.within(stop.evaluations) if warm_start is None else replace(settings, starts=0)
    problem = make_problem(space, evaluate, objectives, constraints)
    manifest = new_manifest(
        space,
        problem,
        constraints=constraints,
        seed=seed,
        engine=ENGINE,
        settings=asdict(settings),
        stop=asdict(stop) | asdict(effort),
        warm_start=warm_start,
        provenance=provenance,
    )
    tables = [MeasuredTable(space, m, directory) for m in _useful(measurements, problem)]
    if directory is not None:
        save_manifest(directory, manifest)
    asker = Asker(tables, executor or InProcess(), effort.budget, on_measured, should_stop)
    state = _State(
        correct=lambda c: make_problem(space, _corrected(evaluate, c), problem.objectives, constraints),
        known=_Known.nothing(space, problem, asker.columns),
        warm=_first_rows(problem, seed, warm_start),
    )
    while state.reason is None:
        state = _next(state, effort, asker, settings, stop, seed, began)
        if on_round is not None and state.measured:
            on_round(state.rounds[-1])
    if state.reason != "stopped":
        _require_a_front(state.known, asker)
    verified = _verified(state, time.perf_counter() - began)
    if directory is not None:
        rounds = {"rounds": [asdict(r) for r in verified.rounds]}
        save_result(directory, replace(manifest, provenance={**manifest.provenance, **rounds}), verified)
    return verified


@dataclass(frozen=True, eq=False)
class _State:
    """Where a verification stands between two rounds.

    `correct` gives the problem with corrected predictions, `warm` (k, d) begins the next search, `measured` says
    whether the last round measured anything, `reason` why there is no next one.
    """

    correct: Callable[[Correction], Problem]
    known: _Known
    warm: IntArray
    correction: Correction = field(default_factory=Correction)
    rounds: tuple[Round, ...] = ()
    evaluations: int = 0
    measured: bool = False
    reason: str | None = None


def _next(
    state: _State,
    effort: Effort,
    asker: Asker,
    settings: Settings | None,
    stop: Stop,
    seed: int,
    began: float,
) -> _State:
    """One round: search, choose, measure, learn."""
    number = len(state.rounds)
    rng = np.random.default_rng((seed, number))
    problem = state.correct(state.correction)
    known = state.known.in_box_of(problem)
    size = min(effort.batch, effort.budget - len(known.rows))
    if size < 1:
        return replace(state, known=known, measured=False, reason="budget")
    found = _search(_unmeasured(problem, known), settings, stop, int(rng.integers(2**62)), state.warm)
    state = replace(state, known=known, evaluations=state.evaluations + found.evaluations, measured=False)
    rows, expected = _chosen(found, state.correction, known, size, rng)
    if not len(rows):
        return replace(state, reason="exhausted")
    if _is_stable(known, state.rounds, expected, effort.tolerance):
        return replace(state, reason="stable")
    rows = asker.measure(rows)
    reason = "stopped" if asker.stopped else None
    if not len(rows):
        return replace(state, reason=reason)
    known = known.added(rows, asker.values(rows))
    seconds = time.perf_counter() - began
    return replace(
        state,
        known=known,
        warm=np.vstack([found.front.rows, known.rows[known.sound]]),
        correction=known.correction(),
        rounds=(*state.rounds, _report(problem, known, len(rows), expected, number, seconds)),
        measured=True,
        reason=reason,
    )


@dataclass(frozen=True, eq=False)
class _Known:
    """All subnets that were asked for, in that order: rows (n, d), what was predicted of them and what is known of
    them, both (n, c). `names` are the measured columns; of a subnet that could not be measured they are NaN."""

    space: SearchSpace
    problem: Problem
    names: tuple[str, ...]
    rows: IntArray
    predicted: FloatArray
    values: FloatArray

    @classmethod
    def nothing(cls, space: SearchSpace, problem: Problem, measured: Sequence[str]) -> _Known:
        """Before the first round."""
        rows = np.empty((0, len(problem.domain.counts)), dtype=np.int64)
        empty = np.empty((0, len(problem.columns)))
        return cls(space, problem, tuple(n for n in problem.columns if n in measured), rows, empty, empty)

    def added(self, rows: IntArray, measured: Mapping[str, FloatArray]) -> _Known:
        """With more subnets and their measured columns."""
        predicted = self.problem.values(rows)
        values = predicted.copy()
        for name in self.names:
            values[:, self._place(name)] = measured[name]
        return replace(
            self,
            rows=np.vstack([self.rows, rows]),
            predicted=np.vstack([self.predicted, predicted]),
            values=np.vstack([self.values, values]),
        )

    def in_box_of(self, problem: Problem) -> _Known:
        """The same, its hypervolumes in the box of another problem."""
        box = replace(self.problem, reference=problem.reference, scale=problem.scale)
        return replace(self, problem=box)

    def first(self, n: int) -> _Known:
        """The first n subnets."""
        return replace(self, rows=self.rows[:n], predicted=self.predicted[:n], values=self.values[:n])

    @cached_property
    def sound(self) -> NDArray[np.bool_]:
        """(n,) whether everything could be measured."""
        return np.asarray(np.isfinite(self.values).all(axis=1))

    @cached_property
    def best(self) -> IntArray:
        """Indices of the front: measured, feasible by measured values, nondominated."""
        sound: IntArray = np.flatnonzero(self.sound)
        kept: IntArray = sound[self.problem.violations(self.values[sound]) == 0.0]
        if not len(kept):
            return kept
        best: IntArray = kept[nondominated(self.problem.minimised(self.values[kept]))]
        return best

    @cached_property
    def F(self) -> FloatArray:
        """(p, m) objectives of the front, minimised."""
        return self.problem.minimised(self.values[self.best])

    @cached_property
    def hypervolume(self) -> float:
        """Hypervolume of the front in the box of the problem."""
        return hypervolume(self.F, self.problem.reference, self.problem.scale)

    @cached_property
    def hashes(self) -> IntArray:
        """(n,) ascending."""
        hashes: IntArray = np.sort(self.problem.domain.hashes(self.rows))
        return hashes

    def contains(self, rows: IntArray) -> NDArray[np.bool_]:
        """(k, d) → (k,) whether a subnet was asked for."""
        return np.isin(self.problem.domain.hashes(rows), self.hashes)

    def hidden(self, rows: IntArray, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Columns (k,) of subnets (k, d), those that were asked for moved to the worst end of all objectives."""
        found = dict(columns)
        known = np.flatnonzero(self.contains(rows))
        if len(known):
            for objective, worst in zip(self.problem.objectives, self.problem.reference, strict=True):
                column = np.array(found[objective.name], dtype=np.float64)
                column[known] = objective.sign * worst
                found[objective.name] = column
        return found

    def correction(self) -> Correction:
        """What the measurements say about the predictors."""

        def columns(values: FloatArray) -> dict[str, FloatArray]:
            return {name: values[self.sound, self._place(name)] for name in self.names}

        rows = self.rows[self.sound]
        return fit_correction(self.space.sizes, rows, columns(self.predicted), columns(self.values))

    def table(self, subnets: IntArray) -> Front:
        """Some of the subnets as a table, the predictions of measured columns beside them."""
        columns = {name: self.values[subnets, j] for j, name in enumerate(self.problem.columns)}
        said = {name + PREDICTED: self.predicted[subnets, self._place(name)] for name in self.names}
        return front_table(self.space, self.rows[subnets], columns | said, self.problem.objectives)

    def _place(self, name: str) -> int:
        return self.problem.columns.index(name)


def _useful(measurements: Sequence[Measurement], problem: Problem) -> list[Measurement]:
    """The measurements that give a column of the problem; SettingsError where there is none."""
    useful = [m for m in measurements if set(m.columns) & set(problem.columns)]
    if not useful:
        raise SettingsError(
            f"There is nothing to measure: {', '.join(problem.columns)} are known without.",
            field="objectives",
            value=[o.name for o in problem.objectives],
            remedy="Verify a search over accuracy or latency.",
        )
    return useful


def _first_rows(problem: Problem, seed: int, warm_start: IntArray | None) -> IntArray:
    """(k, d) subnets that the first search begins with."""
    if problem.domain.size <= ENUMERABLE:
        rows = problem.domain.all_rows()
        if not (problem.violations(problem.values(rows)) == 0.0).any():
            feasible_rows(problem, seed)
        return rows
    found = feasible_rows(problem, seed) if problem.constraints else problem.domain.extremes()
    return found if warm_start is None else np.vstack([found, warm_start])


def _search(problem: Problem, settings: Settings | None, stop: Stop, seed: int, warm: IntArray) -> Generation:
    """The last generation of one search."""
    began = time.perf_counter()
    history: list[Moment] = []
    for generation in evolve(problem, settings=settings, seed=seed, warm_start=warm):
        if generation.evaluations >= problem.domain.size:
            break
        if stop.wants_moment(generation):
            history.append(Moment(generation.number, generation.evaluations, 0.0, generation.hypervolume))
        if stop.reason(generation, time.perf_counter() - began, history) is not None:
            break
    return generation


def _corrected(evaluate: Evaluate, correction: Correction) -> Evaluate:
    return lambda rows: correction.apply(rows, evaluate(rows))


def _unmeasured(problem: Problem, known: _Known) -> Problem:
    """The problem of what is not measured yet."""
    return replace(problem, evaluate=lambda rows: known.hidden(rows, problem.evaluate(rows)))


@one_blas_thread()
def _chosen(
    found: Generation, correction: Correction, known: _Known, size: int, rng: np.random.Generator
) -> tuple[IntArray, float]:
    """(≤ size, d) subnets to measure, best first, and the gain of hypervolume that is expected of them.

    As long as nothing measured keeps the bounds, subnets that come closest to them fill the batch.
    """
    problem = found.problem
    rows = np.vstack([found.front.rows, found.rows])
    values = np.vstack([found.front.values, found.values])
    fresh = np.flatnonzero(new_rows(problem.domain.hashes(rows), known.hashes))
    if len(fresh) > _CANDIDATES:
        fresh = np.sort(rng.choice(fresh, _CANDIDATES, replace=False))
    rows, values = rows[fresh], values[fresh]
    if not len(rows):
        return rows, 0.0
    scenarios = _scenarios(problem, correction, rows, values, rng)
    F = np.stack([problem.minimised(v) for v in scenarios]) / problem.scale
    feasible = np.stack([problem.violations(v) == 0.0 for v in scenarios])
    places, expected = best_batch(
        F, feasible, known.F / problem.scale, problem.reference / problem.scale, size
    )
    if not len(known.best):
        nearest = np.argsort(problem.violations(values), kind="stable")
        places = np.concatenate([places, nearest[~np.isin(nearest, places)]])[:size]
    return rows[places], expected


def _scenarios(
    problem: Problem,
    correction: Correction,
    rows: IntArray,
    values: FloatArray,
    rng: np.random.Generator,
) -> list[FloatArray]:
    """What might be measured where `values` (k, c) are expected; one scenario while nothing is known of errors."""
    draws = [values.copy() for _ in range(_SCENARIOS if correction.by_column else 1)]
    for name, model in correction.by_column.items():
        j = problem.columns.index(name)
        columns = model.draws(rows, values[:, j], len(draws), rng)
        for draw, column in zip(draws, columns, strict=True):
            draw[:, j] = column
    return draws


def _is_stable(known: _Known, rounds: Sequence[Round], expected: float, tolerance: float) -> bool:
    if len(rounds) < 2 or known.hypervolume <= 0.0:
        return False
    gained = known.hypervolume - known.first(rounds[-2].measurements).hypervolume
    return max(gained, expected) <= tolerance * known.hypervolume


def _report(
    expectation: Problem, known: _Known, latest: int, expected: float, number: int, seconds: float
) -> Round:
    """The round that added the last `latest` subnets, by the problem that it was planned with."""
    rows, values = known.rows[-latest:], known.values[-latest:]
    off = np.abs(expectation.values(rows) - values)[known.sound[-latest:]]
    error = {
        name: float(off[:, known.problem.columns.index(name)].mean()) for name in known.names if len(off)
    }
    return Round(number, len(known.rows), known.hypervolume, expected, error, seconds)


def _require_a_front(known: _Known, asker: Asker) -> None:
    """Raise PredictorError where nothing could be measured, InfeasibleBudget where nothing measured fits."""
    if not known.sound.any():
        raise asker.refusal(known.rows)
    if len(known.best):
        return
    problem, values = known.problem, known.values[known.sound]
    possible = []
    for bound in problem.constraints:
        column = values[:, problem.columns.index(bound.column)]
        best, word = (column.min(), "smallest") if bound.relation == "<=" else (column.max(), "largest")
        possible.append(f"the {word} {bound.column} measured is {best:.6g}")
    raise InfeasibleBudget(
        f"None of {len(values)} measured subnets satisfies {' and '.join(map(str, problem.constraints))}.",
        field=",".join(dict.fromkeys(bound.column for bound in problem.constraints)),
        value=[str(bound) for bound in problem.constraints],
        remedy=f"Relax them: {'; '.join(possible)}.",
    )


def _verified(state: _State, seconds: float) -> Verified:
    known = state.known.in_box_of(state.correct(state.correction))
    rounds = tuple(replace(r, hypervolume=known.first(r.measurements).hypervolume) for r in state.rounds)
    front = known.table(known.best)
    return Verified(
        front=front.table,
        objectives=known.problem.objectives,
        evaluations=state.evaluations,
        generations=len(rounds),
        seconds=seconds,
        hypervolume=known.hypervolume,
        history=tuple(Moment(r.number, r.measurements, r.seconds, r.hypervolume) for r in rounds),
        knee=front.knee,
        reason=state.reason or "",
        measured=known.table(np.flatnonzero(known.sound)).table.drop(columns="knee"),
        measurements=len(known.rows),
        failures=int((~known.sound).sum()),
        rounds=rounds,
    )
