"""Which subnets to measure next: the batch with the largest expected hypervolume improvement.

Expectations are means over scenarios, each one draw of all prediction errors; a batch is built greedily, which
for this monotone submodular gain reaches at least 1 - 1/e of the best batch. Source: Daulton et al. 2020,
"Differentiable expected hypervolume improvement for parallel multi-objective Bayesian optimization".

Notation: c candidates, s scenarios, m objectives; all F are minimised and in units in which the reference point
`reference` (m,) and the axes bound the dominated volume.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.front import hypervolume
from search.problem import FloatArray, IntArray

_BLOCK = 32


def improvements(F: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """(c, m) points, (p, m) points of a front → (c,) volume that each point alone adds to what those dominate."""
    if F.shape[1] == 2:
        return _areas(F, front, reference)
    gains = np.zeros(len(F))
    unit = np.ones_like(reference)
    for i in np.flatnonzero((reference > F).all(axis=1)).tolist():
        own = np.prod(reference - F[i])
        gains[i] = own - hypervolume(np.maximum(front, F[i]), reference, unit)
    return np.maximum(gains, 0.0)


def _areas(F: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """`improvements` for two objectives: under each step of the front's staircase, a rectangle."""
    steps = front[np.lexsort((front[:, 1], front[:, 0]))]
    left = np.concatenate([[-np.inf], steps[:, 0]])
    right = np.minimum(np.concatenate([steps[:, 0], [np.inf]]), reference[0])
    height = np.minimum.accumulate(np.concatenate([[reference[1]], steps[:, 1]]))
    width = np.maximum(right - np.maximum(left, F[:, :1]), 0.0)
    areas: FloatArray = (width * np.maximum(height - F[:, 1:], 0.0)).sum(axis=1)
    return areas


def best_batch(
    scenarios: FloatArray,
    feasible: NDArray[np.bool_],
    front: FloatArray,
    reference: FloatArray,
    size: int,
) -> tuple[IntArray, float]:
    """Indices of at most `size` candidates, best first, and the improvement expected of all of them together.

    `scenarios` (s, c, m) are objectives and `feasible` (s, c) whether all constraints hold, in each scenario. A
    candidate that improves nothing in any scenario is not chosen.
    """
    fronts = [front] * len(scenarios)

    def gains(candidates: IntArray) -> FloatArray:
        total = np.zeros(len(candidates))
        for F, ok, known in zip(scenarios, feasible, fronts, strict=True):
            total += improvements(F[candidates], known, reference) * ok[candidates]
        return total / len(scenarios)

    # Gains only shrink as the batch grows, so one that was computed earlier is an upper bound.
    bounds = np.full(scenarios.shape[1], np.inf)
    chosen: list[int] = []
    expected = 0.0
    while len(chosen) < size:
        best, most = -1, 0.0
        order = np.argsort(-bounds, kind="stable")
        for start in range(0, len(order), _BLOCK):
            block = order[start : start + _BLOCK]
            if bounds[block[0]] <= most:
                break
            bounds[block] = gains(block)
            first = int(block[bounds[block].argmax()])
            if bounds[first] > most:
                best, most = first, float(bounds[first])
        if best < 0:
            break
        chosen.append(best)
        expected += most
        bounds[best] = 0.0
        fronts = [
            np.vstack([known, scenarios[s, best]]) if feasible[s, best] else known
            for s, known in enumerate(fronts)
        ]
    return np.array(chosen, dtype=np.int64), expected
