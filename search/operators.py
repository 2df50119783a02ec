"""Variation of integer genotypes, whole matrices at a time: sampling, crossover, mutation, duplicates.

Notation: n rows, d genes; rows are (n, d) int64, entry (i, g) one of the choices `Domain` allows for gene g.
Every function draws from the `numpy.random.Generator` it is given and returns new arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

_POOL = 4
"""Rows drawn for each that is wanted: enough to find so many different ones."""


@dataclass(frozen=True)
class Domain:
    """The choices each gene may take, ascending; genes with a single one are fixed."""

    choices: tuple[tuple[int, ...], ...]

    @classmethod
    def full(cls, sizes: NDArray[np.int64]) -> Domain:
        """All choices of each gene; `sizes` (d,)."""
        return cls(tuple(tuple(range(size)) for size in sizes.tolist()))

    def restricted(self, choices: Sequence[NDArray[np.int64]]) -> Domain:
        """The domain with those choices of `choices` (one array per gene) that it has."""
        return Domain(
            tuple(
                tuple(sorted(set(old) & set(new.tolist())))
                for old, new in zip(self.choices, choices, strict=True)
            )
        )

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(d,) number of choices."""
        return np.array([len(choice) for choice in self.choices], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of different rows, exact."""
        return prod(len(choice) for choice in self.choices)

    @cached_property
    def free(self) -> NDArray[np.int64]:
        """Genes with more than one choice."""
        return np.flatnonzero(self.counts > 1)

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """(d, largest count) choice of gene g at position p, padded with the last."""
        width = int(self.counts.max())
        return np.array([(*c, *(c[-1],) * (width - len(c))) for c in self.choices], dtype=np.int64)

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """(d, largest choice + 1) position of a choice in its gene's list, -1 where it is not allowed."""
        positions = np.full((len(self.choices), int(self.table.max()) + 1), -1, dtype=np.int64)
        for gene, choice in enumerate(self.choices):
            positions[gene, list(choice)] = np.arange(len(choice))
        return positions

    @cached_property
    def _weights(self) -> NDArray[np.int64]:
        radices = self.table[:, -1] + 1
        if prod(radices.tolist()) < 2**63:
            return np.append(np.cumprod(radices[::-1])[::-1][1:], 1).astype(np.int64)
        odd = np.random.default_rng(0).integers(-(2**62), 2**62, size=len(radices), dtype=np.int64)
        return odd * 2 + 1

    def hashes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, d) → (n,) int64: the mixed-radix rank below 2⁶³ rows, above that a multiplicative hash."""
        hashes: NDArray[np.int64] = rows @ self._weights
        return hashes

    def contains(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, d) → (n,) whether every gene of the row is an allowed choice."""
        known = (rows >= 0) & (rows < self.positions.shape[1])
        safe = np.where(known, rows, 0)
        inside: NDArray[np.bool_] = (known & (self.positions[np.arange(rows.shape[1]), safe] >= 0)).all(1)
        return inside

    def nearest(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, d) → the same rows with each forbidden choice replaced by the nearest allowed one."""
        repaired = rows.copy()
        for gene, choice in enumerate(self.choices):
            allowed = np.array(choice)
            repaired[:, gene] = allowed[np.abs(rows[:, gene, None] - allowed).argmin(axis=1)]
        return repaired

    def extremes(self) -> NDArray[np.int64]:
        """(2, d): every gene at its first choice, every gene at its last."""
        return np.array([[c[0] for c in self.choices], [c[-1] for c in self.choices]], dtype=np.int64)

    def all_rows(self) -> NDArray[np.int64]:
        """(size, d) every row, the last gene changing fastest."""
        grids = np.meshgrid(*self.choices, indexing="ij")
        return np.stack([grid.reshape(-1) for grid in grids], axis=1).astype(np.int64)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """(n, d), every gene uniform and independent."""
        return self.at(rng.integers(0, self.counts, size=(n, len(self.counts))))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, d) positions in the lists of choices → (n, d) choices."""
        rows: NDArray[np.int64] = self.table[np.arange(len(self.counts)), positions]
        return rows


def initial_rows(domain: Domain, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """n different rows, or all there are: both extremes, the rest uniform.

    Rows whose genes rise and fall together would cover more of the costs, but they begin in one basin: real
    predictors of accuracy have several, and a search that begins there does not leave it.
    """
    if domain.size <= n:
        return domain.all_rows()
    small = domain.size <= _POOL * n
    pool = rng.permutation(domain.all_rows()) if small else domain.sample(rng, _POOL * n)
    return _unlike(np.vstack([domain.extremes(), pool]), domain, n)


def _unlike(rows: NDArray[np.int64], domain: Domain, n: int) -> NDArray[np.int64]:
    return rows[first_of_each(domain.hashes(rows))][:n]


def crossover(
    first: NDArray[np.int64], second: NDArray[np.int64], probability: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Uniform crossover of (n, d) parents: a child takes each gene from either with equal chance.

    With 1 - `probability` it is a copy of the first.
    """
    n, d = first.shape
    bits = np.unpackbits(rng.integers(0, 256, size=(n, (d + 7) // 8), dtype=np.uint8), axis=1, count=d)
    keep = rng.random((n, 1)) >= probability
    return np.where(bits.view(np.bool_) | keep, first, second)


def mutate(
    rows: NDArray[np.int64], domain: Domain, rate: float, step_share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Change each free gene with probability `rate` / (free genes), so `rate` genes a row on average.

    A share `step_share` of the changes is one step up or down the ordered choices (reflected at the ends),
    the rest is a uniform draw among the other choices.
    """
    free = len(domain.free)
    if not free or not len(rows):
        return rows.copy()
    trials = len(rows) * free
    places = rng.integers(0, trials, size=rng.binomial(trials, min(rate / free, 1.0)))
    which, gene = places // free, domain.free[places % free]
    return _changed(rows, which, gene, domain, step_share, rng)


def mutate_once(
    rows: NDArray[np.int64], domain: Domain, step_share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Change exactly one free gene of each row."""
    if not len(domain.free):
        return rows.copy()
    gene = domain.free[rng.integers(0, len(domain.free), size=len(rows))]
    return _changed(rows, np.arange(len(rows)), gene, domain, step_share, rng)


def _changed(
    rows: NDArray[np.int64],
    which: NDArray[np.int64],
    gene: NDArray[np.int64],
    domain: Domain,
    step_share: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    counts = domain.counts[gene]
    old = domain.positions[gene, rows[which, gene]]
    draw = rng.random((3, len(which)))
    reset = (old + 1 + (draw[0] * (counts - 1)).astype(np.int64)) % counts
    step = np.where(draw[1] < 0.5, -1, 1)
    inside = (old + step >= 0) & (old + step < counts)
    new = np.where(draw[2] < step_share, np.where(inside, old + step, old - step), reset)
    changed = rows.copy()
    changed[which, gene] = domain.table[gene, new]
    return changed


def first_of_each(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) hashes → ascending indices of the first occurrence of each."""
    return np.sort(np.unique(hashes, return_index=True)[1])


def new_rows(hashes: NDArray[np.int64], known_sorted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) mask: first occurrences of hashes that are not in the ascending `known_sorted`."""
    fresh = np.zeros(len(hashes), dtype=bool)
    fresh[np.unique(hashes, return_index=True)[1]] = True
    if len(known_sorted):
        place = np.minimum(np.searchsorted(known_sorted, hashes), len(known_sorted) - 1)
        fresh &= known_sorted[place] != hashes
    return fresh
