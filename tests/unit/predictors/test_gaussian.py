"""The Gaussian process: equal to scikit-learn's, modest away from what was measured, and fast enough for a search."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from predictors.gaussian import GaussianModel, fit_gaussian
from supernet.space import get_space

SALNAS = get_space("salnas")


def interacting(rows: np.ndarray) -> np.ndarray:
    """Best where all genes are small and where all are large, as in a supernet that is trained at its extremes."""
    x = (2.0 * rows / (SALNAS.sizes - 1) - 1.0).mean(axis=1)
    return np.asarray(0.7 + 0.1 * x**2)


def test_predictions_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    rows, unseen = SALNAS.sample(rng, 40), SALNAS.sample(rng, 30)
    targets = interacting(rows) + rng.normal(0, 0.01, 40)
    (model,) = fit_gaussian(SALNAS.sizes, rows, targets[:, None])
    scaled = [2.0 * r / (SALNAS.sizes - 1) - 1.0 for r in (rows, unseen)]
    fixed = GaussianProcessRegressor(
        RBF(model.lengths, "fixed") + WhiteKernel(1e-6, "fixed"), optimizer=None
    ).fit(scaled[0], targets - targets.mean())
    ours = GaussianModel(
        model.sizes, model.lengths, model.support, np.ravel(fixed.alpha_), float(targets.mean())
    )
    expected = fixed.predict(scaled[1]) + targets.mean()
    assert ours(unseen) == pytest.approx(expected, abs=1e-3)


def test_it_learns_what_pairs_of_genes_cannot_say() -> None:
    rng = np.random.default_rng(1)
    rows = np.vstack([SALNAS.sample(rng, 80), np.zeros_like(SALNAS.sizes), SALNAS.sizes - 1])
    (model,) = fit_gaussian(SALNAS.sizes, rows, interacting(rows)[:, None])
    extremes = np.stack([0 * SALNAS.sizes, SALNAS.sizes - 1])
    assert model(extremes) == pytest.approx([0.8, 0.8], abs=0.01)


def test_nothing_is_promised_far_beyond_what_was_measured() -> None:
    rng = np.random.default_rng(2)
    rows = SALNAS.sample(rng, 80)
    targets = interacting(rows) + rng.normal(0, 0.02, 80)
    (model,) = fit_gaussian(SALNAS.sizes, rows, targets[:, None])
    everywhere = model(SALNAS.sample(rng, 20_000))
    assert everywhere.max() < targets.max() + targets.std()
