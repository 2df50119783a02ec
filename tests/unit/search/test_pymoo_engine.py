"""pymoo as an oracle: the own NSGA-II does as well at equal evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from search.engine import Generation, Settings, evolve
from search.front import hypervolume
from search.problem import Problem, make_problem
from search.pymoo_engine import evolve_with_pymoo
from search.synthetic import additive_space
from supernet.errors import SettingsError

AS_PUBLISHED = Settings(population=60, mutation_rate=1.0, archive_share=0.0, starts=0)


def population_hypervolume(run: Iterator[Generation], evaluations: int) -> float:
    for generation in run:
        if generation.evaluations >= evaluations:
            break
    feasible = generation.violations == 0
    return hypervolume(generation.F[feasible], generation.problem.reference, generation.problem.scale)


def both(problem: Problem, seeds: int, evaluations: int) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = [], []
    for seed in range(seeds):
        ours.append(population_hypervolume(evolve(problem, settings=AS_PUBLISHED, seed=seed), evaluations))
        run = evolve_with_pymoo(problem, "pymoo-nsga2", settings=AS_PUBLISHED, seed=seed)
        theirs.append(population_hypervolume(run, evaluations))
    return np.array(ours), np.array(theirs)


def assert_equal_within_noise(ours: np.ndarray, theirs: np.ndarray) -> None:
    error = np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    assert abs(ours.mean() - theirs.mean()) < 3.5 * error


@pytest.mark.parametrize("constraints", [(), ("latency_ms<=2",)])
def test_hypervolume_equals_that_of_pymoo(constraints: tuple[str, ...]) -> None:
    space = additive_space(20, 2, 5)
    assert_equal_within_noise(*both(make_problem(space, space, space.names, constraints), 5, 1800))


@pytest.mark.slow
@pytest.mark.parametrize(("genes", "objectives"), [(27, 2), (45, 2), (27, 3)])
def test_hypervolume_equals_that_of_pymoo_over_20_seeds(genes: int, objectives: int) -> None:
    space = additive_space(genes, objectives, 6)
    assert_equal_within_noise(*both(make_problem(space, space, space.names), 20, 6000))


def test_generations_of_pymoo_look_like_our_own() -> None:
    space = additive_space(12, 2, 5)
    problem = make_problem(space, space, space.names, ["part0.gene0!=0", "latency_ms<=2"])
    for generation in islice(evolve_with_pymoo(problem, "pymoo-nsga2", settings=AS_PUBLISHED), 4):
        assert problem.domain.contains(generation.rows).all()
        np.testing.assert_array_equal(generation.values, problem.values(generation.rows))
        assert len(np.unique(generation.rows, axis=0)) == len(generation.rows)
        assert (generation.front.values[:, 1] <= 2).all()


def test_unknown_names_and_unsupported_bounds_are_refused() -> None:
    space = additive_space(12, 2, 5)
    with pytest.raises(SettingsError, match="nsga3"):
        next(evolve_with_pymoo(make_problem(space, space, space.names), "magic"))
    with pytest.raises(SettingsError, match="no bounds"):
        next(evolve_with_pymoo(make_problem(space, space, space.names, ["latency_ms<=2"]), "moead"))
