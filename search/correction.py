"""Predictors corrected by measurements: a Gaussian process over the residuals of measured subnets.

A residual is measured - predicted for a score, log(measured / predicted) for a physical quantity: latencies and
energies are off by a factor. Residuals are modelled as a constant, the bias that a search finds first because it
favours overestimates; plus a part that similar subnets share, correlated as exp(-distance / length); plus a part
of each subnet's own. Far from all measurements the correction is the bias alone, so a search cannot exploit it.
Length and share of the own part are those under which the residuals are likeliest, the variance is profiled out
(Rasmussen and Williams 2006, chapters 2 and 5).

Notation: n measured subnets, k subnets, s scenarios; rows (n, d). The distance of two subnets is the sum over genes
of the difference of their choices, in units of the gene's range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky

from predictors.threads import one_blas_thread
from search.problem import MAXIMISED, FloatArray, IntArray

SCORES = MAXIMISED | {"kld"}
"""Columns whose error is a difference; of every other column it is a factor."""

FEWEST = 3
"""Measurements from which on there is a correction."""

_LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
_OWN_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.999)
_FREE = 100.0
"""Prior variance of the bias, in units of the other variance: practically free."""

_JITTER = 1e-8


@dataclass(frozen=True, eq=False)
class Residuals:
    """The posterior of a Gaussian process fitted to the residuals of `rows` (n, d).

    Of the prior variance of each subnet's deviation from the bias, `variance`, a share `own_share` is the subnet's
    own. `inverse` (n, n) is the inverse covariance of the measured residuals in units of `variance`, `weights` (n,)
    its product with them.
    """

    sizes: IntArray
    rows: IntArray
    length: float
    own_share: float
    variance: float
    inverse: FloatArray
    weights: FloatArray

    def mean(self, rows: IntArray) -> FloatArray:
        """(k, d) subnets → their expected residuals (k,)."""
        expected: FloatArray = self._covariance(rows, self.rows) @ self.weights
        return expected

    def draws(self, rows: IntArray, n: int, rng: np.random.Generator) -> FloatArray:
        """(k, d) unmeasured subnets → n joint draws (n, k) of their residuals less what is expected."""
        cross = self._covariance(rows, self.rows)
        covariance = self._covariance(rows, rows) - cross @ self.inverse @ cross.T
        covariance[np.diag_indices(len(rows))] += self.own_share + _JITTER
        drawn: FloatArray = rng.standard_normal((n, len(rows))) @ cholesky(covariance)
        drawn *= np.sqrt(self.variance)
        return drawn

    def _covariance(self, one: IntArray, other: IntArray) -> FloatArray:
        return _FREE + (1.0 - self.own_share) * np.exp(-distances(self.sizes, one, other) / self.length)


def distances(sizes: IntArray, one: IntArray, other: IntArray) -> FloatArray:
    """(k, d), (n, d) → (k, n) sums over genes of |difference of choices| / (choices - 1)."""
    a, b = _steps(sizes, one), _steps(sizes, other)
    weight = np.repeat(1.0 / np.maximum(sizes - 1, 1), np.maximum(sizes - 1, 1)).astype(np.float32)
    # With choices as runs of ones, |x - y| is x + y - 2 x·y: a matrix product.
    apart = (a @ weight)[:, None] + b @ weight - 2.0 * (a * weight) @ b.T
    return np.maximum(apart, 0.0).astype(np.float64)


def _steps(sizes: IntArray, rows: IntArray) -> NDArray[np.float32]:
    """(k, d) → (k, Σ (choices - 1)) choice i of a gene as i ones, then zeros."""
    counts = np.maximum(sizes - 1, 1)
    gene = np.repeat(np.arange(len(sizes)), counts)
    step = np.concatenate([np.arange(count) for count in counts])
    return (rows[:, gene] > step).astype(np.float32)


def fit_residuals(sizes: IntArray, rows: IntArray, residuals: FloatArray) -> Residuals:
    """Fit to the residuals (n,) of the subnets `rows` (n, d) of a space with `sizes` (d,) choices."""
    n = len(rows)
    apart = distances(sizes, rows, rows)
    least, best = np.inf, None
    for length, own_share in product(_LENGTHS, _OWN_SHARES):
        covariance = _FREE + (1.0 - own_share) * np.exp(-apart / length)
        covariance[np.diag_indices(n)] += own_share + _JITTER
        factor = cho_factor(covariance, lower=True)
        weights = cho_solve(factor, residuals)
        variance = max(float(residuals @ weights) / n, np.finfo(float).tiny)
        surprise = 0.5 * n * np.log(variance) + np.log(np.diag(factor[0])).sum()
        if surprise < least:
            least = surprise
            best = length, own_share, variance, factor, weights
    assert best is not None
    length, own_share, variance, factor, weights = best
    return Residuals(sizes, rows, length, own_share, variance, cho_solve(factor, np.eye(n)), weights)


@dataclass(frozen=True, eq=False)
class ColumnCorrection:
    """The residuals of one column, as factors where `relative`."""

    residuals: Residuals
    relative: bool

    def apply(self, rows: IntArray, predicted: FloatArray) -> FloatArray:
        """(k, d) subnets and their predictions (k,) → corrected predictions."""
        return _with(predicted, self.residuals.mean(rows), self.relative)

    def draws(self, rows: IntArray, expected: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """(k, d) subnets and their corrected predictions (k,) → n joint draws of what might be measured, (n, k)."""
        return _with(expected, self.residuals.draws(rows, n, rng), self.relative)


@dataclass(frozen=True, eq=False)
class Correction:
    """Corrections by column; columns without one are left as they are."""

    by_column: Mapping[str, ColumnCorrection] = field(default_factory=dict)

    def apply(self, rows: IntArray, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """(k, d) subnets and their predicted columns → the columns, corrected."""
        found = dict(columns)
        for name, correction in self.by_column.items():
            found[name] = correction.apply(rows, np.asarray(columns[name], dtype=np.float64))
        return found


@one_blas_thread()
def fit_correction(
    sizes: IntArray,
    rows: IntArray,
    predicted: Mapping[str, FloatArray],
    measured: Mapping[str, FloatArray],
) -> Correction:
    """Correct every column of `measured` (n,) against what was `predicted` (n,); nothing after fewer than three."""
    if len(rows) < FEWEST:
        return Correction()
    by_column = {}
    for name, values in measured.items():
        said = predicted[name]
        relative = name.partition("@")[0] not in SCORES and bool((said > 0).all() and (values > 0).all())
        residuals = np.log(values / said) if relative else values - said
        by_column[name] = ColumnCorrection(fit_residuals(sizes, rows, residuals), relative)
    return Correction(by_column)


def _with(values: FloatArray, residuals: FloatArray, relative: bool) -> FloatArray:
    return values * np.exp(residuals) if relative else values + residuals
