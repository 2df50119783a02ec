"""NSGA-II on integer arrays: a generator of generations, each an immutable value that can be resumed from.

Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", with constrained domination.
Beside the population an archive keeps the nondominated feasible subnets of the whole run; it is the result.

Notation as in `search.problem`; N population, a archive size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from search.front import crowding_distances, hypervolume, nondominated, pareto_ranks
from search.operators import crossover, first_of_each, initial_rows, mutate, mutate_once, new_rows
from search.problem import FloatArray, IntArray, Problem
from supernet.errors import CheckpointError, SettingsError
from supernet.files import atomic_path

_STATE_FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """How NSGA-II varies and selects.

    `mutation_rate` is the average number of changed genes in a child, `step_share` the share of changes that
    move one step along the ordered choices, `archive` the most nondominated subnets kept.
    """

    population: int = 200
    crossover: float = 0.9
    mutation_rate: float = 1.0
    step_share: float = 0.5
    archive: int = 4000

    def __post_init__(self) -> None:
        _require("population", self.population, 4 <= self.population <= 100_000, "4 to 100000")
        _require("crossover", self.crossover, 0.0 <= self.crossover <= 1.0, "0 to 1")
        _require("mutation_rate", self.mutation_rate, self.mutation_rate > 0.0, "above 0")
        _require("step_share", self.step_share, 0.0 <= self.step_share <= 1.0, "0 to 1")
        _require("archive", self.archive, self.archive >= 1, "at least 1")


@dataclass(frozen=True)
class Generation:
    """The state of a search after generation `number`; all that the next one depends on.

    The population is sorted, best first (rank, then crowding). The archive is pruned lazily: it may hold
    dominated rows between generations; `front_rows` and `front_values` never do.
    """

    problem: Problem
    settings: Settings
    number: int
    evaluations: int
    rows: IntArray  # (N, d)
    values: FloatArray  # (N, c)
    ranks: IntArray  # (N,)
    crowding: FloatArray  # (N,)
    archive_rows: IntArray  # (a, d)
    archive_values: FloatArray  # (a, c)
    pruned: int  # archive size after its last pruning
    random_state: dict[str, Any]  # of the bit generator, plain data

    @cached_property
    def F(self) -> FloatArray:
        """(N, m) objectives of the population, minimised."""
        return self.problem.minimised(self.values)

    @cached_property
    def violations(self) -> FloatArray:
        """(N,) total relative violation of the population, 0 = feasible."""
        return self.problem.violations(self.values)

    @cached_property
    def _front(self) -> IntArray:
        if not len(self.archive_rows):
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(nondominated(self.problem.minimised(self.archive_values)))

    @property
    def front_rows(self) -> IntArray:
        """(k, d) nondominated feasible subnets of the run so far."""
        return self.archive_rows[self._front]

    @property
    def front_values(self) -> FloatArray:
        """(k, c) values of `front_rows`."""
        return self.archive_values[self._front]

    @cached_property
    def hypervolume(self) -> float:
        """Hypervolume of the front so far in the box of the problem."""
        F = self.problem.minimised(self.front_values)
        return hypervolume(F, self.problem.reference, self.problem.scale)

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
            "pruned": self.pruned,
            "random_state": self.random_state,
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)

    @classmethod
    def load(cls, path: Path | str, problem: Problem) -> Generation:
        """Read a state back for the same problem; CheckpointError where it is corrupt or of another one."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                meta = json.loads(str(archive["meta"]))
                arrays = {name: archive[name] for name in _ARRAYS}
            if meta["format"] != _STATE_FORMAT:
                raise ValueError(f"format {meta['format']}")
            settings = Settings(**meta["settings"])
            loaded = cls(
                problem=problem,
                settings=settings,
                number=meta["number"],
                evaluations=meta["evaluations"],
                pruned=meta["pruned"],
                random_state=meta["random_state"],
                **arrays,
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise CheckpointError(
                f"{path} is not the state of a search: {error}.", field="state", value=str(path)
            ) from error
        fits = (
            loaded.rows.shape[1] == len(problem.domain.counts) and problem.domain.contains(loaded.rows).all()
        )
        if tuple(meta["columns"]) != problem.columns or not fits:
            raise CheckpointError(
                f"{path} is the state of a search in another space or over other columns.",
                field="state",
                value=str(path),
                remedy="Resume with the space, objectives and constraints of its manifest.",
            )
        return loaded


_ARRAYS = ("rows", "values", "ranks", "crowding", "archive_rows", "archive_values")


def evolve(
    problem: Problem,
    *,
    settings: Settings | None = None,
    seed: int = 0,
    warm_start: IntArray | None = None,
    start: Generation | None = None,
) -> Iterator[Generation]:
    """Yield generations without end; the caller stops.

    From `seed`: generation 0 consists of `warm_start` (n, d), repaired into the domain, and random rows.
    From `start`: continues with the next generation exactly as the run that made it (its settings and random
    state hold; `seed` and `warm_start` are ignored). The same arguments always give the same generations.
    """
    if start is None:
        rng = np.random.default_rng(seed)
        generation = _first(problem, settings or Settings(), rng, warm_start)
        yield generation
    else:
        generation, rng = start, _generator(start.random_state)
    while True:
        generation = _next(generation, rng)
        yield generation


def first_rows(
    problem: Problem, settings: Settings, rng: np.random.Generator, warm_start: IntArray | None = None
) -> IntArray:
    """(n, d) different rows to begin with: `warm_start`, repaired into the domain, then spread random ones.

    Beside the warm start there are as many as the population, or less in a small space.
    """
    rows = initial_rows(problem.domain, rng, settings.population)
    if warm_start is not None and len(warm_start):
        rows = np.vstack([problem.domain.nearest(np.asarray(warm_start, dtype=np.int64)), rows])
    return rows[first_of_each(problem.domain.hashes(rows))]


def _first(
    problem: Problem, settings: Settings, rng: np.random.Generator, warm_start: IntArray | None
) -> Generation:
    rows = first_rows(problem, settings, rng, warm_start)
    values = problem.values(rows)
    empty = Generation(
        problem=problem,
        settings=settings,
        number=0,
        evaluations=len(rows),
        rows=rows,
        values=values,
        ranks=np.zeros(len(rows), dtype=np.int64),
        crowding=np.zeros(len(rows)),
        archive_rows=rows[:0],
        archive_values=values[:0],
        pruned=0,
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
    n = settings.population
    # The population is sorted, so the winner of a binary tournament is the smaller index.
    picks = rng.integers(0, len(parent.rows), size=(4, n))
    first, second = np.minimum(picks[0], picks[1]), np.minimum(picks[2], picks[3])
    children = crossover(parent.rows[first], parent.rows[second], settings.crossover, rng)
    children = mutate(children, domain, settings.mutation_rate, settings.step_share, rng)
    known = np.sort(domain.hashes(parent.rows))
    fresh = new_rows(domain.hashes(children), known)
    if not fresh.all():
        repeated = mutate_once(children[~fresh], domain, settings.step_share, rng)
        children = np.vstack([children[fresh], repeated])
        children = children[new_rows(domain.hashes(children), known)]
    return children


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
    return with_archived(
        replace(
            state,
            rows=rows[chosen],
            values=values[chosen],
            ranks=ranks[chosen],
            crowding=crowding[order],
            random_state=dict(rng.bit_generator.state),
        ),
        rows[entering],
        values[entering],
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


def with_archived(state: Generation, rows: IntArray, values: FloatArray) -> Generation:
    """`state` with rows added to its archive, pruned once it has doubled so that the cost is spread."""
    rows, values = np.vstack([state.archive_rows, rows]), np.vstack([state.archive_values, values])
    pruned = state.pruned
    if len(rows) > 2 * pruned + state.settings.population:
        F = state.problem.minimised(values)
        keep = np.flatnonzero(nondominated(F))
        keep = _thinned(F, keep, state.settings.archive)
        rows, values, pruned = rows[keep], values[keep], len(keep)
    return replace(state, archive_rows=rows, archive_values=values, pruned=pruned)


def _thinned(F: FloatArray, keep: IntArray, limit: int) -> IntArray:
    """The `limit` least crowded of the indices `keep`, ascending."""
    if len(keep) <= limit:
        return keep
    crowding = crowding_distances(F[keep], np.zeros(len(keep), dtype=np.int64))
    return np.sort(keep[np.argsort(-crowding, kind="stable")[:limit]])


def _generator(state: dict[str, Any]) -> np.random.Generator:
    bits = np.random.PCG64()
    bits.state = cast("Any", state)
    return np.random.Generator(bits)


def _require(field: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise SettingsError(
            f"{field} is {value}.", field=field, value=value, remedy=f"It must be {expected}."
        )
