"""Whether constraints can be met, and where they cannot: which of them binds and what is possible instead.

Single bounds are settled by coordinate descent, exact where a column is additive or monotone over genes; sets
of bounds by a short constrained search, so a message about several of them says "found".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from search.engine import Settings, evolve
from search.problem import OBJECTIVES, Constraint, FloatArray, IntArray, Objective, Problem
from supernet.errors import InfeasibleBudget

_STARTS = 4
_SETTINGS = Settings(population=100, archive=1000, starts=0)
_GENERATIONS = 60
_CHECK = 10
_WARM = 100
_STEPS = 30


def feasible_rows(problem: Problem, seed: int = 0) -> IntArray:
    """(k, d) subnets that satisfy all constraints, k >= 1.

    Raises InfeasibleBudget naming the constraints that bind and the best values possible.
    """
    reached = [_row_for(problem, constraint, seed) for constraint in problem.constraints]
    rows = np.vstack([problem.domain.extremes(), *reached])
    if not len(_feasible(problem, rows)):
        rows = _tradeoff(problem, _main_targets, rows, seed)
    best: list[IntArray | None] = []
    for i in range(len(problem.constraints)):
        if len(feasible := _feasible(problem, rows)):
            return feasible
        nearest = rows[np.argsort(problem.violations(problem.values(rows)), kind="stable")[:_WARM]]
        rows = _tradeoff(problem, partial(_one_against_the_rest, i), nearest, seed)
        best.append(_best_for(problem, i, rows))
    found = np.vstack([rows, *(row[None] for row in best if row is not None)])
    if len(feasible := _feasible(problem, found)):
        return feasible
    raise _conflict(problem, best)


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


def _pairs(problem: Problem, row: IntArray) -> IntArray:
    """(k, d) all rows that differ from `row` (d,) in one gene or in two."""
    single = _neighbours(problem, row)
    if not len(single):
        return single
    gene = (single != row).argmax(axis=1)
    one, other = np.nonzero(gene[:, None] < gene)
    double = single[one]
    double[np.arange(len(double)), gene[other]] = single[other, gene[other]]
    return np.vstack([single, double])


def _feasible(problem: Problem, rows: IntArray) -> IntArray:
    feasible: IntArray = rows[problem.violations(problem.values(rows)) == 0.0]
    return feasible


def _excess(problem: Problem, values: FloatArray) -> FloatArray:
    """(n, c) values → (n, constraints) signed relative excess over each bound, at most 0 where it is kept."""
    return np.column_stack(
        [
            bound.sign * (values[:, problem.columns.index(bound.column)] - bound.bound) / bound.scale
            for bound in problem.constraints
        ]
    )


def _main_targets(excess: FloatArray) -> FloatArray:
    """(n, constraints) → (n, 2 to 4): the excesses; of more than four, the rest as one sum of violations."""
    most = OBJECTIVES[1]
    if excess.shape[1] == 1:
        return np.column_stack([excess, excess])
    if excess.shape[1] <= most:
        return excess
    rest = np.maximum(excess[:, most - 1 :], 0.0).sum(axis=1)
    return np.column_stack([excess[:, : most - 1], rest])


def _one_against_the_rest(i: int, excess: FloatArray) -> FloatArray:
    """(n, constraints) → (n, 2): the excess over constraint i, and the sum of violations of the others."""
    return np.column_stack([excess[:, i], np.maximum(np.delete(excess, i, axis=1), 0.0).sum(axis=1)])


def _tradeoff(
    problem: Problem, targets: Callable[[FloatArray], FloatArray], warm: IntArray, seed: int
) -> IntArray:
    """(k, d) front over `targets` of the excesses; ends as soon as it holds a feasible subnet."""
    count = targets(_excess(problem, problem.values(warm[:1]))).shape[1]
    names = tuple(f"target{j}" for j in range(count))

    def evaluate(rows: IntArray) -> dict[str, FloatArray]:
        return dict(zip(names, targets(_excess(problem, problem.values(rows))).T, strict=True))

    free = Problem(
        domain=problem.domain,
        columns=names,
        objectives=tuple(Objective(name, "min") for name in names),
        constraints=(),
        evaluate=evaluate,
        reference=np.zeros(count),
        scale=np.ones(count),
    )
    for generation in evolve(free, settings=_SETTINGS, seed=seed, warm_start=warm):
        if generation.number % _CHECK == 0 and len(_feasible(problem, generation.front.rows)):
            break
        if generation.number >= _GENERATIONS:
            break
    return generation.front.rows


def _improved(problem: Problem, i: int, row: IntArray) -> IntArray:
    """(d,) from a subnet that keeps all bounds but i: the local best of its column under changes of two genes."""
    current = _excess(problem, problem.values(row[None]))[0, i]
    for _ in range(_STEPS):
        near = _pairs(problem, row)
        if not len(near):
            break
        excess = _excess(problem, problem.values(near))
        kept = (np.delete(excess, i, axis=1) <= 0.0).all(axis=1)
        score = np.where(kept, excess[:, i], np.inf)
        best = int(score.argmin())
        if not score[best] < current:
            break
        row, current = near[best], score[best]
    return row


def _best_for(problem: Problem, i: int, rows: IntArray) -> IntArray | None:
    """(d,) the subnet closest to bound i among those that keep all others, None where none was found."""
    excess = _excess(problem, problem.values(rows))
    others = np.flatnonzero((np.delete(excess, i, axis=1) <= 0.0).all(axis=1))
    return _improved(problem, i, rows[others[excess[others, i].argmin()]]) if len(others) else None


def _conflict(problem: Problem, best: Sequence[IntArray | None]) -> InfeasibleBudget:
    """The error for bounds that can be met one by one but not together.

    `best[i]` (d,) is the subnet closest to bound i among those that keep the others.
    """
    possible, binding = [], []
    for bound, row in zip(problem.constraints, best, strict=True):
        if row is not None:
            value = problem.values(row[None])[0, problem.columns.index(bound.column)]
            word = "smallest" if bound.relation == "<=" else "largest"
            binding.append(bound)
            possible.append(f"with the other constraints the {word} {bound.column} found is {value:.6g}")
    culprits = binding or list(problem.constraints)
    return InfeasibleBudget(
        f"No subnet was found that satisfies {' and '.join(map(str, culprits))} together.",
        field=",".join(dict.fromkeys(bound.column for bound in culprits)),
        value=[str(bound) for bound in culprits],
        remedy=f"Relax one: {'; '.join(possible)}." if possible else "Relax several of them.",
    )
