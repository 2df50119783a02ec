"""NSGA-II on integer arrays: a generator of generations, each an immutable value that can be resumed from.

Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", with constrained domination.
Beside the population an archive keeps the nondominated feasible subnets of the whole run; it is the result.
A share of the children descends from neighbours in the archive: a population of a few hundred cannot cover a
front of thousands, and parents that are close on the front have children close to it.

A population soon gathers around one kind of subnet (one resolution, say) and then hardly leaves it. So generation 0
is the best of several short runs from different random rows, which together find the kinds worth going on with. Where
columns are bounded, most of these runs ignore the bounds: the way to the best subnets inside a budget often leads
through some outside, and a search that never leaves the budget ends at others.

Notation as in `search.problem`; N population, a archive size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np

from search.archive import Archive, Scored
from search.front import crowding_distances, hypervolume, pareto_ranks
from search.operators import crossover, first_of_each, initial_rows, mutate, mutate_once, new_rows
from search.problem import FloatArray, IntArray, Problem
from supernet.errors import CheckpointError, SettingsError
from supernet.files import atomic_path

_STATE_FORMAT = 1
_SHORTEST_START = 4
"""Generations under which a start says nothing."""


@dataclass(frozen=True)
class Settings:
    """How NSGA-II varies and selects.

    `mutation_rate` is the average number of changed genes in a child, `step_share` the share of changes that
    move one step along the ordered choices, `archive` the most nondominated subnets kept, `archive_share` the
    share of children whose parents come from there (0 is NSGA-II as published), `neighbours` the number of
    candidates of which the one closest to the first parent becomes the second. Before generation 0 come `starts`
    runs of `start_generations` each (`starts` 0: random rows, as published); a space that they could exhaust has
    none. With bounds on columns half of the starts ignore them, one keeps them, and what the others would take goes
    into carrying on the first half together.
    """

    population: int = 400
    crossover: float = 0.9
    mutation_rate: float = 1.0
    step_share: float = 0.5
    archive: int = 10_000
    archive_share: float = 0.5
    neighbours: int = 16
    starts: int = 6
    start_generations: int = 20

    def __post_init__(self) -> None:
        _require("population", self.population, 4 <= self.population <= 100_000, "4 to 100000")
        _require("crossover", self.crossover, 0.0 <= self.crossover <= 1.0, "0 to 1")
        _require("mutation_rate", self.mutation_rate, self.mutation_rate > 0.0, "above 0")
        _require("step_share", self.step_share, 0.0 <= self.step_share <= 1.0, "0 to 1")
        _require("archive", self.archive, self.archive >= 1, "at least 1")
        _require("archive_share", self.archive_share, 0.0 <= self.archive_share <= 1.0, "0 to 1")
        _require("neighbours", self.neighbours, self.neighbours >= 1, "at least 1")
        _require("starts", self.starts, 0 <= self.starts <= 1000, "0 to 1000")
        _require("start_generations", self.start_generations, self.start_generations >= 1, "at least 1")

    @property
    def start_evaluations(self) -> int:
        """Most evaluations before generation 0, beside the warm start."""
        return self.starts * self.start_generations * self.population

    def within(self, evaluations: int | None, generations: int | None = None) -> Settings:
        """Settings whose starts take half of so many evaluations or generations at most; None is no limit."""
        if generations is not None:
            evaluations = min(evaluations or self.population * generations, self.population * generations)
        if evaluations is None or 2 * self.start_evaluations <= evaluations:
            return self
        generations = evaluations // (2 * self.starts * self.population)
        if generations < _SHORTEST_START:
            return replace(self, starts=0)
        return replace(self, start_generations=generations)


@dataclass(frozen=True)
class Generation:
    """The state of a search after generation `number`; all that the next one depends on.

    The population is sorted, best first (rank, then crowding). A `preliminary` one is what the starts have found so
    far: to be looked at, not to go on from.
    """

    problem: Problem
    settings: Settings
    number: int
    evaluations: int
    rows: IntArray  # (N, d)
    values: FloatArray  # (N, c)
    ranks: IntArray  # (N,)
    crowding: FloatArray  # (N,)
    archive: Archive
    random_state: dict[str, Any]  # of the bit generator, plain data
    preliminary: bool = False

    @cached_property
    def F(self) -> FloatArray:
        """(N, m) objectives of the population, minimised."""
        return self.problem.minimised(self.values)

    @cached_property
    def violations(self) -> FloatArray:
        """(N,) total relative violation of the population, 0 = feasible."""
        return self.problem.violations(self.values)

    @property
    def front(self) -> Scored:
        """The nondominated feasible subnets of the run so far."""
        return self.archive.merged.kept

    @cached_property
    def hypervolume(self) -> float:
        """Hypervolume of the front so far in the box of the problem."""
        return hypervolume(self.front.F, self.problem.reference, self.problem.scale)

    def columns(self) -> dict[str, FloatArray]:
        """Name → (N,) values of the population."""
        return {name: self.values[:, j] for j, name in enumerate(self.problem.columns)}

    def save(self, path: Path | str) -> None:
        """Write the state, without the problem, as one npz file of arrays and JSON; whole or not at all."""
        meta = {
            "format": _STATE_FORMAT,
            "columns": self.problem.columns,
            "settings": asdict(self.settings),
            "number": self.number,
            "evaluations": self.evaluations,
            "random_state": self.random_state,
        }
        kept, recent = self.archive.kept, self.archive.recent
        arrays = {
            "rows": self.rows,
            "values": self.values,
            "ranks": self.ranks,
            "crowding": self.crowding,
            "kept_rows": kept.rows,
            "kept_values": kept.values,
            "recent_rows": np.concatenate([kept.rows[:0], *(scored.rows for scored in recent)]),
            "recent_values": np.concatenate([kept.values[:0], *(scored.values for scored in recent)]),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)

    @classmethod
    def load(cls, path: Path | str, problem: Problem) -> Generation:
        """Read a state back for the same problem; CheckpointError where it is corrupt or of another one."""
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                meta = json.loads(str(stored["meta"]))
                arrays = {name: stored[name] for name in stored.files if name != "meta"}
            if meta["format"] != _STATE_FORMAT:
                raise ValueError(f"format {meta['format']}")
            _require_fit(path, problem, meta["columns"], arrays)
            settings = Settings(**meta["settings"])
            kept = _scored(problem, arrays["kept_rows"], arrays["kept_values"])
            recent = _scored(problem, arrays["recent_rows"], arrays["recent_values"])
            return cls(
                problem=problem,
                settings=settings,
                number=meta["number"],
                evaluations=meta["evaluations"],
                rows=arrays["rows"],
                values=arrays["values"],
                ranks=arrays["ranks"],
                crowding=arrays["crowding"],
                archive=Archive(settings.archive, kept, (recent,) if len(recent.rows) else ()),
                random_state=meta["random_state"],
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise CheckpointError(
                f"{path} is not the state of a search: {error}.",
                field="state",
                value=str(path),
                remedy="Delete it to start again.",
            ) from error


def _require_fit(path: Path | str, problem: Problem, columns: list[str], arrays: dict[str, Any]) -> None:
    domain = problem.domain
    same_shape = all(
        arrays[f"{name}rows"].shape[1] == len(domain.counts)
        and arrays[f"{name}values"].shape[1] == len(problem.columns)
        for name in ("", "kept_", "recent_")
    )
    if tuple(columns) != problem.columns or not same_shape or not domain.contains(arrays["rows"]).all():
        raise CheckpointError(
            f"{path} is the state of a search in another space or over other columns.",
            field="state",
            value=str(path),
            remedy="Resume with the space, objectives and constraints of its manifest.",
        )


def _scored(problem: Problem, rows: IntArray, values: FloatArray) -> Scored:
    return Scored(rows, values, problem.minimised(values))


def evolve(
    problem: Problem,
    *,
    settings: Settings | None = None,
    seed: int = 0,
    warm_start: IntArray | None = None,
    start: Generation | None = None,
    preliminary: bool = False,
) -> Iterator[Generation]:
    """Yield generations without end; the caller stops.

    From `seed`: generation 0 is the best that several starts found, the first of them from `warm_start` (n, d),
    repaired into the domain, and random rows, the others from random rows. With `preliminary` what they have found
    is yielded before it, after each of them.
    From `start`: continues with the next generation exactly as the run that made it (its settings and random
    state hold; `seed` and `warm_start` are ignored). The same arguments always give the same generations.
    """
    if start is None:
        rng = np.random.default_rng(seed)
        for generation in _beginning(problem, settings or Settings(), rng, warm_start):
            if preliminary or not generation.preliminary:
                yield generation
    else:
        generation, rng = start, _generator(start.random_state)
    while True:
        generation = _next(generation, rng)
        yield generation


def first_rows(
    problem: Problem, settings: Settings, rng: np.random.Generator, warm_start: IntArray | None = None
) -> IntArray:
    """(n, d) different rows to begin with: `warm_start`, repaired into the domain, then random ones.

    Beside the warm start there are as many as the population, or less in a small space.
    """
    rows = initial_rows(problem.domain, rng, settings.population)
    if warm_start is not None and len(warm_start):
        rows = np.vstack([problem.domain.nearest(np.asarray(warm_start, dtype=np.int64)), rows])
    return rows[first_of_each(problem.domain.hashes(rows))]


def _beginning(
    problem: Problem, settings: Settings, rng: np.random.Generator, warm_start: IntArray | None
) -> Iterator[Generation]:
    """Generation 0, after preliminary ones where there are starts."""
    if not settings.starts or problem.domain.size <= settings.start_evaluations:
        yield _without_starts(problem, settings, rng, warm_start)
        return
    alone = replace(settings, starts=0)
    ended: list[Generation] = []
    for number in range(1 if problem.constraints else settings.starts):
        ended.append(_after_start(problem, alone, rng, warm_start if number == 0 else None))
        merged = _merged(problem, settings, ended, rng)
        yield replace(merged, preliminary=True)
    if problem.constraints and settings.starts > 1:
        for free in _without_bounds(problem, settings, rng):
            merged = _merged(problem, settings, [*ended, free], rng)
            yield replace(merged, preliminary=True)
    yield merged


def _without_bounds(problem: Problem, settings: Settings, rng: np.random.Generator) -> Iterator[Generation]:
    """A search that ignores the bounds: half of the starts, then together for as long as all others but one take."""
    several = settings.starts // 2
    free = replace(problem, constraints=())
    for generation in _beginning(free, replace(settings, starts=several), rng, None):
        yield generation
    for _ in range(settings.starts - several - 1):
        for _ in range(settings.start_generations):
            generation = _next(generation, rng)
        yield generation


def _merged(
    problem: Problem, settings: Settings, ended: list[Generation], rng: np.random.Generator
) -> Generation:
    """Generation 0 from the ends of several runs."""
    rows = np.vstack([part for end in ended for part in (end.rows, end.front.rows)])
    values = np.vstack([part for end in ended for part in (end.values, end.front.values)])
    once = first_of_each(problem.domain.hashes(rows))
    spent = sum(end.evaluations for end in ended)
    return _generation_zero(problem, settings, rows[once], values[once], spent, rng)


def _without_starts(
    problem: Problem, settings: Settings, rng: np.random.Generator, warm_start: IntArray | None
) -> Generation:
    rows = first_rows(problem, settings, rng, warm_start)
    return _generation_zero(problem, settings, rows, problem.values(rows), len(rows), rng)


def _after_start(
    problem: Problem, alone: Settings, rng: np.random.Generator, warm_start: IntArray | None
) -> Generation:
    generation = _without_starts(problem, alone, rng, warm_start)
    for _ in range(alone.start_generations - 1):
        generation = _next(generation, rng)
    return generation


def _generation_zero(
    problem: Problem,
    settings: Settings,
    rows: IntArray,
    values: FloatArray,
    evaluations: int,
    rng: np.random.Generator,
) -> Generation:
    """The best of `rows` (n, d), which took so many evaluations to find."""
    nothing = _scored(problem, rows[:0], values[:0])
    empty = Generation(
        problem=problem,
        settings=settings,
        number=0,
        evaluations=evaluations,
        rows=rows,
        values=values,
        ranks=np.zeros(len(rows), dtype=np.int64),
        crowding=np.zeros(len(rows)),
        archive=Archive(settings.archive, nothing),
        random_state={},
    )
    return _survivors(empty, rows, values, len(rows), rng)


def _next(parent: Generation, rng: np.random.Generator) -> Generation:
    children = _offspring(parent, rng)
    if not len(children):
        return replace(parent, number=parent.number + 1, random_state=dict(rng.bit_generator.state))
    values = parent.problem.values(children)
    rows = np.vstack([parent.rows, children])
    advanced = replace(parent, number=parent.number + 1, evaluations=parent.evaluations + len(children))
    return _survivors(advanced, rows, np.vstack([parent.values, values]), len(children), rng)


def _offspring(parent: Generation, rng: np.random.Generator) -> IntArray:
    """At most N children that differ from each other and from the population."""
    settings, domain = parent.settings, parent.problem.domain
    children = crossover(*_parents(parent, rng), settings.crossover, rng)
    children = mutate(children, domain, settings.mutation_rate, settings.step_share, rng)
    known = np.sort(domain.hashes(parent.rows))
    fresh = new_rows(domain.hashes(children), known)
    if not fresh.all():
        repeated = mutate_once(children[~fresh], domain, settings.step_share, rng)
        children = np.vstack([children[fresh], repeated])
        children = children[new_rows(domain.hashes(children), known)]
    return children


def _parents(state: Generation, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Two (N, d) matrices: pairs of neighbours in the archive, then winners of binary tournaments."""
    settings = state.settings
    close = round(settings.archive_share * settings.population) if len(state.archive.kept.rows) > 1 else 0
    # The population is sorted, so the winner of a tournament is the smaller index.
    picks = rng.integers(0, len(state.rows), size=(2, 2, settings.population - close)).min(axis=0)
    first, second = state.rows[picks[0]], state.rows[picks[1]]
    if not close:
        return first, second
    one, other = state.archive.neighbours(rng, close, settings.neighbours, state.problem.scale)
    return np.vstack([one, first]), np.vstack([other, second])


def _survivors(
    state: Generation, rows: IntArray, values: FloatArray, newborn: int, rng: np.random.Generator
) -> Generation:
    """The best N of `rows`, sorted; the last `newborn` of them also go to the archive."""
    problem = state.problem
    F, violations = problem.minimised(values), problem.violations(values)
    ranks = constrained_ranks(F, violations)
    size = min(state.settings.population, len(ranks))
    candidates = np.flatnonzero(ranks <= np.partition(ranks, size - 1)[size - 1])
    crowding = crowding_distances(F[candidates], ranks[candidates])
    order = np.lexsort((-crowding, ranks[candidates]))[:size]
    chosen = candidates[order]
    entering = len(rows) - newborn + np.flatnonzero((ranks == 0)[-newborn:] & (violations[-newborn:] == 0.0))
    return replace(
        state,
        rows=rows[chosen],
        values=values[chosen],
        ranks=ranks[chosen],
        crowding=crowding[order],
        archive=state.archive.added(Scored(rows[entering], values[entering], F[entering])),
        random_state=dict(rng.bit_generator.state),
    )


def constrained_ranks(F: FloatArray, violations: FloatArray) -> IntArray:
    """(n, m), (n,) → (n,) ranks under constrained domination.

    Feasible points by Pareto rank; behind them infeasible points by violation, equal violations sharing one.
    """
    feasible = violations == 0.0
    if feasible.all():
        return pareto_ranks(F)
    ranks = np.empty(len(F), dtype=np.int64)
    ranks[feasible] = pareto_ranks(F[feasible])
    behind = ranks[feasible].max(initial=-1) + 1
    ranks[~feasible] = behind + np.unique(violations[~feasible], return_inverse=True)[1]
    return ranks


def _generator(state: dict[str, Any]) -> np.random.Generator:
    bits = np.random.PCG64()
    bits.state = cast("Any", state)
    return np.random.Generator(bits)


def _require(field: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise SettingsError(
            f"{field} is {value}.", field=field, value=value, remedy=f"It must be {expected}."
        )
