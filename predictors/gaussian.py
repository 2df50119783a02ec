"""Gaussian-process regression on genes: what the search sees of accuracy.

The kernel is (1 - a) k + a k¹⁶, k = exp(-½ Σ_j ((x_j - x'_j) / l_j)²) over genes scaled to [-1, 1], with a length l_j
for each gene, and noise. The second part is what only near neighbours share: a fourth of the lengths, a share `a` of
the variance. The variance is profiled out; lengths, share and noise are the most probable ones under a log-normal
prior of the lengths (Rasmussen and Williams 2006, chapter 5), without which the lengths of thirty genes are too free
for a few hundred subnets. Far from measured subnets the mean returns to the mean of all, so a search cannot run off
to where nothing was measured: a model of pairs of genes, which extrapolates, promised it a subnet of CC 0.778 that
has 0.708.

Notation: n subnets, d genes, s measured subnets (the support).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import batches, scaled_genes
from predictors.threads import in_threads
from supernet.space import Rows

if TYPE_CHECKING:
    from predictors.kernel import Tables

_BATCH = 2048
"""Rows that one core takes at a time: fewer are not worth a second one."""

_LENGTHS = (0.5, 100.0)
_USUAL_LENGTH = 4.5
"""Median of the prior of lengths."""

_SPREAD_OF_LENGTHS = 0.7
"""Standard deviation of the prior of their logarithms."""

_PRIOR = (_USUAL_LENGTH, _SPREAD_OF_LENGTHS)
_NEAR = 16.0
"""Power of the kernel in what near neighbours share: the square of how much shorter its lengths are."""

_SHARES = (1e-4, 0.5)
_FIRST_SHARE = 0.05
_NOISES = (1e-5, 1.0)
_FIRST_NOISE = 0.02
_STEPS = 40
_CHOSEN_ON = 1000
"""Subnets on which lengths, share and noise are chosen: more of them change little and cost with the cube."""


@dataclass(frozen=True, eq=False)
class Support:
    """Measured subnets as a model sees them.

    `genes` (s, d) are scaled to [-1, 1], `lengths` (d,) belong to them; `share` of the variance is what near
    neighbours share, and `noise` comes on top of the variance.
    """

    sizes: NDArray[np.int64]
    genes: FloatArray
    lengths: FloatArray
    share: float
    noise: float

    def deviation(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) standard deviations of what may be measured: 1 far from every measured subnet."""
        from predictors.kernel import kernel

        whitening, tables = self._whitening, self.tables

        def explained(part: Rows) -> FloatArray:
            whitened = kernel(tables, part, self.share) @ whitening
            return np.asarray(np.einsum("ns,ns->n", whitened, whitened), np.float64)

        left = 1.0 + self.noise - _on_all_cores(explained, rows)
        return np.asarray(np.sqrt(np.maximum(left, self.noise)), np.float64)

    def solve(self, z: FloatArray) -> FloatArray:
        """(K + noise I)⁻¹ z for standardised targets z (s,)."""
        return np.asarray(np.linalg.solve(self._covariance(), z), np.float64)

    @cached_property
    def tables(self) -> Tables:
        """What a genotype's kernel is looked up in."""
        from predictors.kernel import tabulate  # numba is slow to import, and only needed to predict

        return tabulate(self.sizes, self.genes, self.lengths)

    @cached_property
    def _whitening(self) -> NDArray[np.float32]:
        """(s, s) L⁻ᵀ of K + noise I = L Lᵀ: the squares of kernel · L⁻ᵀ add up to what is explained."""
        from scipy.linalg import solve_triangular  # slow to import, and only needed for intervals

        factor = np.linalg.cholesky(self._covariance())
        inverse = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
        return np.ascontiguousarray(inverse.T, dtype=np.float32)

    def _covariance(self) -> FloatArray:
        wide, near = _both_parts(self.genes / self.lengths)
        kernel = (1.0 - self.share) * wide + self.share * near
        return np.asarray(kernel + self.noise * np.eye(len(kernel)), np.float64)


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """A fitted process: its `support`, `weights` (s,) and the constant they are added to."""

    support: Support
    weights: FloatArray
    constant: float

    def __call__(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) predictions, in single precision."""
        from predictors.kernel import weighted_sums

        tables, of_both = self.support.tables, self._of_both
        return _on_all_cores(lambda part: weighted_sums(tables, part, of_both), rows) + self.constant

    @cached_property
    def _of_both(self) -> NDArray[np.float32]:
        """The weights of both parts of the kernel."""
        share = self.support.share
        return self.support.tables.weights(np.outer([1.0 - share, share], self.weights))


def _on_all_cores(run: Callable[[Rows], FloatArray], rows: Rows) -> FloatArray:
    """(n,) what `run` gives for batches of `rows` (n, d); few rows are not worth a second core."""
    parts = [rows[piece] for piece in batches(len(rows), _BATCH)] or [rows]
    return np.concatenate(in_threads(run, parts))


def fit_gaussian(
    sizes: NDArray[np.int64],
    rows: Rows,
    target: FloatArray,
    *,
    usual_length: float = _USUAL_LENGTH,
    spread_of_lengths: float = _SPREAD_OF_LENGTHS,
) -> GaussianModel:
    """Fit to the `target` (n,) of the subnets `rows` (n, d).

    `usual_length` and `spread_of_lengths` are the prior's median and the deviation of logarithms.
    """
    x = scaled_genes(sizes, rows)
    centre, spread = float(target.mean()), float(target.std())
    z = (target - centre) / (spread or 1.0)
    prior = (usual_length, spread_of_lengths)
    lengths, share, noise = most_probable(x[:_CHOSEN_ON], z[:_CHOSEN_ON], prior)
    support = Support(np.asarray(sizes, np.int64), x, lengths, share, noise)
    return GaussianModel(support, spread * support.solve(z), centre)


def most_probable(
    x: FloatArray, z: FloatArray, prior: tuple[float, float] = _PRIOR
) -> tuple[FloatArray, float, float]:
    """Lengths (d,), share of near neighbours and noise, for scaled genes (n, d) and a standardised target (n,)."""
    from scipy.optimize import Bounds, minimize  # slow to import, and only needed to fit

    d = x.shape[1]
    start = np.log([prior[0]] * d + [_FIRST_SHARE, _FIRST_NOISE])
    low, high = np.log(np.array([_LENGTHS] * d + [_SHARES, _NOISES])).T
    found = minimize(
        _surprise,
        start,
        (x, z, prior),
        method="L-BFGS-B",
        jac=True,
        bounds=Bounds(low, high),
        options={"maxiter": _STEPS},
    )
    share, noise = np.exp(found.x[d:])
    return np.exp(found.x[:d]), float(share), float(noise)


def _surprise(
    logs: FloatArray, x: FloatArray, z: FloatArray, prior: tuple[float, float] = _PRIOR
) -> tuple[float, FloatArray]:
    """Minus the log posterior, up to a constant, of log lengths, share and noise (d + 2,), and its gradient.

    With C = K + noise I it is ½ n log(zᵀ C⁻¹ z / n) + ½ log |C|.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    n, d = x.shape
    lengths, share, noise = np.exp(logs[:d]), float(np.exp(logs[d])), float(np.exp(logs[d + 1]))
    points = x / lengths
    wide, near = _both_parts(points)
    factor, _ = dpotrf((1.0 - share) * wide + share * near + noise * np.eye(n), lower=1)
    lower = np.tril(dpotri(factor, lower=1)[0])
    inverse = lower + np.tril(lower, -1).T
    dual = inverse @ z
    fit = max(float(z @ dual), 1e-12)
    away = (logs[:d] - np.log(prior[0])) / prior[1]
    value = 0.5 * n * np.log(fit / n) + np.log(np.diag(factor)).sum() + 0.5 * np.square(away).sum()
    by_entry = 0.5 * inverse - 0.5 * n / fit * np.outer(dual, dual)  # d value / d C
    by_square = by_entry * ((1.0 - share) * wide + _NEAR * share * near)
    gradient = np.empty(d + 2)
    # Σ (p - p')² B over pairs is 2 Σ p² (B 1) - 2 pᵀ B p.
    gradient[:d] = (
        2.0 * (by_square.sum(axis=1) @ points**2 - ((by_square @ points) * points).sum(axis=0))
        + away / prior[1]
    )
    gradient[d] = share * (by_entry * (near - wide)).sum()
    gradient[d + 1] = noise * np.trace(by_entry)
    return float(value), gradient


def _both_parts(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, d) genes in units of their lengths → both parts of the kernel of all pairs (n, n)."""
    half = 0.5 * np.square(points).sum(axis=1)
    exponent = np.minimum(points @ points.T - half[:, None] - half, 0.0)
    return np.exp(exponent), np.exp(_NEAR * exponent)
