"""One search from question to front: engines, stop conditions, history, records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.engine import Generation, Settings, evolve
from search.feasibility import feasible_rows
from search.front import Front, front_table
from search.problem import Evaluate, IntArray, Objective, Problem, SearchSpace, make_problem
from search.record import (
    Manifest,
    Moment,
    load_manifest,
    new_manifest,
    now,
    require_same_inputs,
    save_front,
    save_manifest,
    save_state,
    state_path,
)
from supernet.errors import SettingsError

ENGINES = ("nsga2", "pymoo-nsga2", "nsga3", "unsga3", "agemoea", "smsemoa", "moead")
"""`nsga2` is our own; the others run through pymoo."""

ENUMERABLE = 20_000
"""A domain of at most so many subnets is evaluated whole, if the stop condition allows it."""

_HISTORY_GROWTH = 1.1
_IDLE_GENERATIONS = 100


@dataclass(frozen=True)
class Stop:
    """When a search ends: at the first of the conditions that are given, checked after each generation.

    `stalled_hypervolume` is the least relative gain of hypervolume over the last `window` generations that is
    worth going on for. `seconds` alone depends on the machine; the others give the same front everywhere.
    """

    evaluations: int | None = None
    generations: int | None = None
    seconds: float | None = None
    stalled_hypervolume: float | None = None
    window: int = 50

    def __post_init__(self) -> None:
        given = (self.evaluations, self.generations, self.seconds, self.stalled_hypervolume)
        if all(limit is None for limit in given):
            raise SettingsError(
                "A search without a stop condition never ends.",
                field="stop",
                remedy="Give evaluations, generations, seconds or stalled_hypervolume.",
            )
        for name, limit in (*asdict(self).items(),):
            if limit is not None and not limit > 0:
                raise SettingsError(
                    f"{name} is {limit}.", field=f"stop.{name}", value=limit, remedy="It must be above 0."
                )

    def reason(self, generation: Generation, seconds: float, history: Sequence[Moment]) -> str | None:
        """Name of the condition that holds, None where the search goes on."""
        if self.evaluations is not None and generation.evaluations >= self.evaluations:
            return "evaluations"
        if self.generations is not None and generation.number >= self.generations:
            return "generations"
        if self.seconds is not None and seconds >= self.seconds:
            return "seconds"
        if self.stalled_hypervolume is not None and self._stalled(generation.number, history):
            return "stalled_hypervolume"
        return None

    def wants_moment(self, generation: Generation) -> bool:
        """Whether the hypervolume of this generation must be in the history."""
        return self.stalled_hypervolume is not None and generation.number % self._stride == 0

    @property
    def _stride(self) -> int:
        return max(1, self.window // 5)

    def _stalled(self, number: int, history: Sequence[Moment]) -> bool:
        assert self.stalled_hypervolume is not None
        before = [m for m in history if m.generation <= number - self.window]
        if not before or history[-1].generation != number or history[-1].hypervolume <= 0.0:
            return False
        gain = history[-1].hypervolume - before[-1].hypervolume
        return gain < self.stalled_hypervolume * history[-1].hypervolume


DEFAULT_STOP = Stop(evaluations=200_000, stalled_hypervolume=1e-4)


@dataclass(frozen=True)
class SearchResult:
    """What a search found. `hypervolume` is of the front in the box of the problem (see `search.problem`).

    `reason` names the condition that ended it: evaluations, generations, seconds, stalled_hypervolume,
    enumerated (the whole domain was evaluated), exhausted (nothing new can be proposed) or stopped (by the
    caller).
    """

    front: pd.DataFrame
    objectives: tuple[Objective, ...]
    evaluations: int
    generations: int
    seconds: float
    hypervolume: float
    history: tuple[Moment, ...]
    knee: str | None
    reason: str

    @property
    def evaluations_per_second(self) -> float:
        """Evaluations per second of search time."""
        return self.evaluations / max(self.seconds, 1e-9)

    @property
    def pareto(self) -> Front:
        """The front with its methods (within, best, hypervolume)."""
        return Front(self.front, self.objectives)


def search(
    space: SearchSpace,
    evaluate: Evaluate,
    *,
    objectives: Sequence[str | Objective] = ("accuracy", "latency_ms"),
    constraints: Sequence[str] = (),
    seed: int = 0,
    stop: Stop = DEFAULT_STOP,
    engine: str = "nsga2",
    settings: Settings | None = None,
    adapt: bool = True,
    warm_start: IntArray | None = None,
    on_generation: Callable[[Generation], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    directory: Path | str | None = None,
    provenance: Mapping[str, Any] | None = None,
    resume: bool = False,
    save_every: float = 5.0,
) -> SearchResult:
    """Search a space for its Pareto front.

    `evaluate` maps rows (n, d) to columns (n,), among them the objectives and the columns of the constraints
    (`latency_ms<=30`, `accuracy>=0.7`, `resolution==256x192`, `kernel!=5`). With `adapt` the starts of `settings`
    take half of the evaluations or generations of `stop` at most. `warm_start` is (k, d) rows to begin with.
    `on_generation` is called after each generation and each start, `should_stop` asked after each. With
    `directory` the search leaves a record there, its state saved every `save_every` seconds; `resume`
    continues one found there and ends with the front that an undisturbed run gives (unless stopped by
    seconds). `provenance` goes into the record as it is: fingerprints of the predictors, the command.

    Raises InvalidConstraint, InfeasibleBudget (says what is possible), SettingsError, CheckpointError.
    """
    if engine not in ENGINES:
        raise SettingsError(
            f"There is no engine {engine!r}.",
            field="engine",
            value=engine,
            remedy=f"Choose one of {', '.join(ENGINES)}.",
        )
    began = time.perf_counter()
    problem = make_problem(space, evaluate, objectives, constraints)
    chosen = settings or Settings()
    if adapt:
        chosen = chosen.within(stop.evaluations, stop.generations)
    manifest = new_manifest(
        space,
        problem,
        constraints=constraints,
        seed=seed,
        engine=engine,
        settings=asdict(chosen),
        stop=asdict(stop),
        warm_start=warm_start,
        provenance=provenance,
    )
    start = None
    if directory is not None:
        if resume and state_path(directory).exists():
            manifest, start = _resumed(directory, manifest, problem)
        else:
            state_path(directory).unlink(missing_ok=True)
            save_manifest(directory, manifest)
    generations = _generations(problem, manifest, chosen, warm_start, stop, start)
    recorder = _Recorder(directory, manifest, save_every)
    last, reason = _follow(generations, stop, recorder, began, on_generation, should_stop)
    seconds = recorder.manifest.seconds + time.perf_counter() - began
    recorder.note(last, seconds, wanted=True)
    result = result_of(space, last, reason, seconds, recorder.history)
    if directory is not None:
        save_result(directory, recorder.manifest, result)
    return result


def _resumed(directory: Path | str, wanted: Manifest, problem: Problem) -> tuple[Manifest, Generation]:
    """The saved manifest, its history cut to the saved generation, and that generation."""
    saved = load_manifest(directory)
    require_same_inputs(directory, saved, wanted)
    if saved.engine != "nsga2":
        raise SettingsError(
            f"A search by {saved.engine} cannot be resumed.",
            field="engine",
            value=saved.engine,
            remedy="Search again, into another folder.",
        )
    generation = Generation.load(state_path(directory), problem)
    history = tuple(m for m in saved.history if m.generation <= generation.number)
    return replace(wanted, started=saved.started, seconds=saved.seconds, history=history), generation


def _generations(
    problem: Problem,
    manifest: Manifest,
    settings: Settings,
    warm_start: IntArray | None,
    stop: Stop,
    start: Generation | None,
) -> Iterator[Generation]:
    if start is not None:
        return _continued(problem, start)
    if problem.domain.size <= min(ENUMERABLE, stop.evaluations or ENUMERABLE):
        warm_start, settings = problem.domain.all_rows(), replace(settings, starts=0)
        if not (problem.violations(problem.values(warm_start)) == 0.0).any():
            feasible_rows(problem, manifest.seed)
    elif problem.constraints:
        found = feasible_rows(problem, manifest.seed)
        warm_start = found if warm_start is None else np.vstack([warm_start, found])
    if manifest.engine == "nsga2":
        return evolve(problem, settings=settings, seed=manifest.seed, warm_start=warm_start, preliminary=True)
    from search.pymoo_engine import evolve_with_pymoo

    return evolve_with_pymoo(
        problem, manifest.engine, settings=settings, seed=manifest.seed, warm_start=warm_start
    )


def _continued(problem: Problem, start: Generation) -> Iterator[Generation]:
    yield start
    yield from evolve(problem, start=start)


class _Recorder:
    """Collects the history and, with a directory, writes it and the state now and then."""

    def __init__(self, directory: Path | str | None, manifest: Manifest, save_every: float) -> None:
        self.directory = directory
        self.manifest = manifest
        self.history = list(manifest.history)
        self._save_every = save_every
        self._saved = time.perf_counter()

    def note(self, generation: Generation, seconds: float, *, wanted: bool) -> None:
        """Add a moment if it is wanted or the evaluations have grown by a tenth since the last one."""
        last = self.history[-1] if self.history else None
        grown = last is None or generation.evaluations >= _HISTORY_GROWTH * last.evaluations
        if (wanted or grown) and (last is None or last.generation < generation.number):
            self.history.append(
                Moment(generation.number, generation.evaluations, seconds, generation.hypervolume)
            )

    def checkpoint(self, generation: Generation, seconds: float, *, force: bool = False) -> None:
        """Save manifest and state when it is time; the manifest first, so that no moment gets lost."""
        due = force or time.perf_counter() - self._saved >= self._save_every
        if self.directory is None or not due or self.manifest.engine != "nsga2":
            return
        save_manifest(self.directory, replace(self.manifest, seconds=seconds, history=tuple(self.history)))
        save_state(self.directory, generation)
        self._saved = time.perf_counter()


def _follow(
    generations: Iterator[Generation],
    stop: Stop,
    recorder: _Recorder,
    began: float,
    on_generation: Callable[[Generation], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[Generation, str]:
    """Run until a stop condition holds; returns the last generation and the reason."""
    earlier = recorder.manifest.seconds
    progressed = (0, 0)
    for generation in generations:
        seconds = earlier + time.perf_counter() - began
        if not generation.preliminary:
            recorder.note(generation, seconds, wanted=stop.wants_moment(generation))
        if on_generation is not None:
            on_generation(generation)
        if generation.evaluations > progressed[1]:
            progressed = (generation.number, generation.evaluations)
        reason = stop.reason(generation, seconds, recorder.history)
        if generation.number == 0 and generation.evaluations >= generation.problem.domain.size:
            reason = "enumerated"
        elif generation.number - progressed[0] >= _IDLE_GENERATIONS:
            reason = "exhausted"
        elif reason is None and should_stop is not None and should_stop():
            reason = "stopped"
        if not generation.preliminary:
            recorder.checkpoint(generation, seconds, force=reason is not None)
        if reason is not None:
            return generation, reason
    raise AssertionError("a generator of generations has no end")


def result_of(
    space: SearchSpace, last: Generation, reason: str, seconds: float, history: Sequence[Moment]
) -> SearchResult:
    """What a search that ended with generation `last` has found."""
    columns = {name: last.front.values[:, j] for j, name in enumerate(last.problem.columns)}
    front = front_table(space, last.front.rows, columns, last.problem.objectives)
    return SearchResult(
        front=front.table,
        objectives=last.problem.objectives,
        evaluations=last.evaluations,
        generations=last.number,
        seconds=seconds,
        hypervolume=last.hypervolume,
        history=tuple(history),
        knee=front.knee,
        reason=reason,
    )


def save_result(directory: Path | str, manifest: Manifest, result: SearchResult) -> None:
    """Write the front and the finished manifest."""
    save_manifest(
        directory,
        replace(
            manifest,
            state="stopped" if result.reason == "stopped" else "done",
            reason=result.reason,
            finished=now(),
            generations=result.generations,
            evaluations=result.evaluations,
            seconds=result.seconds,
            hypervolume=result.hypervolume,
            history=result.history,
            front_sha256=save_front(directory, result.pareto),
        ),
    )
