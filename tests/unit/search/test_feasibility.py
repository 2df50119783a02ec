"""An infeasible budget names what binds and what is possible, fast."""

from __future__ import annotations

import time

import numpy as np
import pytest

from search.feasibility import feasible_rows, possible_range
from search.problem import Problem, make_problem
from search.synthetic import additive_space
from supernet.errors import InfeasibleBudget

SPACE = additive_space(27, 3, 7)
F, _ = SPACE.exact_front()
SMALLEST = F.min(axis=0)
LARGEST = np.array([sum(t[-1, j] for t in SPACE.tables) for j in range(3)])


def problem_with(*constraints: str) -> Problem:
    return make_problem(SPACE, SPACE, ("accuracy", "latency_ms"), constraints)


def test_the_possible_range_of_an_additive_column_is_exact() -> None:
    low, high = possible_range(problem_with(), "latency_ms")
    assert low == pytest.approx(0.0)
    assert high == pytest.approx(LARGEST[1])


def test_the_possible_range_respects_fixed_genes() -> None:
    table = SPACE.tables[0]
    _, high = possible_range(problem_with("part0.gene0==0"), "latency_ms")
    assert high == pytest.approx(LARGEST[1] - table[-1, 1])


def test_one_bound_out_of_reach_says_the_range() -> None:
    start = time.process_time()
    with pytest.raises(InfeasibleBudget) as caught:
        feasible_rows(problem_with("latency_ms<=-1", "macs<=5"))
    assert time.process_time() - start < 1.0
    assert caught.value.field == "latency_ms"
    assert caught.value.value == -1.0
    assert f"largest {LARGEST[1]:.6g}" in str(caught.value)


def test_two_bounds_that_conflict_are_both_named_with_the_best_of_each() -> None:
    accuracy, latency = -F[:, 0], F[:, 1]
    wanted = 0.8 * accuracy.max()
    needed = latency[accuracy >= wanted].min()
    problem = problem_with(f"accuracy>={wanted}", f"latency_ms<={needed * 0.95}", "macs<=1e9")
    start = time.process_time()
    with pytest.raises(InfeasibleBudget) as caught:
        feasible_rows(problem)
    assert time.process_time() - start < 1.0
    assert caught.value.field == "accuracy,latency_ms"
    assert "macs" not in str(caught.value)
    said = float(str(caught.value).split("smallest latency_ms found is ")[1].rstrip("."))
    assert said == pytest.approx(needed, rel=0.01)
    assert said >= needed * (1 - 1e-5)


def test_bounds_that_can_be_met_return_subnets_inside() -> None:
    accuracy, latency = -F[:, 0], F[:, 1]
    wanted = 0.8 * accuracy.max()
    needed = latency[accuracy >= wanted].min()
    problem = problem_with(f"accuracy>={wanted}", f"latency_ms<={needed * 1.02}")
    rows = feasible_rows(problem)
    assert len(rows) >= 1
    assert (problem.violations(problem.values(rows)) == 0).all()
