"""Whether constraints can be met, and where they cannot: which of them binds and what is possible instead.

Single bounds are settled by coordinate descents from many starts, exact where a column is additive or monotone over
genes; sets of bounds by a short constrained search. Neither is a proof elsewhere, so messages say "found".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from search.engine import Settings, evolve
from search.problem import OBJECTIVES, Constraint, FloatArray, IntArray, Objective, Problem
from supernet.errors import InfeasibleBudget

_FEW_STARTS, _MANY_STARTS = 4, 32
_SAMPLES_A_START = 100
_SETTINGS = Settings(population=100, archive=1000, starts=4, start_generations=15)
_GENERATIONS = 40
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
    low, high = (_descend(problem, j, sign, seed) for sign in (1.0, -1.0))
    return float(problem.values(low[None])[0, j]), float(problem.values(high[None])[0, j])


def _row_for(problem: Problem, constraint: Constraint, seed: int) -> IntArray:
    """(d,) a subnet far inside one constraint; InfeasibleBudget where even the farthest found is outside."""
    j = problem.columns.index(constraint.column)
    row = _descend(problem, j, constraint.sign, seed, starts=_FEW_STARTS)
    if _exceeds(problem, constraint, row):
        row = _descend(problem, j, constraint.sign, seed)
    if _exceeds(problem, constraint, row):
        ends = np.vstack([row, _descend(problem, j, -constraint.sign, seed)])
        low, high = np.sort(problem.values(ends)[:, j])
        raise InfeasibleBudget(
            f"No subnet was found that satisfies {constraint}.",
            field=constraint.column,
            value=constraint.bound,
            remedy=f"The smallest {constraint.column} found is {low:.6g}, the largest {high:.6g}.",
        )
    return row


def _exceeds(problem: Problem, constraint: Constraint, row: IntArray) -> bool:
    j = problem.columns.index(constraint.column)
    return bool(constraint.violation(problem.values(row[None])[:, j])[0] > 0)


def _descend(
    problem: Problem, column: int, sign: float, seed: int, *, starts: int = _MANY_STARTS
) -> IntArray:
    """(d,) the least sign × column among the local minima, under changes of one gene, that `starts` lead to.

    Starts are the extremes of the domain and the best of a random sample; those that meet go on as one.
    """
    sample = problem.domain.sample(np.random.default_rng(seed), _SAMPLES_A_START * starts)
    best = np.argsort(sign * problem.values(sample)[:, column], kind="stable")[:starts]
    rows = np.vstack([problem.domain.extremes(), sample[best]])
    current = sign * problem.values(rows)[:, column]
    while True:
        near = [_neighbours(problem, row) for row in rows]
        counts = [len(part) for part in near]
        if not sum(counts):
            break
        together = np.vstack(near)
        scores = np.split(sign * problem.values(together)[:, column], np.cumsum(counts)[:-1])
        ways = [
            (float(score.min()), part[int(score.argmin())]) for score, part in zip(scores, near, strict=True)
        ]
        better = [way for way, value in zip(ways, current, strict=True) if way[0] < value]
        ended = [
            (value, row) for way, value, row in zip(ways, current, rows, strict=True) if not way[0] < value
        ]
        kept = [*better, *sorted(ended, key=lambda end: end[0])[:1]]
        rows, once = np.unique(np.array([row for _, row in kept]), axis=0, return_index=True)
        current = np.array([value for value, _ in kept])[once]
        if not better:
            break
    least: IntArray = rows[int(current.argmin())]
    return least


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
