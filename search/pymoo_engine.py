"""The same problem through pymoo: its other algorithms by name, and an oracle for `search.engine`.

Importing this module imports pymoo, which takes about a second; `search.run` does so only when asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.age import AGEMOEA
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem as PymooProblem
from pymoo.util.ref_dirs import get_reference_directions

from search.archive import Archive, Scored
from search.engine import Generation, Settings, constrained_ranks, first_rows
from search.front import crowding_distances
from search.operators import Domain, crossover, mutate, new_rows
from search.problem import FloatArray, IntArray, Problem
from supernet.errors import SettingsError

_ALGORITHMS = {
    "pymoo-nsga2": NSGA2,
    "nsga3": NSGA3,
    "unsga3": UNSGA3,
    "agemoea": AGEMOEA,
    "smsemoa": SMSEMOA,
    "moead": MOEAD,
}
_WITH_DIRECTIONS = ("nsga3", "unsga3", "moead")


def evolve_with_pymoo(
    problem: Problem,
    algorithm: str,
    *,
    settings: Settings | None = None,
    seed: int = 0,
    warm_start: IntArray | None = None,
) -> Iterator[Generation]:
    """Yield generations of a pymoo algorithm without end, with our operators; they cannot be resumed.

    A steady-state algorithm yields once every `settings.population` evaluations. Raises SettingsError for an
    unknown name, or for constraints where the algorithm handles none (moead).
    """
    chosen = settings or Settings()
    rng = np.random.default_rng(seed)
    adapter = _Adapter(problem)
    rows = first_rows(problem, chosen, rng, warm_start)[: chosen.population]
    runner = _algorithm(algorithm, problem, chosen, rng, rows)
    runner.setup(adapter, termination=("n_gen", 10**9), seed=seed, verbose=False)
    state: Generation | None = None
    while runner.has_next():
        runner.next()
        if state is None or adapter.evaluations - state.evaluations >= chosen.population:
            state = _generation(runner.pop.get("X"), adapter, chosen, state)
            yield state


class _Adapter(PymooProblem):  # type: ignore[misc]
    """Our problem as pymoo sees it; keeps what was evaluated since it was last asked."""

    def __init__(self, problem: Problem) -> None:
        choices = problem.domain.choices
        super().__init__(
            n_var=len(choices),
            n_obj=len(problem.objectives),
            n_ieq_constr=1 if problem.constraints else 0,
            xl=np.array([c[0] for c in choices]),
            xu=np.array([c[-1] for c in choices]),
            vtype=int,
        )
        self.problem = problem
        self.evaluations = 0
        self._recent: list[tuple[IntArray, FloatArray]] = []

    def _evaluate(self, x: NDArray[Any], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        rows = np.atleast_2d(x).astype(np.int64)
        values = self.problem.values(rows)
        self.evaluations += len(rows)
        self._recent.append((rows, values))
        out["F"] = self.problem.minimised(values) / self.problem.scale
        if self.problem.constraints:
            out["G"] = self.problem.violations(values)[:, None]

    def take_recent(self) -> tuple[IntArray, FloatArray]:
        """(n, d) rows and (n, c) values evaluated since the last call."""
        rows, values = zip(*self._recent, strict=True)
        self._recent = []
        return np.vstack(rows), np.vstack(values)


class _Crossover(Crossover):  # type: ignore[misc]
    def __init__(self, probability: float, rng: np.random.Generator) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=1.0)
        self._probability, self._rng = probability, rng

    def _do(self, problem: Any, X: NDArray[Any], *args: Any, **kwargs: Any) -> NDArray[Any]:
        first, second = X.astype(np.int64)
        return crossover(first, second, self._probability, self._rng)[None]


class _Mutation(Mutation):  # type: ignore[misc]
    def __init__(self, domain: Domain, settings: Settings, rng: np.random.Generator) -> None:
        super().__init__(prob=1.0)
        self._domain, self._settings, self._rng = domain, settings, rng

    def _do(self, problem: Any, X: NDArray[Any], *args: Any, **kwargs: Any) -> NDArray[Any]:
        rate, step = self._settings.mutation_rate, self._settings.step_share
        return mutate(X.astype(np.int64), self._domain, rate, step, self._rng)


class _NoDuplicates(DuplicateElimination):  # type: ignore[misc]
    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self._domain = domain

    def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        known = np.zeros(0, dtype=np.int64) if other is None else np.sort(self._hashes(other))
        return is_duplicate | ~new_rows(self._hashes(pop), known)

    def _hashes(self, pop: Any) -> IntArray:
        return self._domain.hashes(pop.get("X").astype(np.int64))


def _algorithm(
    name: str, problem: Problem, settings: Settings, rng: np.random.Generator, rows: IntArray
) -> Any:
    if name not in _ALGORITHMS:
        raise SettingsError(
            f"There is no engine {name!r}.",
            field="engine",
            value=name,
            remedy=f"Choose nsga2 or one of {', '.join(_ALGORITHMS)}.",
        )
    if name == "moead" and problem.constraints:
        raise SettingsError(
            "moead handles no bounds.", field="engine", value=name, remedy="Choose nsga2 or nsga3."
        )
    options: dict[str, Any] = {
        "sampling": rows,
        "crossover": _Crossover(settings.crossover, rng),
        "mutation": _Mutation(problem.domain, settings, rng),
    }
    if name in _WITH_DIRECTIONS:
        options["ref_dirs"] = get_reference_directions(
            "energy", len(problem.objectives), settings.population, seed=1
        )
    if name != "moead":
        options |= {"pop_size": settings.population, "eliminate_duplicates": _NoDuplicates(problem.domain)}
    return _ALGORITHMS[name](**options)


def _generation(
    population: NDArray[Any], adapter: _Adapter, settings: Settings, before: Generation | None
) -> Generation:
    problem = adapter.problem
    rows = population.astype(np.int64)
    values = problem.values(rows)
    F = problem.minimised(values)
    ranks = constrained_ranks(F, problem.violations(values))
    crowding = crowding_distances(F, ranks)
    order = np.lexsort((-crowding, ranks))
    evaluated, evaluated_values = adapter.take_recent()
    feasible = np.flatnonzero(problem.violations(evaluated_values) == 0.0)
    seen = Scored(evaluated, evaluated_values, problem.minimised(evaluated_values)).at(feasible)
    nothing = seen.at(feasible[:0])
    archive = Archive(settings.archive, nothing) if before is None else before.archive
    return Generation(
        problem=problem,
        settings=settings,
        number=0 if before is None else before.number + 1,
        evaluations=adapter.evaluations,
        rows=rows[order],
        values=values[order],
        ranks=ranks[order],
        crowding=crowding[order],
        archive=archive.added(seen),
        random_state={},
    )
