"""Gaussian-process regression on genes: what the search sees of accuracy.

The kernel is exp(-½ Σ_j ((x_j - x'_j) / l_j)²) over genes scaled to [-1, 1], with a length l_j for each gene and
noise, all at their likeliest (Rasmussen and Williams 2006, chapter 5). Far from measured subnets the mean returns to
the mean of all, so a search cannot run off to where nothing was measured: a model of pairs of genes, which
extrapolates, promised it a subnet of CC 0.778 that has 0.708.

Notation: n subnets, d genes, s measured subnets (the support), t targets.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import batches
from supernet.space import Rows

_BATCH = 1024
_LENGTHS = (0.5, 100.0)
_NOISES = (1e-4, 1.0)


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """A fitted process: `support` (s, d) genes over lengths, `weights` (s,) and the constant they are added to."""

    sizes: NDArray[np.int64]
    lengths: FloatArray
    support: FloatArray
    weights: FloatArray
    constant: float

    def __call__(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) predictions, in single precision."""
        support = self.support.astype(np.float32)
        weights = self.weights.astype(np.float32)
        # -½ |x - s|² = x·s - ½|x|² - ½|s|²: the last term goes into the product as one more column.
        table = np.vstack([support.T, -0.5 * (support**2).sum(axis=1)])
        scale = (2.0 / (self.sizes - 1) / self.lengths).astype(np.float32)
        shift = (1.0 / self.lengths).astype(np.float32)
        result = np.empty(len(rows))
        for piece in batches(len(rows), _BATCH):
            x = rows[piece].astype(np.float32) * scale - shift
            exponent = np.hstack([x, np.ones((len(x), 1), np.float32)]) @ table
            exponent -= 0.5 * np.einsum("nd,nd->n", x, x)[:, None]
            result[piece] = np.exp(exponent, out=exponent) @ weights
        return result + self.constant


def fit_gaussian(sizes: NDArray[np.int64], rows: Rows, targets: FloatArray) -> list[GaussianModel]:
    """Fit one model for each column of `targets` (n, t) on the subnets `rows` (n, d)."""
    # Half a second that only fitting needs.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    x = 2.0 * rows / (sizes - 1) - 1.0
    found = []
    for y in targets.T:
        centre, spread = float(y.mean()), float(y.std()) or 1.0
        start = np.full(len(sizes), 4.0)
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(start, _LENGTHS) + WhiteKernel(0.1, _NOISES)
        with warnings.catch_warnings():
            # A gene that does not matter has no likeliest length, and exact targets no noise.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process = GaussianProcessRegressor(kernel).fit(x, (y - centre) / spread)
        signal = process.kernel_.k1
        lengths = np.asarray(signal.k2.length_scale, dtype=np.float64)
        weights = spread * signal.k1.constant_value * np.ravel(process.alpha_)
        found.append(GaussianModel(np.asarray(sizes, np.int64), lengths, x / lengths, weights, centre))
    return found
