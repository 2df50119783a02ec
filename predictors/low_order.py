"""A kernel of single genes and of pairs of genes: Σ_j u_j k_j + Σ_{i<j} p_i p_j k_i k_j.

k_j compares two choices of gene j by the orthonormal polynomials of its choices, each degree with half the variance
of the one below. The sum over pairs is that of the elementary symmetric polynomial of degree two, ½ ((Σ p k)² - Σ
(p k)²), so that pairs cost no more than genes (Duvenaud, Nickisch and Rasmussen 2011, additive Gaussian processes).

Notation
    n, s, d   subnets, subnets they are compared with, genes
    c         choices of all genes together
    u, p      (d,) variances of single genes, and standard deviations that genes bring into pairs
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import contrast_table, contrasts, degrees
from predictors.pairs import PairModel, pair_model
from supernet.space import Rows

_BY_DEGREE = 0.5
"""Variance of a degree over that of the one below."""


@dataclass(frozen=True, eq=False)
class Choices:
    """n subnets by their choices: `gene` (c,) of each column, `present` (n, c) ones and zeros, `similar` (n, c) what
    k_j says of a subnet's choice and each choice of gene j."""

    gene: NDArray[np.int64]
    present: FloatArray
    similar: FloatArray

    def sums(self, other: Choices, p: FloatArray) -> FloatArray:
        """(n, s) Σ_j p_j k_j."""
        return np.asarray((self.similar * p[self.gene]) @ other.present.T, np.float64)

    def kernel(
        self, other: Choices, u: FloatArray, p: FloatArray, sums: FloatArray | None = None
    ) -> FloatArray:
        """(n, s) the kernel; `sums` as above where they are known."""
        sums = self.sums(other, p) if sums is None else sums
        own = self.similar * u[self.gene] - 0.5 * np.square(self.similar * p[self.gene])
        return np.asarray(0.5 * np.square(sums) + own @ other.present.T, np.float64)

    def variance(self, u: FloatArray, p: FloatArray) -> FloatArray:
        """(n,) the kernel of each subnet and itself."""
        own = self.similar * self.present
        singles = own @ u[self.gene] - 0.5 * np.square(own) @ np.square(p)[self.gene]
        return np.asarray(singles + 0.5 * np.square(own @ p[self.gene]), np.float64)

    def slopes(self, by_entry: FloatArray, sums: FloatArray, u: FloatArray, p: FloatArray) -> FloatArray:
        """(2, d) derivatives by log u and log p of what has the derivatives `by_entry` (n, n) by the kernel."""
        of_similar = self._by_gene(by_entry @ self.similar)
        of_sums = self._by_gene((by_entry * sums) @ self.similar)
        of_squares = self._by_gene(by_entry @ np.square(self.similar))
        return np.stack([u * of_similar, p * of_sums - p**2 * of_squares])

    def _by_gene(self, columns: FloatArray) -> FloatArray:
        """(n, c) → (d,) sums over the choices that are present."""
        found: FloatArray = np.bincount(self.gene, (columns * self.present).sum(axis=0)).astype(np.float64)
        return found


def choices(sizes: NDArray[np.int64], rows: Rows) -> Choices:
    """(n, d) genotypes as choices."""
    gene = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum(sizes) - sizes
    present = np.zeros((len(rows), len(gene)))
    np.put_along_axis(present, first + rows, 1.0, axis=1)
    similar = np.hstack([_kernel_of(int(k))[rows[:, j]] for j, k in enumerate(sizes)])
    return Choices(gene, present, similar)


def low_order_model(
    sizes: NDArray[np.int64], rows: Rows, weights: FloatArray, u: FloatArray, p: FloatArray
) -> PairModel:
    """The kernel between any subnet and `rows` (s, d), times `weights` (s,), summed, as a table of pairs."""
    gene, decays = np.repeat(np.arange(len(sizes)), sizes - 1), _BY_DEGREE ** (degrees(sizes) - 1)
    return pair_model(sizes, contrasts(sizes, rows), weights, decays * u[gene], decays * p[gene])


def _kernel_of(k: int) -> FloatArray:
    """(k, k) the kernel of a gene with k choices."""
    table = contrast_table(k)
    return np.asarray(table * _BY_DEGREE ** np.arange(k - 1) @ table.T, np.float64)
