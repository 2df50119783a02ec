"""Regression on single genes and pairs of genes: fitted by ridge, evaluated as one table of pairs.

The model is f(row) = c + Σ f_j(gene j) + Σ f_ij(gene i, gene j). Fitting penalises contrasts (orthogonal
polynomials of the choice) the more, the higher their degree, and products of two genes more than single ones. Ridge
regression is the mean of a Gaussian process, so the three strengths are those that make the targets likeliest
(Rasmussen and Williams 2006, chapter 5); the leave-one-out error picks a far worse one now and then where there are
few subnets. A fitted model is a matrix W over one-hot columns h: f = c + hᵀ W h.

Notation
    n, d, m   subnets, genes, one-hot columns (`predictors.features`)
    t         number of targets
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import batches, columns, contrast_table, contrasts, degrees
from supernet.space import Rows

_DECAYS = (1.0, 0.4)
_PAIR_SCALES = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5)
_RIDGES = tuple(float(x) for x in np.logspace(-4, 2, 25))
_FREE = 100.0
"""Prior variance of the constant, in units of the target's variance: practically free."""

_BATCH = 4096


@dataclass(frozen=True, eq=False)
class PairModel:
    """A fitted model of genes with `sizes` (d,) choices: constant and upper triangular `weights` (m, m)."""

    sizes: NDArray[np.int64]
    constant: float
    weights: FloatArray

    def __call__(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) predictions."""
        gene, choice, weights = self._small
        result = np.empty(len(rows))
        for piece in batches(len(rows), _BATCH):
            h = (rows[piece].astype(np.int8).take(gene, axis=1) == choice).astype(np.float32)
            result[piece] = np.einsum("nm,nm->n", h @ weights, h)
        return result + self.constant

    @cached_property
    def _small(self) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32]]:
        """Gene and choice of each column, and the weights in single precision."""
        named = columns(self.sizes)
        return named.gene, named.choice.astype(np.int8), self.weights.astype(np.float32)

    def __add__(self, other: PairModel) -> PairModel:
        """The model that predicts the sum."""
        return PairModel(self.sizes, self.constant + other.constant, self.weights + other.weights)


@dataclass(frozen=True)
class Penalty:
    """Strengths of the ridge: scale per degree above 1, scale of pairs, ridge; `surprise` is minus the log
    likelihood of the targets, up to a constant."""

    decay: float
    pair_scale: float
    ridge: float
    surprise: float


def fit_pairs(
    sizes: NDArray[np.int64], rows: Rows, targets: FloatArray, *, weights: FloatArray | None = None
) -> list[tuple[PairModel, Penalty]]:
    """Fit one model for each column of `targets` (n, t); `weights` (n,) are inverse noise variances, mean 1."""
    noise = np.ones(len(rows)) if weights is None else weights.mean() / weights
    centre, spread = targets.mean(axis=0), targets.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    y = (targets - centre) / spread / np.sqrt(noise)[:, None]
    x = contrasts(sizes, rows)
    best: list[tuple[Penalty, FloatArray] | None] = [None] * targets.shape[1]
    for decay, pair_scale in product(_DECAYS, _PAIR_SCALES):
        kernel = _kernel(sizes, x * decay ** (degrees(sizes) - 1), pair_scale)
        values, vectors = np.linalg.eigh(kernel / np.sqrt(noise) / np.sqrt(noise)[:, None])
        for t, (surprise, ridge, alpha) in enumerate(_likeliest(values, vectors, y)):
            known = best[t]
            if known is None or surprise < known[0].surprise:
                best[t] = Penalty(decay, pair_scale, ridge, surprise), alpha / np.sqrt(noise)
    found = []
    for t, chosen in enumerate(best):
        assert chosen is not None
        penalty, alpha = chosen
        scales = np.asarray(penalty.decay ** (2.0 * (degrees(sizes) - 1)), np.float64)
        model = pair_model(sizes, x, alpha, scales, penalty.pair_scale * scales)
        constant, unit = float(centre[t]), float(spread[t])
        constant += unit * (model.constant + _FREE * float(alpha.sum()))
        found.append((PairModel(model.sizes, constant, unit * model.weights), penalty))
    return found


def _kernel(sizes: NDArray[np.int64], x: FloatArray, pair_scale: float) -> FloatArray:
    """(n, n) Σ_j k_j + pair_scale² Σ_{i<j} k_i k_j + a free constant, k_j = x_j x_jᵀ the kernel of gene j."""
    gene = columns(sizes).gene
    singles = x @ x.T
    squares = np.zeros_like(singles)
    for j in range(len(sizes)):
        own = x[:, gene == j]
        squares += (own @ own.T) ** 2
    return singles + pair_scale**2 * 0.5 * (singles**2 - squares) + _FREE


def _likeliest(
    values: FloatArray, vectors: FloatArray, y: FloatArray
) -> list[tuple[float, float, FloatArray]]:
    """For each target the least surprise over the ridges, that ridge, and the dual weights (n,).

    The variance of the process is profiled out: surprise = n/2 log(yᵀ C⁻¹ y / n) + 1/2 log |C|, C = K + ridge I.
    """
    spectrum = np.maximum(values, 0.0)[:, None] + np.array(_RIDGES)  # (n, ridges)
    volume = 0.5 * np.log(spectrum).sum(axis=0)
    projected = vectors.T @ y  # (n, t)
    found = []
    for z in projected.T:
        fit = (z[:, None] ** 2 / spectrum).mean(axis=0)
        surprises = 0.5 * len(y) * np.log(np.maximum(fit, 1e-300)) + volume
        chosen = int(surprises.argmin())
        found.append((float(surprises[chosen]), _RIDGES[chosen], vectors @ (z / spectrum[:, chosen])))
    return found


def pair_model(
    sizes: NDArray[np.int64], x: FloatArray, alpha: FloatArray, single: FloatArray, pair: FloatArray
) -> PairModel:
    """The table over one-hot columns that says what a kernel of contrasts does.

    `x` (n, m) are contrasts of subnets and `alpha` (n,) their weights. The kernel of two subnets adds up the products
    of their contrasts, `single` (m,) of each, and for pairs of genes the products of those, `pair` (m,) of each.
    """
    named = columns(sizes)
    linear = single * (x.T @ alpha)  # (m,) weights of contrasts
    quadratic = (x.T * alpha) @ x * np.outer(pair, pair)  # (m, m) of their products
    quadratic[named.gene[:, None] >= named.gene] = 0.0
    # A contrast is affine in the one-hot columns of its gene: x = first + step @ h.
    first = np.concatenate([contrast_table(int(k))[0] for k in sizes])
    step = np.zeros((len(first), len(first)))
    for j, k in enumerate(sizes):
        own = np.ix_(named.gene == j, named.gene == j)
        table = contrast_table(int(k))
        step[own] = (table[1:] - table[0]).T
    constant = linear @ first + first @ quadratic @ first
    linear = step.T @ (linear + (quadratic + quadratic.T) @ first)
    quadratic = np.triu(step.T @ quadratic @ step, 1)
    return PairModel(np.asarray(sizes, np.int64), float(constant), quadratic + np.diag(linear))
