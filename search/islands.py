"""Islands: several searches of one problem that exchange subnets around a ring, and join their fronts.

Between two migrations islands know nothing of each other, so each can run in a process of its own
(`search.distributed`). Migration waits for all islands, and everything drawn at random follows from seed, island
and generation: the joint front depends on the seed and the number of islands, and on nothing else. An island is a
value; one whose worker died is computed again from what it was at the last migration.

Notation: n islands; N population of an island; rows (k, d), values (k, c).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.archive import Archive, Scored
from search.engine import Generation, Settings, constrained_ranks, evolve
from search.executors import Executor
from search.feasibility import feasible_rows
from search.front import crowding_distances
from search.operators import new_rows
from search.problem import Evaluate, FloatArray, IntArray, Objective, Problem, SearchSpace, make_problem
from search.record import (
    Manifest,
    Moment,
    load_manifest,
    new_manifest,
    require_same_inputs,
    save_manifest,
)
from search.run import (
    DEFAULT_STOP,
    ENUMERABLE,
    SearchResult,
    Stop,
    result_of,
    save_result,
    search,
)
from supernet.errors import SettingsError

ENGINE = "islands"
"""What the record of such a search has for its engine."""

MOST = 1024
"""Most islands of one search."""

_IDLE_GENERATIONS = 100
_STATE = re.compile(r"\d+-\d+\.npz")


@dataclass(frozen=True)
class Ring:
    """`islands` searches; every `every` generations each sends `migrants` of its front to the next."""

    islands: int
    every: int = 50
    migrants: int = 10

    def __post_init__(self) -> None:
        limits = {"islands": MOST, "every": 10**9, "migrants": 10**6}
        for name, most in limits.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise SettingsError(
                    f"{name} is {value}.", field=name, value=value, remedy=f"It is from 1 to {most}."
                )


class Island(NamedTuple):
    """A generation as it travels: arrays and plain data, the archive merged, choices in as few bytes as they need."""

    number: int
    evaluations: int
    rows: NDArray[Any]
    values: FloatArray
    ranks: IntArray
    crowding: FloatArray
    kept_rows: NDArray[Any]
    kept_values: FloatArray
    random_state: dict[str, Any]

    @classmethod
    def of(cls, generation: Generation) -> Island:
        """The state of a generation."""
        kept = generation.archive.merged.kept
        small = np.min_scalar_type(int(generation.problem.domain.table.max()))
        return cls(
            generation.number,
            generation.evaluations,
            generation.rows.astype(small),
            generation.values,
            generation.ranks,
            generation.crowding,
            kept.rows.astype(small),
            kept.values,
            generation.random_state,
        )

    def generation(self, problem: Problem, settings: Settings) -> Generation:
        """The inverse of `of`."""
        return Generation(
            problem=problem,
            settings=settings,
            number=self.number,
            evaluations=self.evaluations,
            rows=self.rows.astype(np.int64),
            values=self.values,
            ranks=self.ranks,
            crowding=self.crowding,
            archive=Archive(settings.archive, self.front(problem)),
            random_state=self.random_state,
        )

    def front(self, problem: Problem) -> Scored:
        """The nondominated feasible subnets of this island so far."""
        return Scored(self.kept_rows.astype(np.int64), self.kept_values, problem.minimised(self.kept_values))


class Leg(NamedTuple):
    """What an island does between two migrations: take in arrivals, then go on for some generations."""

    island: Island
    arrivals: Scored
    generations: int


@dataclass(frozen=True, eq=False)
class Advance:
    """Computes a leg; a pure function, so that any worker may, as often as it must."""

    problem: Problem
    settings: Settings

    def __call__(self, leg: Leg) -> Island:
        """The island at the end of the leg."""
        start = with_arrivals(leg.island.generation(self.problem, self.settings), leg.arrivals)
        *_, last = islice(evolve(self.problem, start=start), leg.generations)
        return Island.of(last)


def with_arrivals(generation: Generation, arrivals: Scored) -> Generation:
    """The generation with arrivals that are new to it in the places of its worst, and in its archive."""
    problem = generation.problem
    known = np.sort(problem.domain.hashes(generation.rows))
    fresh = arrivals.at(np.flatnonzero(new_rows(problem.domain.hashes(arrivals.rows), known)))
    rows = np.vstack([generation.rows, fresh.rows])
    values = np.vstack([generation.values, fresh.values])
    F = problem.minimised(values)
    ranks = constrained_ranks(F, problem.violations(values))
    crowding = crowding_distances(F, ranks)
    best = np.lexsort((-crowding, ranks))[: generation.settings.population]
    return replace(
        generation,
        rows=rows[best],
        values=values[best],
        ranks=ranks[best],
        crowding=crowding[best],
        archive=generation.archive.added(fresh).merged,
    )


def search_islands(
    space: SearchSpace,
    evaluate: Evaluate,
    *,
    ring: Ring,
    executor: Executor,
    objectives: Sequence[str | Objective] = ("accuracy", "latency_ms"),
    constraints: Sequence[str] = (),
    seed: int = 0,
    stop: Stop = DEFAULT_STOP,
    settings: Settings | None = None,
    warm_start: IntArray | None = None,
    on_generation: Callable[[Generation], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    directory: Path | str | None = None,
    provenance: Mapping[str, Any] | None = None,
    resume: bool = False,
    save_every: float = 5.0,
) -> SearchResult:
    """Search a space on several islands; arguments, result, records and errors as for `search.run.search`.

    `evaluate` must be able to travel to the workers of `executor`. Stop conditions count the evaluations of all
    islands and the generations of each, and are looked at, as `should_stop` is, at migrations; a limit of
    evaluations or generations brings the last one forward. `on_generation` is called at migrations with the joint
    state. A domain small enough to be evaluated whole is searched without islands.
    """
    began = time.perf_counter()
    settings = replace(settings or Settings(), starts=0)  # each island is one
    problem = make_problem(space, evaluate, objectives, constraints)
    if problem.domain.size <= min(ENUMERABLE, stop.evaluations or ENUMERABLE):
        return search(
            space,
            evaluate,
            objectives=objectives,
            constraints=constraints,
            seed=seed,
            stop=stop,
            settings=settings,
            warm_start=warm_start,
            on_generation=on_generation,
            should_stop=should_stop,
            directory=directory,
            provenance=provenance,
            resume=resume,
            save_every=save_every,
        )
    manifest = new_manifest(
        space,
        problem,
        constraints=constraints,
        seed=seed,
        engine=ENGINE,
        settings=asdict(settings) | asdict(ring),
        stop=asdict(stop),
        warm_start=warm_start,
        provenance=provenance,
    )
    record = _Record(directory, manifest, save_every)
    islands = record.resumed(problem, settings) if resume else None
    if islands is None:
        islands = _first(problem, ring, seed, settings, warm_start)
        record.begin()
    advance = Advance(problem, settings)
    while True:
        joint = _joined(islands, problem, settings)
        seconds = record.note(joint, began)
        if on_generation is not None:
            on_generation(joint)
        reason = stop.reason(joint, seconds, record.history)
        if reason is None and record.is_idle():
            reason = "exhausted"
        if reason is None and should_stop is not None and should_stop():
            reason = "stopped"
        record.checkpoint(islands, problem, settings, seconds, force=reason is not None)
        if reason is not None:
            return record.finish(space, joint, reason, seconds)
        legs = _legs(islands, ring, seed, _generations_left(joint, ring, settings, stop), problem)
        islands = [island for _, island in sorted(executor.run(advance, legs), key=lambda done: done[0])]


def _first(
    problem: Problem, ring: Ring, seed: int, settings: Settings, warm_start: IntArray | None
) -> list[Island]:
    """Generation 0 of every island; the first begins as a search without islands would."""
    if problem.constraints:
        found = feasible_rows(problem, seed)
        warm_start = found if warm_start is None else np.vstack([warm_start, found])
    seeds = [seed, *(_drawn(seed, i) for i in range(1, ring.islands))]
    return [
        Island.of(next(evolve(problem, settings=settings, seed=own, warm_start=warm_start))) for own in seeds
    ]


def _drawn(*key: int) -> int:
    """A number below 2⁶² that follows from the key."""
    return int(np.random.default_rng(key).integers(2**62))


def _legs(islands: Sequence[Island], ring: Ring, seed: int, generations: int, problem: Problem) -> list[Leg]:
    """The next leg of every island; what arrives at one was drawn from the front of the one before it."""
    fronts = [island.front(problem) for island in islands]
    nothing = fronts[0].at(np.empty(0, dtype=np.int64))
    arrivals = [nothing] * len(islands)
    for i, (island, front) in enumerate(zip(islands, fronts, strict=True)):
        if len(islands) > 1:
            rng = np.random.default_rng((seed, i, island.number))
            size = min(ring.migrants, len(front.rows))
            chosen = np.sort(rng.choice(len(front.rows), size, replace=False)) if size else np.arange(0)
            arrivals[(i + 1) % len(islands)] = front.at(chosen)
    return [Leg(island, a, generations) for island, a in zip(islands, arrivals, strict=True)]


def _joined(islands: Sequence[Island], problem: Problem, settings: Settings) -> Generation:
    """All islands as one generation: the population of the first, all evaluations, and one archive."""
    first = islands[0].generation(problem, settings)
    archive = reduce(lambda joint, i: joint.added(i.front(problem)), islands[1:], first.archive).merged
    return replace(first, evaluations=sum(island.evaluations for island in islands), archive=archive)


def _generations_left(joint: Generation, ring: Ring, settings: Settings, stop: Stop) -> int:
    """Generations to the next migration, fewer where a limit comes before it."""
    left = ring.every
    if stop.generations is not None:
        left = min(left, stop.generations - joint.number)
    if stop.evaluations is not None:
        each = ring.islands * settings.population
        left = min(left, math.ceil((stop.evaluations - joint.evaluations) / each))
    return max(1, left)


def island_paths(directory: Path) -> list[Path]:
    """The files in which a search on islands keeps the generations to resume from."""
    return [path for path in (directory / "states").glob("*.npz") if _STATE.fullmatch(path.name)]


class _Record:
    """The history of a search on islands and, with a directory, its files.

    The states of all islands lie in `states` as NUMBER-ISLAND.npz; the set of the highest number that is whole
    counts.
    """

    def __init__(self, directory: Path | str | None, manifest: Manifest, save_every: float) -> None:
        self.directory = None if directory is None else Path(directory)
        self.manifest = manifest
        self.history = list(manifest.history)
        self._save_every = save_every
        self._saved = time.perf_counter()
        self._grown = (0, 0)

    def begin(self) -> None:
        """Forget what an earlier search left."""
        if self.directory is not None:
            for path in self._states():
                path.unlink()
            save_manifest(self.directory, self.manifest)

    def resumed(self, problem: Problem, settings: Settings) -> list[Island] | None:
        """The islands as they were saved last, None where none were. CheckpointError where of another search."""
        if self.directory is None or not self._states():
            return None
        saved = load_manifest(self.directory)
        require_same_inputs(self.directory, saved, self.manifest)
        count = int(saved.settings["islands"])
        numbers = sorted({_number(path) for path in self._states()}, reverse=True)
        whole = [n for n in numbers if all(self._state(n, i).is_file() for i in range(count))]
        if not whole:
            return None
        islands = [Island.of(Generation.load(self._state(whole[0], i), problem)) for i in range(count)]
        history = tuple(moment for moment in saved.history if moment.generation <= whole[0])
        self.manifest = replace(self.manifest, started=saved.started, seconds=saved.seconds, history=history)
        self.history = list(history)
        return islands

    def note(self, joint: Generation, began: float) -> float:
        """Add a moment to the history; returns the seconds of search so far."""
        seconds = self.manifest.seconds + time.perf_counter() - began
        if not self.history or self.history[-1].generation < joint.number:
            self.history.append(Moment(joint.number, joint.evaluations, seconds, joint.hypervolume))
        if joint.evaluations > self._grown[1]:
            self._grown = (joint.number, joint.evaluations)
        self._number = joint.number
        return seconds

    def is_idle(self) -> bool:
        """Whether no island has found anything new to evaluate for long."""
        return self._number - self._grown[0] >= _IDLE_GENERATIONS

    def checkpoint(
        self,
        islands: Sequence[Island],
        problem: Problem,
        settings: Settings,
        seconds: float,
        *,
        force: bool,
    ) -> None:
        """Save all islands when it is time; the manifest first, so that no moment gets lost."""
        due = force or time.perf_counter() - self._saved >= self._save_every
        if self.directory is None or not due:
            return
        save_manifest(self.directory, replace(self.manifest, seconds=seconds, history=tuple(self.history)))
        old = self._states()
        fresh = [self._state(island.number, i) for i, island in enumerate(islands)]
        for path, island in zip(fresh, islands, strict=True):
            island.generation(problem, settings).save(path)
        for path in set(old) - set(fresh):
            path.unlink()
        self._saved = time.perf_counter()

    def finish(self, space: SearchSpace, joint: Generation, reason: str, seconds: float) -> SearchResult:
        """The result; with a directory also the front and the finished manifest."""
        result = result_of(space, joint, reason, seconds, self.history)
        if self.directory is not None:
            save_result(self.directory, self.manifest, result)
        return result

    def _states(self) -> list[Path]:
        assert self.directory is not None
        return island_paths(self.directory)

    def _state(self, number: int, island: int) -> Path:
        assert self.directory is not None
        return self.directory / "states" / f"{number}-{island}.npz"


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])
