"""The engine against exact fronts; determinism, resume, constraints, invariants of every generation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.engine import Generation, Settings, constrained_ranks, evolve
from search.front import crowding_distances, hypervolume
from search.problem import FloatArray, IntArray, Problem, make_problem
from search.synthetic import additive_space
from supernet.errors import CheckpointError, SettingsError

SMALL = Settings(population=40)


def problem_of(
    genes: int = 12, objectives: int = 2, seed: int = 0, constraints: tuple[str, ...] = ()
) -> Problem:
    space = additive_space(genes, objectives, seed, levels=None if objectives == 2 else 20)
    return make_problem(space, space, space.names, constraints)


def nth(problem: Problem, number: int, **arguments: object) -> Generation:
    return next(islice(evolve(problem, **arguments), number, None))  # type: ignore[arg-type]


def assert_same(a: Generation, b: Generation) -> None:
    for name in ("rows", "values", "ranks", "crowding"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for x, y in zip(a.front, b.front, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a.number, a.evaluations, a.random_state) == (b.number, b.evaluations, b.random_state)


@pytest.mark.parametrize(("genes", "objectives"), [(27, 2), (45, 2), (20, 3), (15, 4)])
def test_the_front_reaches_the_exact_hypervolume(genes: int, objectives: int) -> None:
    space = additive_space(genes, objectives, 1, levels=None if objectives == 2 else 10)
    problem = make_problem(space, space, space.names)
    truth = hypervolume(space.exact_front()[0], problem.reference, problem.scale)
    for generation in evolve(problem, seed=3):
        if generation.evaluations >= 110_000:
            break
    assert 0.995 * truth < generation.hypervolume <= truth * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_under_a_budget_the_front_is_the_exact_one_inside_it(seed: int) -> None:
    space = additive_space(20, 2, seed)
    F, _ = space.exact_front()
    budget = float(np.quantile(F[:, 1], 0.4))
    problem = make_problem(space, space, space.names, [f"latency_ms<={budget!r}"])
    truth = hypervolume(F[F[:, 1] <= budget], problem.reference, problem.scale)
    generation = nth(problem, 150)
    assert generation.front.values[:, 1].max() <= budget
    assert generation.hypervolume > 0.995 * truth


@given(st.integers(0, 1000), st.integers(2, 4), st.booleans())
@settings(max_examples=15)
def test_invariants_of_generations(seed: int, objectives: int, bounded: bool) -> None:
    constraints = ("latency_ms<=0.5", "accuracy>=0.2") if bounded else ()
    problem = problem_of(8, objectives, seed, constraints)
    before = None
    for generation in islice(evolve(problem, settings=SMALL, seed=seed), 8):
        assert len(np.unique(generation.rows, axis=0)) == len(generation.rows)
        assert problem.domain.contains(generation.rows).all()
        np.testing.assert_array_equal(generation.values, problem.values(generation.rows))
        order = np.lexsort((-generation.crowding, generation.ranks))
        np.testing.assert_array_equal(order, np.arange(len(order)))
        assert (problem.violations(generation.front.values) == 0).all()
        np.testing.assert_array_equal(generation.front.values, problem.values(generation.front.rows))
        if before is not None:
            assert generation.hypervolume >= before.hypervolume * (1 - 1e-12)
            assert generation.evaluations <= before.evaluations + SMALL.population
        before = generation


@given(st.integers(0, 60), st.integers(1, 25), st.integers(0, 100), st.sampled_from([2, 3]))
@settings(max_examples=12)
def test_a_saved_search_resumes_to_the_identical_generation(
    tmp_path_factory: pytest.TempPathFactory, at: int, more: int, seed: int, objectives: int
) -> None:
    problem = problem_of(14, objectives, seed, ("latency_ms<=3",) if objectives == 2 else ())
    path = tmp_path_factory.mktemp("state") / "state.npz"
    nth(problem, at, settings=SMALL, seed=seed).save(path)
    restored = Generation.load(path, problem)
    resumed = next(islice(evolve(problem, start=restored), more - 1, None))
    assert_same(resumed, nth(problem, at + more, settings=SMALL, seed=seed))


def test_equal_seeds_give_equal_runs_and_others_do_not() -> None:
    problem = problem_of(27)
    assert_same(nth(problem, 30, seed=5), nth(problem, 30, seed=5))
    assert not np.array_equal(nth(problem, 30, seed=5).rows, nth(problem, 30, seed=6).rows)


def test_searches_in_threads_do_not_disturb_each_other() -> None:
    problem = problem_of(27, 3)
    alone = nth(problem, 25, seed=1)
    with ThreadPoolExecutor(4) as pool:
        for generation in pool.map(lambda _: nth(problem, 25, seed=1), range(4)):
            assert_same(generation, alone)


def test_a_generation_does_not_change_after_it_was_yielded() -> None:
    problem = problem_of(20)
    run = evolve(problem, seed=2)
    early = next(islice(run, 5, None))
    copies = early.rows.copy(), early.front.F.copy(), dict(early.random_state)
    next(islice(run, 40, None))
    np.testing.assert_array_equal(early.rows, copies[0])
    np.testing.assert_array_equal(early.front.F, copies[1])
    assert early.random_state == copies[2]


def test_the_population_survives_as_in_the_paper() -> None:
    problem = problem_of(10)
    generation = nth(problem, 12, settings=Settings(population=30, archive_share=0.0))
    np.testing.assert_array_equal(constrained_ranks(generation.F, generation.violations), generation.ranks)
    inner = generation.ranks < generation.ranks.max()
    np.testing.assert_allclose(
        generation.crowding[inner], crowding_distances(generation.F, generation.ranks)[inner]
    )


def test_feasible_come_first_then_the_least_violating() -> None:
    F = np.array([[1.0, 1.0], [0.0, 0.0], [2.0, 2.0], [0.0, 9.0], [5.0, 5.0]])
    violations = np.array([0.0, 0.3, 0.0, 0.1, 0.3])
    assert constrained_ranks(F, violations).tolist() == [0, 3, 1, 2, 3]


def test_without_feasible_subnets_violation_falls() -> None:
    problem = problem_of(20, constraints=("latency_ms<=-1",))
    first, later = (nth(problem, number, settings=Settings(starts=0)) for number in (0, 40))
    assert later.violations.mean() < first.violations.mean() / 2
    assert len(later.front.rows) == 0
    assert later.hypervolume == 0.0


def test_a_warm_start_is_repaired_and_used() -> None:
    space = additive_space(30, 2, 4)
    problem = make_problem(space, space, space.names, ["part0.gene0==0"])
    best = space.exact_front()[1]
    warm, cold = nth(problem, 0, warm_start=best), nth(problem, 0)
    assert (warm.rows[:, 0] == 0).all()
    assert warm.hypervolume > 1.02 * cold.hypervolume


def test_a_space_smaller_than_the_population_does_not_hang() -> None:
    space = additive_space(3, 2, 0, choices=(2,))
    generation = nth(make_problem(space, space, space.names), 20)
    assert generation.evaluations == 8
    assert len(generation.rows) == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"population": 3},
        {"crossover": 1.5},
        {"mutation_rate": 0.0},
        {"step_share": -0.1},
        {"archive": 0},
        {"archive_share": 2.0},
        {"neighbours": 0},
    ],
)
def test_nonsense_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Settings(**wrong)


def test_a_corrupt_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    problem = problem_of()
    for content in (b"", b"nonsense", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not the state of a search"):
            Generation.load(path, problem)
    nth(problem, 2).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="not the state of a search"):
        Generation.load(path, problem)


def test_a_state_of_another_problem_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    nth(problem_of(12), 2).save(path)
    for other in (problem_of(13), problem_of(12, 3), problem_of(12, constraints=("part0.gene0==0",))):
        with pytest.raises(CheckpointError, match="another space"):
            Generation.load(path, other)


def test_a_small_budget_shortens_the_starts_and_a_tiny_one_leaves_them_out() -> None:
    whole = Settings(population=100, starts=6, start_generations=20)
    assert whole.within(None) == whole.within(24_000) == whole
    assert whole.within(12_000) == replace(whole, start_generations=10)
    assert whole.within(2_000).starts == 0
    assert whole.within(12_000).within(12_000) == whole.within(12_000)


def test_evaluations_of_the_starts_are_counted() -> None:
    problem = problem_of(27)
    scored = 0

    def counted(rows: IntArray) -> dict[str, FloatArray]:
        nonlocal scored
        scored += len(rows)
        return dict(problem.evaluate(rows))

    small = Settings(population=30, starts=3, start_generations=5)
    generation = nth(replace(problem, evaluate=counted), 2, settings=small)
    assert generation.evaluations == scored
    assert generation.number == 2
