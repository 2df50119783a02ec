"""Predictions with intervals, and how wide the intervals must be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]

COVERAGE = 0.9
"""Share of subnets whose measured value lies within the interval."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Predictions for n subnets: mean and 90 % interval, each (n,), in the unit of what was measured."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray

    def __len__(self) -> int:
        return len(self.mean)


def conformal_radius(residuals: FloatArray, coverage: float = COVERAGE) -> float:
    """Half width of an interval that covers a new value with probability `coverage` or more.

    `residuals` (n,) are of subnets that the model was not fitted to. The ⌈(n + 1)·coverage⌉-th smallest absolute
    residual; infinite where n is too small to promise anything (fewer than 9 for 90 %). Source: split conformal
    prediction (Vovk et al.; Lei et al. 2018).
    """
    n = len(residuals)
    rank = math.ceil((n + 1) * coverage)
    if rank > n:
        return math.inf
    return float(np.sort(np.abs(residuals))[rank - 1])


def additive_estimate(mean: FloatArray, radius: FloatArray | float) -> Estimate:
    """mean ± radius, which may differ from subnet to subnet."""
    return Estimate(mean, mean - radius, mean + radius)


def relative_estimate(mean: FloatArray, radius: float) -> Estimate:
    """mean · exp(±radius): the interval of a value whose logarithm was predicted."""
    return Estimate(mean, mean * math.exp(-radius), mean * math.exp(radius))
