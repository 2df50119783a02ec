from __future__ import annotations

import math

import numpy as np
import pytest

from predictors.estimate import additive_estimate, conformal_radius, relative_estimate


def test_radius_is_the_rank_that_promises_the_coverage() -> None:
    assert conformal_radius(np.arange(1.0, 10.0)) == 9.0  # ⌈10 · 0.9⌉ = 9th of 9
    assert conformal_radius(-np.arange(1.0, 20.0)) == 18.0
    assert math.isinf(conformal_radius(np.arange(8.0)))


@pytest.mark.parametrize("n", [9, 20, 200])
def test_intervals_cover_what_they_promise(n: int) -> None:
    rng = np.random.default_rng(0)
    covered = [
        np.mean(np.abs(rng.standard_t(3, 100)) <= conformal_radius(rng.standard_t(3, n))) for _ in range(300)
    ]
    assert 0.885 <= np.mean(covered) <= 0.9 + 1.0 / n + 0.015


def test_estimates_lie_within_their_intervals() -> None:
    mean = np.array([1.0, 2.0])
    additive = additive_estimate(mean, 0.5)
    assert additive.low.tolist() == [0.5, 1.5]
    assert additive.high.tolist() == [1.5, 2.5]
    relative = relative_estimate(mean, math.log(2.0))
    assert relative.low == pytest.approx([0.5, 1.0])
    assert relative.high == pytest.approx([2.0, 4.0])
    assert len(relative) == 2
