"""Gaussian-process regression on genes: what the search sees of accuracy.

The kernel is exp(-½ Σ_j ((x_j - x'_j) / l_j)²) over genes scaled to [-1, 1], with a length l_j for each gene and
noise. All targets share them, and each has a variance of its own, which is profiled out: metrics of one network
depend on the same genes, and one decomposition serves all. Lengths and noise are the most probable ones under a
log-normal prior of the lengths (Rasmussen and Williams 2006, chapter 5), without which the lengths of thirty genes
are too free for a few hundred subnets. Far from measured subnets the mean returns to the mean of all, so a search
cannot run off to where nothing was measured: a model of pairs of genes, which extrapolates, promised it a subnet of
CC 0.778 that has 0.708.

Notation: n subnets, d genes, s measured subnets (the support), t targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import batches, scaled_genes
from supernet.space import Rows

_BATCH = 1024
_LENGTHS = (0.5, 100.0)
_USUAL_LENGTH = 4.5
"""Median of the prior of lengths."""

_SPREAD_OF_LENGTHS = 0.7
"""Standard deviation of the prior of their logarithms."""

_PRIOR = (_USUAL_LENGTH, _SPREAD_OF_LENGTHS)
_NOISES = (1e-4, 1.0)
_FIRST_NOISE = 0.02
_STEPS = 60
_CHOSEN_ON = 500
"""Subnets on which lengths and noise are chosen: more of them change little and cost with the cube."""


@dataclass(frozen=True, eq=False)
class Support:
    """Measured subnets as the models of all targets see them.

    `points` (s, d) are their genes over `lengths` (d,); `noise` is a share of the variance.
    """

    sizes: NDArray[np.int64]
    lengths: FloatArray
    points: FloatArray
    noise: float

    def kernels(self, rows: Rows) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """For batch after batch of `rows` (n, d), where it lies and its kernel (b, s) in single precision."""
        scale, shift, table = self._single
        for piece in batches(len(rows), _BATCH):
            x = np.empty((piece.stop - piece.start, len(scale) + 2), np.float32)
            np.multiply(rows[piece], scale, out=x[:, :-2], casting="unsafe")
            x[:, :-2] -= shift
            x[:, -2] = -0.5 * np.einsum("nd,nd->n", x[:, :-2], x[:, :-2])
            x[:, -1] = 1.0
            exponent = x @ table
            yield piece, np.exp(exponent, out=exponent)

    def deviation(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) standard deviations of what may be measured: 1 far from every measured subnet."""
        explained = np.empty(len(rows))
        for piece, kernel in self.kernels(rows):
            whitened = kernel @ self._whitening
            explained[piece] = np.einsum("ns,ns->n", whitened, whitened)
        return np.asarray(np.sqrt(np.maximum(1.0 + self.noise - explained, self.noise)), np.float64)

    def solve(self, z: FloatArray) -> FloatArray:
        """(K + noise I)⁻¹ z for standardised targets z (s, t)."""
        return np.asarray(np.linalg.solve(self._covariance(), z), np.float64)

    @cached_property
    def _single(self) -> tuple[NDArray[np.float32], ...]:
        """Scale and shift of genes, and (d + 2, s) what gives -½ |x - s|² = x·s - ½|x|² - ½|s|²."""
        points = self.points.astype(np.float32)
        table = np.vstack([points.T, np.ones(len(points)), -0.5 * (points**2).sum(axis=1)])
        scale = 2.0 / (self.sizes - 1) / self.lengths
        return tuple(part.astype(np.float32) for part in (scale, 1.0 / self.lengths, table))

    @cached_property
    def _whitening(self) -> NDArray[np.float32]:
        """(s, s) L⁻ᵀ of K + noise I = L Lᵀ: the squares of kernel · L⁻ᵀ add up to what is explained."""
        from scipy.linalg import solve_triangular  # slow to import, and only needed for intervals

        factor = np.linalg.cholesky(self._covariance())
        inverse = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
        return np.ascontiguousarray(inverse.T, dtype=np.float32)

    def _covariance(self) -> FloatArray:
        half = 0.5 * np.square(self.points).sum(axis=1)
        kernel = np.exp(np.minimum(self.points @ self.points.T - half[:, None] - half, 0.0))
        return np.asarray(kernel + self.noise * np.eye(len(half)), np.float64)


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """A fitted process: its `support`, `weights` (s,) and the constant they are added to."""

    support: Support
    weights: FloatArray
    constant: float

    def __call__(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) predictions, in single precision."""
        result = np.empty(len(rows))
        weights = self.weights.astype(np.float32)
        for piece, kernel in self.support.kernels(rows):
            result[piece] = kernel @ weights
        return result + self.constant


def fit_gaussian(
    sizes: NDArray[np.int64],
    rows: Rows,
    targets: FloatArray,
    *,
    usual_length: float = _USUAL_LENGTH,
    spread_of_lengths: float = _SPREAD_OF_LENGTHS,
) -> list[GaussianModel]:
    """Fit one model for each column of `targets` (n, t) on the subnets `rows` (n, d); they share their support.

    `usual_length` and `spread_of_lengths` are the prior's median and the deviation of logarithms.
    """
    x = scaled_genes(sizes, rows)
    centre, spread = targets.mean(axis=0), targets.std(axis=0)
    z = (targets - centre) / np.where(spread > 0, spread, 1.0)
    prior = (usual_length, spread_of_lengths)
    lengths, noise = most_probable(x[:_CHOSEN_ON], z[:_CHOSEN_ON], prior)
    support = Support(np.asarray(sizes, np.int64), lengths, x / lengths, noise)
    weights = spread * support.solve(z)
    return [GaussianModel(support, weights[:, t], float(centre[t])) for t in range(targets.shape[1])]


def most_probable(
    x: FloatArray, z: FloatArray, prior: tuple[float, float] = _PRIOR
) -> tuple[FloatArray, float]:
    """Lengths (d,) of the genes and noise over variance, for scaled genes (n, d) and standardised targets (n, t)."""
    from scipy.optimize import Bounds, minimize  # slow to import, and only needed to fit

    d = x.shape[1]
    squares = (x.T[:, :, None] - x.T[:, None, :]) ** 2  # (d, n, n)
    start = np.append(np.full(d, np.log(prior[0])), np.log(_FIRST_NOISE))
    low, high = np.log(np.array([_LENGTHS] * d + [_NOISES])).T
    found = minimize(
        _surprise,
        start,
        (squares, z, prior),
        method="L-BFGS-B",
        jac=True,
        bounds=Bounds(low, high),
        options={"maxiter": _STEPS},
    )
    return np.exp(found.x[:d]), float(np.exp(found.x[d]))


def _surprise(
    logs: FloatArray, squares: FloatArray, z: FloatArray, prior: tuple[float, float] = _PRIOR
) -> tuple[float, FloatArray]:
    """Minus the log posterior, up to a constant, of log lengths and log noise (d + 1,), and its gradient.

    With K = kernel + noise I, each target adds ½ n log(zᵀ K⁻¹ z / n) + ½ log |K|.
    """
    from scipy.linalg import cho_factor, cho_solve

    d, n, _ = squares.shape
    t = z.shape[1]
    sharpness, noise = np.exp(-2.0 * logs[:d]), float(np.exp(logs[d]))
    kernel = np.exp(-0.5 * np.tensordot(sharpness, squares, 1))
    factor = cho_factor(kernel + noise * np.eye(n), lower=True)
    inverse = cho_solve(factor, np.eye(n))
    dual = inverse @ z
    fit = np.maximum((z * dual).sum(axis=0), 1e-12)
    away = (logs[:d] - np.log(prior[0])) / prior[1]
    value = 0.5 * n * np.log(fit / n).sum() + t * np.log(np.diag(factor[0])).sum()
    by_entry = 0.5 * t * inverse - 0.5 * n * (dual / fit) @ dual.T  # d value / d K
    gradient = np.empty(d + 1)
    gradient[:d] = np.tensordot(squares, by_entry * kernel, 2) * sharpness + t * away / prior[1]
    gradient[d] = noise * np.trace(by_entry)
    return float(value + 0.5 * t * np.square(away).sum()), gradient
