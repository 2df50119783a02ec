"""The nondominated subnets of a whole run, bounded, as an immutable value.

Notation: a subnets kept, d genes, c columns, m objectives; F (a, m) is minimised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from search.front import crowding_distances, nondominated
from search.problem import FloatArray, IntArray

_SLACK = 256


class Scored(NamedTuple):
    """Subnets with what is known of them: rows (n, d), values (n, c), F (n, m)."""

    rows: IntArray
    values: FloatArray
    F: FloatArray

    def at(self, index: IntArray) -> Scored:
        """The subnets at the indices (k,)."""
        return Scored(self.rows[index], self.values[index], self.F[index])


@dataclass(frozen=True)
class Archive:
    """`kept` are nondominated; `recent` wait to be merged once they are as many, which spreads the cost.

    Of a front larger than `limit` the least crowded subnets stay.
    """

    limit: int
    kept: Scored
    recent: tuple[Scored, ...] = ()

    @cached_property
    def waiting(self) -> int:
        """Number of recent subnets."""
        return sum(len(scored.rows) for scored in self.recent)

    def added(self, scored: Scored) -> Archive:
        """The archive with more feasible subnets."""
        if not len(scored.rows):
            return self
        grown = replace(self, recent=(*self.recent, scored))
        return grown.merged if grown.waiting > len(self.kept.rows) + _SLACK else grown

    @cached_property
    def merged(self) -> Archive:
        """The same archive with nothing waiting; its `kept` is the front."""
        if not self.recent:
            return self
        everything = Scored(*map(np.concatenate, zip(self.kept, *self.recent, strict=True)))
        kept = everything.at(np.flatnonzero(nondominated(everything.F)))
        return Archive(self.limit, kept.at(_least_crowded(kept.F, self.limit)))

    def neighbours(
        self, rng: np.random.Generator, n: int, candidates: int, scale: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Two (n, d) matrices: random subnets and, of `candidates` random others, the closest to each in F.

        Distances are Euclidean with objective j in units of `scale[j]`.
        """
        size = len(self.kept.rows)
        one = rng.integers(0, size, size=n)
        others = rng.integers(0, size, size=(candidates, n))
        apart = np.zeros(others.shape)
        for column, unit in zip(self.kept.F.T, scale, strict=True):
            apart += ((column[others] - column[one]) / unit) ** 2
        apart[others == one] = np.inf
        return self.kept.rows[one], self.kept.rows[others[apart.argmin(axis=0), np.arange(n)]]


def _least_crowded(F: FloatArray, limit: int) -> IntArray:
    """Ascending indices of the `limit` points of a front (n, m) with the greatest crowding distances."""
    if len(F) <= limit:
        return np.arange(len(F))
    crowding = crowding_distances(F, np.zeros(len(F), dtype=np.int64))
    return np.sort(np.argsort(-crowding, kind="stable")[:limit])
