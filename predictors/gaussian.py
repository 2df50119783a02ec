"""Gaussian-process regression on genes: what the search sees of accuracy.

Beside its genes it is told which shortcuts of a subnet are the identity (`Space.traits`); both are called genes here.
The kernel adds up what single genes say, what pairs of genes say (`predictors.low_order`) and what all genes say
together: exp(-½ Σ_j ((x_j - x'_j) / l_j)²) over genes scaled to [-1, 1], with a length l_j for each, and the same
again with shorter lengths. With noise, and the variance profiled out, its 4 d + 2 parameters are the most probable
ones under log-normal priors (Rasmussen and Williams 2006, chapter 5), without which they are too free for a few
hundred subnets. Genes alone and in pairs carry far, the rest returns to nothing away from measured subnets; a model
of pairs alone has to explain with pairs what is none, and promised a search a subnet of CC 0.778 that has 0.708.

Notation: n subnets, d genes with those of shortcuts, s measured subnets (the support).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import batches, scaled_genes
from predictors.low_order import Choices, choices, low_order_model
from predictors.pairs import PairModel
from predictors.threads import in_threads
from supernet.space import Rows, Space

if TYPE_CHECKING:
    from predictors.kernel import Tables

_BATCH = 2048
"""Rows that one core takes at a time: fewer are not worth a second one."""

_USUAL_LENGTH, _NEAR_OVER_FAR, _LENGTHS = 4.5, 0.45, (0.5, 100.0)
_USUAL_NEAR, _USUAL_SINGLE, _USUAL_PAIR, _SCALES = 0.2, 0.1, 0.05, (1e-5, 100.0)
"""Medians of the priors, beside a variance of 1 of what all genes say together with the far lengths; limits."""

_SPREAD_OF_LENGTHS, _SPREAD_OF_SCALES = 0.7, 1.5
"""Standard deviations of the priors of their logarithms."""

_NOISES = (1e-5, 1.0)
_FIRST_NOISE = 0.02
_STEPS = 30
_CHOSEN_ON = 1000
"""Subnets on which the parameters are chosen: more of them change little and cost with the cube."""


class Parameters(NamedTuple):
    """Of the kernel: `lengths` (2, d), far and near, `singles` (variances) and `pairs` (standard deviations) of
    genes, (d,) each, and the variances of what all genes say together `near` a subnet and of the `noise`."""

    lengths: FloatArray
    singles: FloatArray
    pairs: FloatArray
    near: float
    noise: float


@dataclass(frozen=True, eq=False)
class Support:
    """Measured subnets of a space by their genotypes `rows`, as a model of such parameters sees them."""

    space: Space
    rows: Rows
    parameters: Parameters

    def deviation(self, rows: Rows) -> FloatArray:
        """Genotypes → (n,) standard deviations of what may be measured, in a unit of the model's own."""
        _, u, p, near, noise = self.parameters
        whitening, tables, seen = self._whitening, self.tables, self._choices

        def left(part: Rows) -> FloatArray:
            from predictors.kernel import kernel

            genes = self.space.traits(part)
            asked, (far_part, near_part) = choices(self.sizes, genes), np.hsplit(kernel(tables, genes), 2)
            together = far_part + np.float32(near) * near_part
            whitened = (together + asked.kernel(seen, u, p).astype(np.float32)) @ whitening
            explained = np.einsum("ns,ns->n", whitened, whitened)
            return np.asarray(1.0 + near + asked.variance(u, p) - explained, np.float64)

        return np.asarray(np.sqrt(np.maximum(_on_all_cores(left, rows), 0.0) + noise), np.float64)

    def solve(self, z: FloatArray) -> FloatArray:
        """(K + noise I)⁻¹ z for standardised targets z (s,)."""
        return np.asarray(np.linalg.solve(self._covariance(), z), np.float64)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(d,) choices of each gene."""
        return self.space.trait_sizes

    @cached_property
    def genes(self) -> NDArray[np.int64]:
        """(s, d) of the measured subnets."""
        return self.space.traits(self.rows)

    @cached_property
    def tables(self) -> Tables:
        """What all genes say together is looked up in: for all subnets with the far lengths, then with the near."""
        from predictors.kernel import tabulate  # numba is slow to import, and only needed to predict

        return tabulate(self.sizes, scaled_genes(self.sizes, self.genes), self.parameters.lengths)

    @cached_property
    def _choices(self) -> Choices:
        return choices(self.sizes, self.genes)

    @cached_property
    def _whitening(self) -> NDArray[np.float32]:
        """(s, s) L⁻ᵀ of K + noise I = L Lᵀ: the squares of kernel · L⁻ᵀ add up to what is explained."""
        from scipy.linalg import solve_triangular  # slow to import, and only needed for intervals

        factor = np.linalg.cholesky(self._covariance())
        inverse = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
        return np.ascontiguousarray(inverse.T, dtype=np.float32)

    def _covariance(self) -> FloatArray:
        (far, near), u, p, variance, noise = self.parameters
        x, seen = scaled_genes(self.sizes, self.genes), self._choices
        together = _together(x / far) + variance * _together(x / near)
        return together + seen.kernel(seen, u, p) + noise * np.eye(len(x))


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """A fitted process: its `support`, `weights` (s,) and the constant they are added to."""

    support: Support
    weights: FloatArray
    constant: float

    def __call__(self, rows: Rows) -> FloatArray:
        """Genotypes → (n,) predictions, in single precision."""
        from predictors.kernel import weighted_sums

        tables, weights, low_order = self.support.tables, self._padded_weights, self._low_order

        def sums(part: Rows) -> FloatArray:
            genes = self.support.space.traits(part)
            return weighted_sums(tables, genes, weights) + low_order(genes)

        return _on_all_cores(sums, rows) + self.constant

    @cached_property
    def _padded_weights(self) -> NDArray[np.float32]:
        return self.support.tables.padded(np.outer([1.0, self.support.parameters.near], self.weights).ravel())

    @cached_property
    def _low_order(self) -> PairModel:
        of = self.support.parameters
        return low_order_model(self.support.sizes, self.support.genes, self.weights, of.singles, of.pairs)


def _on_all_cores(run: Callable[[Rows], FloatArray], rows: Rows) -> FloatArray:
    """(n,) what `run` gives for batches of `rows`; few rows are not worth a second core."""
    parts = [rows[piece] for piece in batches(len(rows), _BATCH)] or [rows]
    return np.concatenate(in_threads(run, parts))


def fit_gaussian(
    space: Space,
    rows: Rows,
    target: FloatArray,
    *,
    usual_length: float = _USUAL_LENGTH,
    spread_of_lengths: float = _SPREAD_OF_LENGTHS,
) -> GaussianModel:
    """Fit to the `target` (n,) of subnets by their genotypes `rows`.

    `usual_length` is the median of the far lengths' prior, `spread_of_lengths` the deviation of all logarithms.
    """
    centre, spread = float(target.mean()), float(target.std())
    z = (target - centre) / (spread or 1.0)
    prior = (usual_length, spread_of_lengths)
    genes = space.traits(rows[:_CHOSEN_ON])
    parameters = most_probable(space.trait_sizes, genes, z[:_CHOSEN_ON], prior)
    support = Support(space, np.asarray(rows, np.int64), parameters)
    return GaussianModel(support, spread * support.solve(z), centre)


def most_probable(
    sizes: NDArray[np.int64],
    genes: NDArray[np.int64],
    z: FloatArray,
    prior: tuple[float, float] = (_USUAL_LENGTH, _SPREAD_OF_LENGTHS),
) -> Parameters:
    """The parameters, for genes (n, d) with `sizes` (d,) choices and a standardised target (n,)."""
    from scipy.optimize import Bounds, minimize  # slow to import, and only needed to fit

    seen = choices(sizes, genes)
    low, high = np.log([_LENGTHS, _SCALES]).repeat([2 * len(sizes), 2 * len(sizes) + 1], axis=0).T
    found = minimize(
        _surprise,
        np.append(_prior(len(sizes), *prior)[0], np.log(_FIRST_NOISE)),
        (scaled_genes(sizes, genes), seen, z, prior),
        method="L-BFGS-B",
        jac=True,
        bounds=Bounds(np.append(low, np.log(_NOISES[0])), np.append(high, np.log(_NOISES[1]))),
        options={"maxiter": _STEPS},
    )
    return _parameters(found.x)


def _parameters(logs: FloatArray) -> Parameters:
    """(4 d + 2,) logarithms: of far and near lengths, singles, pairs, the variance of the near part, the noise."""
    far, near, singles, pairs = np.exp(logs[:-2]).reshape(4, -1)
    return Parameters(np.stack([far, near]), singles, pairs, *(float(x) for x in np.exp(logs[-2:])))


def _prior(d: int, usual_length: float, spread: float) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations (4 d + 1,) of all logarithms but the noise's, which has no prior."""
    medians = np.array([usual_length, _NEAR_OVER_FAR * usual_length, _USUAL_SINGLE, _USUAL_PAIR, _USUAL_NEAR])
    spreads = np.array([spread, spread, *[_SPREAD_OF_SCALES] * 3])
    counts = [d, d, d, d, 1]
    return np.log(medians).repeat(counts), spreads.repeat(counts)


def _surprise(
    logs: FloatArray,
    x: FloatArray,
    seen: Choices,
    z: FloatArray,
    prior: tuple[float, float] = (_USUAL_LENGTH, _SPREAD_OF_LENGTHS),
) -> tuple[float, FloatArray]:
    """Minus the log posterior, up to a constant, of the logarithms (4 d + 2,) of the parameters, and its gradient.

    With C = K + noise I it is ½ n log(zᵀ C⁻¹ z / n) + ½ log |C|. `x` (n, d) are the scaled genes of `seen`.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    n, d = x.shape
    (far, near), u, p, variance, noise = _parameters(logs)
    parts = _together(x / far), variance * _together(x / near)
    sums = seen.sums(seen, p)
    covariance = parts[0] + parts[1] + seen.kernel(seen, u, p, sums)
    covariance[np.diag_indices(n)] += noise
    factor, _ = dpotrf(covariance, lower=1)
    lower = np.tril(dpotri(factor, lower=1)[0])
    inverse = lower + np.tril(lower, -1).T
    dual = inverse @ z
    fit = max(float(z @ dual), 1e-12)
    usual, spread = _prior(d, *prior)
    away = (logs[:-1] - usual) / spread
    value = 0.5 * n * np.log(fit / n) + np.log(np.diag(factor)).sum() + 0.5 * np.square(away).sum()
    by_entry = 0.5 * inverse - 0.5 * n / fit * np.outer(dual, dual)  # d value / d C
    by_part = [by_entry * part for part in parts]
    by_length = [_slopes(by, x / lengths) for by, lengths in zip(by_part, (far, near), strict=True)]
    by_scale = seen.slopes(by_entry, sums, u, p)
    gradient = np.concatenate([*by_length, *by_scale, [by_part[1].sum()]]) + away / spread
    return float(value), np.append(gradient, noise * np.trace(by_entry))


def _slopes(by_square: FloatArray, points: FloatArray) -> FloatArray:
    """Derivatives (d,) by the logarithms of lengths: Σ (p - p')² B over pairs of subnets, for each gene."""
    both = by_square.sum(axis=1) @ points**2 - ((by_square @ points) * points).sum(axis=0)
    return np.asarray(2.0 * both, np.float64)


def _together(points: FloatArray) -> FloatArray:
    """(n, d) genes in units of their lengths → (n, n) what all genes say together of all pairs of subnets."""
    half = 0.5 * np.square(points).sum(axis=1)
    return np.asarray(np.exp(np.minimum(points @ points.T - half[:, None] - half, 0.0)), np.float64)
