"""Other ways to search the same problem, for `bench_search.py`: each runs until its meter says stop.

A `Meter` scores rows for all of them and notes when; what a method makes of the scores is its own affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import optuna
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as PymooProblem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from search.archive import Archive, Scored
from search.engine import Settings, evolve
from search.front import hypervolume
from search.problem import FloatArray, IntArray, Problem
from search.pymoo_engine import evolve_with_pymoo

PUBLISHED = Settings(population=100, mutation_rate=1.0, archive_share=0.0, starts=0)
POPULATION = 100


class Meter:
    """Scores rows of a problem and keeps every score with its time; `over` once the time or number is up."""

    def __init__(self, problem: Problem, seconds: float, evaluations: int | None = None) -> None:
        self.problem = problem
        self.evaluations = 0
        self._seconds = seconds
        self._most = evaluations
        self._log: list[tuple[float, FloatArray]] = []
        self._start = time.process_time()

    @property
    def elapsed(self) -> float:
        """Seconds of processor time since the meter was made: every method runs on one thread."""
        return time.process_time() - self._start

    @property
    def over(self) -> bool:
        """Whether the method must stop."""
        spent = self._most is not None and self.evaluations >= self._most
        return spent or self.elapsed >= self._seconds

    def objectives(self, rows: IntArray) -> FloatArray:
        """(n, d) rows → (n, m), all minimised."""
        F = self.problem.minimised(self.problem.values(rows))
        self._note(F)
        return F

    def metered(self) -> Problem:
        """The problem, with an `evaluate` that notes its scores here."""

        def evaluate(rows: IntArray) -> dict[str, FloatArray]:
            columns = dict(self.problem.evaluate(rows))
            self._note(np.column_stack([o.sign * columns[o.name] for o in self.problem.objectives]))
            return columns

        return replace(self.problem, evaluate=evaluate)

    def _note(self, F: FloatArray) -> None:
        self.evaluations += len(F)
        self._log.append((self.elapsed, F))

    @property
    def scores(self) -> FloatArray:
        """(n, m) all objectives that were noted, minimised."""
        return np.vstack([F for _, F in self._log])

    def curve(self, points: int = 40) -> list[tuple[float, int, float]]:
        """(seconds, evaluations, hypervolume of all scores so far) at up to `points` moments, log-spaced."""
        nothing = np.zeros((0, len(self.problem.objectives)))
        archive = Archive(100_000, Scored(np.zeros((0, 1), dtype=np.int64), nothing, nothing))
        curve: list[tuple[float, int, float]] = []
        evaluations = 0
        growth = max(1.05, self.evaluations ** (1 / points))
        for number, (seconds, F) in enumerate(self._log):
            evaluations += len(F)
            archive = archive.added(Scored(np.zeros((len(F), 1), dtype=np.int64), F, F))
            last = number == len(self._log) - 1
            if not curve or evaluations >= growth * curve[-1][1] or last:
                volume = hypervolume(archive.merged.kept.F, self.problem.reference, self.problem.scale)
                curve.append((seconds, evaluations, volume))
        return curve


@dataclass(frozen=True)
class Individual:
    """A subnet of the evolution finder: objective 0, to be minimised, and its genotype (d,)."""

    loss: float
    row: IntArray


Method: TypeAlias = Callable[[Meter, int], None]


def ours(settings: Settings | None = None) -> Method:
    """Our engine."""

    def run(meter: Meter, seed: int) -> None:
        for _ in evolve(meter.metered(), settings=settings, seed=seed):
            if meter.over:
                return

    return run


def pymoo_with_our_operators(meter: Meter, seed: int) -> None:
    """NSGA-II of pymoo, our crossover, mutation, sampling and hashed duplicates."""
    for _ in evolve_with_pymoo(meter.metered(), "pymoo-nsga2", settings=PUBLISHED, seed=seed):
        if meter.over:
            return


def pymoo_usual(meter: Meter, seed: int) -> None:
    """NSGA-II of pymoo with the operators its documentation gives for integers."""
    _pymoo(
        meter,
        seed,
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )


def pymoo_tuned(meter: Meter, seed: int) -> None:
    """NSGA-II of pymoo with uniform crossover and without the search for duplicates."""
    _pymoo(
        meter,
        seed,
        crossover=UniformCrossover(prob=0.9),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=False,
    )


def _pymoo(meter: Meter, seed: int, **operators: Any) -> None:
    problem = _IntegerProblem(meter)
    algorithm = NSGA2(pop_size=POPULATION, sampling=IntegerRandomSampling(), **operators)
    algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed, verbose=False)
    while not meter.over:
        algorithm.next()


class _IntegerProblem(PymooProblem):  # type: ignore[misc]
    def __init__(self, meter: Meter) -> None:
        counts = meter.problem.domain.counts
        super().__init__(
            n_var=len(counts), n_obj=len(meter.problem.objectives), xl=0 * counts, xu=counts - 1, vtype=int
        )
        self._meter = meter

    def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = self._meter.objectives(self._meter.problem.domain.at(x.astype(np.int64)))


def optuna_nsga2(meter: Meter, seed: int) -> None:
    """Optuna's NSGAIISampler, one trial at a time, as its users run it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    counts = meter.problem.domain.counts.tolist()
    sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    study = optuna.create_study(directions=["minimize"] * len(meter.problem.objectives), sampler=sampler)
    while not meter.over:
        trial = study.ask()
        row = [trial.suggest_int(f"gene{g}", 0, count - 1) for g, count in enumerate(counts)]
        study.tell(trial, meter.objectives(meter.problem.domain.at(np.array([row])))[0].tolist())


def random_search(meter: Meter, seed: int) -> None:
    """Uniform samples, a thousand at a time."""
    rng = np.random.default_rng(seed)
    while not meter.over:
        meter.objectives(meter.problem.domain.sample(rng, 1000))


def evolution_finder(meter: Meter, seed: int) -> None:
    """Budgets in bisecting order, one query of the Once-for-All kind for each, 100 generations a query."""
    rng = np.random.default_rng(seed)
    low, high = meter.problem.minimised(meter.problem.values(meter.problem.domain.extremes()))[:, 1]
    level = 1
    while True:
        for step in range(1, 2**level, 2):
            if meter.over:
                return
            find_under_budget(meter, low + (high - low) * step / 2**level, rng, generations=100)
        level += 1


def find_under_budget(
    meter: Meter, budget: float, rng: np.random.Generator, generations: int = 500
) -> IntArray | None:
    """The best subnet by objective 0 whose objective 1 is at most `budget`; None where the meter is over.

    Regularised evolution as in Cai et al. 2020 (Once for All): individuals are objects; each is drawn again until
    it keeps the budget; population 100, the best quarter are parents, half of the children are mutated (each
    gene resampled with probability 0.1), half are crossed over.
    """
    domain = meter.problem.domain

    def accepted(propose: Callable[[], IntArray]) -> Individual | None:
        while not meter.over:
            row = propose()
            loss, cost = meter.objectives(row[None])[0, :2]
            if cost <= budget:
                return Individual(float(loss), row)
        return None

    def sampled() -> IntArray:
        # Below a random level, which meets small budgets too; uniform draws hardly ever do.
        share = rng.random(len(domain.counts)) * rng.random()
        row: IntArray = domain.at((share * domain.counts).astype(np.int64)[None])[0]
        return row

    def mutated(parents: list[Individual]) -> IntArray:
        row: IntArray = parents[int(rng.integers(len(parents)))].row.copy()
        for g, choices in enumerate(domain.choices):
            if rng.random() < 0.1:
                row[g] = choices[int(rng.integers(len(choices)))]
        return row

    def crossed(parents: list[Individual]) -> IntArray:
        one, two = (parents[int(i)].row for i in rng.integers(len(parents), size=2))
        return np.array([one[g] if rng.random() < 0.5 else two[g] for g in range(len(one))])

    parents: list[Individual] = []
    makers: list[Callable[[], IntArray]] = [sampled] * POPULATION
    for _ in range(generations + 1):
        children = [accepted(make) for make in makers]
        if meter.over:
            return None
        population = parents + [child for child in children if child is not None]
        parents = sorted(population, key=lambda individual: individual.loss)[: POPULATION // 4]
        half = POPULATION // 2
        makers = [*[partial(mutated, parents)] * half, *[partial(crossed, parents)] * half]
    return parents[0].row
