"""Subnets that cover a whole space, its ends as well as its middle.

Genes drawn independently make subnets of nearly one size: in `salnas` three quarters of them lie in three of
ten bands of log macs, and the outer two at each end are empty. Here subnets are drawn with a leaning towards
small or large choices, and then picked so that every band of log macs, within each resolution, holds equally
many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supernet.cost import cost
from supernet.space import Rows, Space

_STEEPEST = 7.0
_POOL = 20_000
"""Candidates; so many whatever is asked for, so that more subnets of one seed begin with the fewer."""

_BANDS = 20


def covering_rows(space: Space, rng: np.random.Generator, n: int, *, bands: int = _BANDS) -> Rows:
    """(≤ n, d) different genotypes spread evenly over log macs within each resolution.

    The first two are the smallest and the largest subnet; the others come in an order in which every prefix
    covers the space too, and equals what a smaller n gives (up to 2000). Fewer than n only where the space holds
    fewer.
    """
    ends = np.stack([np.zeros_like(space.sizes), space.sizes - 1])
    candidates = max(_POOL, 10 * n)
    pool = np.concatenate([ends, leaning_rows(space, rng, candidates), space.sample(rng, candidates // 10)])
    if space.size <= len(pool):
        pool = np.concatenate([ends, space.rows_of_indices(rng.permutation(space.size))])
    _, first = np.unique(space.indices(pool), return_index=True)
    pool = pool[np.sort(first)]
    band = _bands(space, pool, bands)
    taken = _round_robin(band[2:], n - 2)
    return np.concatenate([pool[:2], pool[2:][taken]])[:n]


def leaning_rows(space: Space, rng: np.random.Generator, n: int) -> Rows:
    """(n, d) genotypes, each with its own leaning towards small or large choices and some genes against it."""
    lean = rng.uniform(-_STEEPEST, _STEEPEST, size=(n, 1)) + rng.normal(0.0, 2.0, size=(n, len(space.sizes)))
    rows = np.empty((n, len(space.sizes)), dtype=np.int64)
    for gene, k in enumerate(space.sizes):
        weights = np.exp(lean[:, [gene]] * np.linspace(-0.5, 0.5, int(k)))
        cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
        rows[:, gene] = (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)
    if space.genes[0].name == "resolution":
        rows[:, 0] = rng.integers(0, space.sizes[0], n)
    return rows


def size_levels(space: Space, rows: Rows) -> NDArray[np.float64]:
    """(n,) where a subnet lies between the smallest (0) and the largest (1) of its resolution, by log macs."""
    low, high = np.zeros_like(rows), np.broadcast_to(space.sizes - 1, rows.shape).copy()
    if space.genes[0].name == "resolution":
        low[:, 0] = high[:, 0] = rows[:, 0]
    own, least, most = (np.log(cost(space, r).macs) for r in (rows, low, high))
    return np.asarray((own - least) / (most - least), dtype=np.float64)


def _bands(space: Space, rows: Rows, bands: int) -> NDArray[np.int64]:
    level = np.minimum((size_levels(space, rows) * bands).astype(np.int64), bands - 1)
    return level * int(space.sizes[0]) + rows[:, 0] if space.genes[0].name == "resolution" else level


def _round_robin(band: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(≤ n,) positions: one of each band, then another of each, and so on; bands in a scattered order."""
    order = np.argsort(band, kind="stable")
    starts = np.searchsorted(band[order], band[order])
    turn = np.arange(len(band)) - starts
    scattered = (band[order] * 0.6180339887498949) % 1.0
    return order[np.lexsort((scattered, turn))][: max(n, 0)]
