"""Which subnets to measure next: the batch with the largest expected hypervolume improvement.

Expectations are means over scenarios, each one draw of all prediction errors; a batch is built greedily, which
for this monotone submodular gain reaches at least 1 - 1/e of the best batch. Source: Daulton et al. 2020,
"Differentiable expected hypervolume improvement for parallel multi-objective Bayesian optimization".

Notation: c candidates, s scenarios, m objectives; all F are minimised and in units in which the reference point
`reference` (m,) and the axes bound the dominated volume.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from search.front import hypervolume
from search.problem import FloatArray, IntArray


def improvements(F: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """(c, m) points, (p, m) front → (c,) volume that each point alone adds to what the front dominates."""
    gains = np.zeros(len(F))
    inside = np.flatnonzero((reference > F).all(axis=1))
    unit = np.ones_like(reference)
    for i in inside.tolist():
        shadow = np.maximum(front, F[i])
        gains[i] = np.prod(reference - F[i]) - hypervolume(shadow, reference, unit)
    return np.maximum(gains, 0.0)


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

    def gain(candidate: int) -> float:
        total = 0.0
        for s in np.flatnonzero(feasible[:, candidate]).tolist():
            total += float(improvements(scenarios[s, candidate, None], fronts[s], reference)[0])
        return total / len(scenarios)

    # Gains only shrink as the batch grows: one that was computed earlier is an upper bound.
    waiting = [(-gain(i), i, 0) for i in range(scenarios.shape[1])]
    heapq.heapify(waiting)
    chosen: list[int] = []
    expected = 0.0
    while waiting and len(chosen) < size:
        bound, i, known = heapq.heappop(waiting)
        if bound >= 0.0:
            break
        if known < len(chosen):
            heapq.heappush(waiting, (-gain(i), i, len(chosen)))
            continue
        chosen.append(i)
        expected -= bound
        fronts = [
            np.vstack([old, scenarios[s, i]]) if feasible[s, i] else old for s, old in enumerate(fronts)
        ]
    return np.array(chosen, dtype=np.int64), expected
