"""Whether constraints can be met, and where they cannot: which of them binds and what is possible instead.

Single bounds are settled by coordinate descent, exact where a column is additive or monotone over genes; sets
of bounds by a short constrained search, so a message about several of them says "found".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search.engine import Generation, Settings, evolve
from search.problem import Constraint, FloatArray, IntArray, Objective, Problem
from supernet.errors import InfeasibleBudget

_STARTS = 4
_SETTINGS = Settings(population=100, archive=500)
_GENERATIONS = 60


def feasible_rows(problem: Problem, seed: int = 0) -> IntArray:
    """(k, d) subnets that satisfy all constraints, k >= 1.

    Raises InfeasibleBudget naming the constraints that bind and the best values possible.
    """
    reached = [_row_for(problem, constraint, seed) for constraint in problem.constraints]
    warm = np.vstack([problem.domain.extremes(), *reached])
    feasible: IntArray = warm[problem.violations(problem.values(warm)) == 0.0]
    if len(feasible):
        return feasible
    last = _run(problem, warm, seed)
    if len(last.front.rows):
        return last.front.rows
    raise _conflict(problem, warm, seed)


def possible_range(problem: Problem, column: str, seed: int = 0) -> tuple[float, float]:
    """Smallest and largest value of a column found in the domain, bounds on other columns ignored."""
    j = problem.columns.index(column)
    low = _descend(problem, j, 1.0, seed)
    high = _descend(problem, j, -1.0, seed)
    return float(problem.values(low[None])[0, j]), float(problem.values(high[None])[0, j])


def _row_for(problem: Problem, constraint: Constraint, seed: int) -> IntArray:
    """(d,) the subnet farthest inside one constraint; InfeasibleBudget where even that is outside."""
    j = problem.columns.index(constraint.column)
    row = _descend(problem, j, constraint.sign, seed)
    value = problem.values(row[None])[:, j]
    if constraint.violation(value)[0] > 0:
        low, high = possible_range(problem, constraint.column, seed)
        raise InfeasibleBudget(
            f"No subnet satisfies {constraint}.",
            field=constraint.column,
            value=constraint.bound,
            remedy=f"The smallest possible {constraint.column} is {low:.6g}, the largest {high:.6g}.",
        )
    return row


def _descend(problem: Problem, column: int, sign: float, seed: int) -> IntArray:
    """(d,) local minimum of sign × column under single-gene changes, the best of a few starts."""
    domain = problem.domain
    starts = [*domain.extremes(), *domain.sample(np.random.default_rng(seed), _STARTS)]
    best_row: IntArray = starts[0]
    best = np.inf
    for start in starts:
        row = start
        current = float(sign * problem.values(row[None])[0, column])
        while True:
            near = _neighbours(problem, row)
            if not len(near):
                break
            scores = sign * problem.values(near)[:, column]
            winner = int(scores.argmin())
            if not scores[winner] < current:
                break
            row, current = near[winner], float(scores[winner])
        if current < best:
            best_row, best = row, current
    return best_row


def _neighbours(problem: Problem, row: IntArray) -> IntArray:
    """(k, d) all rows that differ from `row` (d,) in one gene."""
    gene = np.repeat(np.arange(len(row)), problem.domain.counts)
    choice = np.concatenate([np.array(c, dtype=np.int64) for c in problem.domain.choices])
    other = choice != row[gene]
    near = np.tile(row, (int(other.sum()), 1))
    near[np.arange(len(near)), gene[other]] = choice[other]
    return near


def _run(problem: Problem, warm: IntArray, seed: int) -> Generation:
    for generation in evolve(problem, settings=_SETTINGS, seed=seed, warm_start=warm):
        if generation.number >= _GENERATIONS or (len(generation.front.rows) and problem.constraints):
            break
    return generation


def _conflict(problem: Problem, warm: IntArray, seed: int) -> InfeasibleBudget:
    """The error for bounds that can be met one by one but not together."""
    possible, binding = [], []
    for constraint in problem.constraints:
        best = _best_under_others(problem, constraint, warm, seed)
        if best is not None:
            word = "smallest" if constraint.relation == "<=" else "largest"
            binding.append(constraint)
            possible.append(f"with the other constraints the {word} {constraint.column} found is {best:.6g}")
    culprits = binding or list(problem.constraints)
    return InfeasibleBudget(
        f"No subnet was found that satisfies {_listed(culprits)} together.",
        field=",".join(dict.fromkeys(constraint.column for constraint in culprits)),
        value=[str(constraint) for constraint in culprits],
        remedy=(f"Relax one: {'; '.join(possible)}." if possible else "Relax several of them."),
    )


def _best_under_others(problem: Problem, constraint: Constraint, warm: IntArray, seed: int) -> float | None:
    """Best value of one constraint's column while the others hold; None where those conflict already."""
    others = tuple(c for c in problem.constraints if c is not constraint)
    j = problem.columns.index(constraint.column)
    target = Objective(constraint.column, "min" if constraint.sign > 0 else "max")
    second = next(o for o in problem.objectives if o.name != constraint.column)
    relaxed = replace(
        problem, constraints=others, objectives=(target, second), reference=np.zeros(2), scale=np.ones(2)
    )
    for generation in evolve(relaxed, settings=_SETTINGS, seed=seed, warm_start=warm):
        if generation.number >= _GENERATIONS:
            break
    column: FloatArray = generation.front.values[:, j]
    if not len(column):
        return None
    return float(column.min() if constraint.sign > 0 else column.max())


def _listed(constraints: Sequence[Constraint]) -> str:
    return " and ".join(str(constraint) for constraint in constraints)
