"""Counting and blurring fixations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from supernet.data.density import default_sigma, density_map, eight_bits, fixation_counts, inside

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(sizes, st.integers(0, 10_000), st.floats(0.3, 4))
@settings(max_examples=80, deadline=None)
def test_the_blur_is_that_of_scipy(size: tuple[int, int], seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.05, size)
    counts[rng.integers(size[0]), rng.integers(size[1])] += 1
    density = density_map(counts, sigma)
    assert density.dtype == np.float32
    assert density.max() == 1
    if min(size) > 4 * sigma:
        expected = gaussian_filter(counts.astype(float), sigma)
        np.testing.assert_allclose(density, expected / expected.max(), atol=2e-6)


def test_no_fixation_is_a_zero_map() -> None:
    assert not density_map(np.zeros((4, 5), int), 2).any()


def test_osie_is_blurred_by_16_pixels() -> None:
    assert default_sigma((600, 800)) == 16
    assert default_sigma((448, 336)) == default_sigma((336, 448)) == pytest.approx(8.96)


@given(sizes, sizes, st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_every_point_on_the_photo_is_counted_once(
    size: tuple[int, int], grid: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.3, 1.3, (50, 2)) * (size[1], size[0])
    kept = inside(points, size)
    counts = fixation_counts(points, size, grid)
    assert counts.shape == grid
    assert counts.sum() == len(kept)
    at_pixels = np.zeros(size, int)
    for x, y in kept:
        at_pixels[int(y), int(x)] += 1
    assert (fixation_counts(points, size) == at_pixels).all()


def test_a_coarse_grid_holds_the_pixels_under_it() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((200, 2)) * (40, 30)
    fine = fixation_counts(points, (30, 40))
    assert (fixation_counts(points, (30, 40), (15, 20)) == fine.reshape(15, 2, 20, 2).sum((1, 3))).all()


def test_eight_bits_round() -> None:
    assert eight_bits(np.array([0.0, 0.0019, 0.002, 1.0, 1.2])).tolist() == [0, 0, 1, 255, 255]
