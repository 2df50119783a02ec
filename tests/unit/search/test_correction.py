"""Corrections learned from residuals, against closed forms and known biases."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from search.correction import (
    FEWEST,
    ColumnCorrection,
    Residuals,
    distances,
    fit_correction,
    fit_residuals,
)

SIZES = np.array([2, 3, 6, 4, 2, 5, 3, 2], dtype=np.int64)


def some_rows(n: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, SIZES, (n, len(SIZES)))


def test_distances_are_sums_of_relative_differences() -> None:
    a, b = some_rows(9), some_rows(7, 1)
    slow = np.abs(a[:, None] - b[None]) / (SIZES - 1)
    np.testing.assert_allclose(distances(SIZES, a, b), slow.sum(axis=2), atol=1e-5)


def test_the_posterior_is_that_of_the_closed_form() -> None:
    rows, new = some_rows(12), some_rows(5, 1)
    y = np.random.default_rng(2).normal(0.3, 0.1, 12)
    fitted = fit_residuals(SIZES, rows, y)

    def shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        apart: NDArray[np.float64] = (np.abs(one[:, None] - other[None]) / (SIZES - 1)).sum(axis=2)
        return np.asarray((1 - fitted.own_share) * np.exp(-apart / fitted.length))

    # With a free constant: generalised least squares for it, then the process of what is left.
    C = np.linalg.inv(shared(rows, rows) + fitted.own_share * np.eye(12))
    ones = np.ones(12)
    bias = ones @ C @ y / (ones @ C @ ones)
    expected = bias + shared(new, rows) @ C @ (y - bias)
    np.testing.assert_allclose(fitted.mean(new), expected, atol=2e-3 * np.abs(expected).max())


def test_draws_have_the_covariance_of_the_posterior() -> None:
    rows, new = some_rows(10), some_rows(4, 1)
    fitted = fit_residuals(SIZES, rows, np.random.default_rng(2).normal(0, 1, 10))
    drawn = fitted.draws(new, 20_000, np.random.default_rng(3))

    def K(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        shared = np.exp(-distances(SIZES, a, b) / fitted.length)
        return np.asarray(100.0 + (1 - fitted.own_share) * shared)

    C = np.linalg.inv(K(rows, rows) + fitted.own_share * np.eye(10))
    expected = K(new, new) + fitted.own_share * np.eye(4) - K(new, rows) @ C @ K(rows, new)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), fitted.variance * expected, atol=0.05 * fitted.variance)


def test_a_pure_bias_is_found_at_once_and_everywhere() -> None:
    rows = some_rows(4)
    said = {"accuracy": np.linspace(0.6, 0.8, 4), "latency_ms": np.linspace(5.0, 50.0, 4)}
    truth = {"accuracy": said["accuracy"] - 0.02, "latency_ms": said["latency_ms"] * 1.3}
    correction = fit_correction(SIZES, rows, said, truth)
    far = some_rows(50, 9)
    columns = {
        "accuracy": np.full(50, 0.7),
        "latency_ms": np.full(50, 20.0),
        "macs": np.arange(50),
    }
    found = correction.apply(far, columns)
    np.testing.assert_allclose(found["accuracy"], 0.68, atol=1e-4)
    np.testing.assert_allclose(found["latency_ms"], 26.0, rtol=1e-3)
    assert found["macs"] is columns["macs"]


def test_what_similar_subnets_share_is_learned() -> None:
    rows, new = some_rows(60), some_rows(200, 5)

    def residual(r: NDArray[np.int64]) -> NDArray[np.float64]:
        u = r / (SIZES - 1)
        return np.asarray(0.05 + 0.04 * (u[:, 2] - 0.5) + 0.03 * (u[:, 5] > 0.5))

    fitted = fit_residuals(SIZES, rows, residual(rows))
    left = residual(new) - fitted.mean(new)
    assert left.std() < 0.4 * residual(new).std()


def test_own_noise_is_not_mistaken_for_a_pattern() -> None:
    y = np.random.default_rng(4).normal(0.0, 0.01, 40)
    fitted = fit_residuals(SIZES, some_rows(40), y)
    assert np.abs(fitted.mean(some_rows(200, 6)) - y.mean()).max() < 0.006
    drawn = fitted.draws(some_rows(200, 6), 50, np.random.default_rng(0))
    assert drawn.std() == pytest.approx(0.01, rel=0.3)


def test_too_few_measurements_correct_nothing() -> None:
    few = FEWEST - 1
    assert not fit_correction(SIZES, some_rows(few), {"cc": np.ones(few)}, {"cc": np.zeros(few)}).by_column


def test_equal_residuals_leave_no_doubt() -> None:
    fitted = fit_residuals(SIZES, some_rows(8), np.zeros(8))
    assert isinstance(fitted, Residuals)
    assert np.abs(fitted.draws(some_rows(5, 1), 3, np.random.default_rng(0))).max() < 1e-100
    column = ColumnCorrection(fitted, relative=True)
    np.testing.assert_array_equal(column.apply(some_rows(3), np.array([1.0, 2.0, 3.0])), [1.0, 2.0, 3.0])
