from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors import pairs
from predictors.estimate import FloatArray
from predictors.features import contrasts, one_hot
from predictors.pairs import fit_pairs
from predictors.ranking import quality
from supernet.space import Rows, get_space

SIZES = np.array([2, 3, 4, 2, 6])


def random_rows(rng: np.random.Generator, n: int) -> Rows:
    return rng.integers(0, SIZES, (n, len(SIZES)))


def pairwise_truth(rng: np.random.Generator, rows: Rows) -> FloatArray:
    h = one_hot(SIZES, rows)
    single = rng.normal(size=h.shape[1])
    pair = rng.normal(size=(h.shape[1], h.shape[1]))
    return np.asarray(1.5 + h @ single + 0.3 * np.einsum("ni,ij,nj->n", h, pair, h))


def test_recovers_a_function_of_pairs() -> None:
    rng = np.random.default_rng(0)
    rows = random_rows(rng, 400)
    y = pairwise_truth(np.random.default_rng(9), rows)
    unseen = random_rows(rng, 200)
    ((model, _),) = fit_pairs(SIZES, rows, y[:, None])
    truth = pairwise_truth(np.random.default_rng(9), unseen)
    assert np.abs(model(unseen) - truth).max() < 0.02 * truth.std()


def test_table_equals_kernel_regression() -> None:
    """Oracle: the prediction by kernels between new and seen subnets, with the strengths that were chosen."""
    rng = np.random.default_rng(1)
    rows, unseen = random_rows(rng, 60), random_rows(rng, 30)
    y = pairwise_truth(rng, rows) + rng.normal(size=60)
    ((model, chosen),) = fit_pairs(SIZES, rows, y[:, None])
    gene = np.repeat(np.arange(len(SIZES)), SIZES - 1)
    degree = np.concatenate([np.arange(1, k) for k in SIZES])
    both = contrasts(SIZES, np.vstack([rows, unseen])) * chosen.decay ** (degree - 1)
    kernels = [both[:, gene == j] @ both[:, gene == j].T for j in range(len(SIZES))]
    kernel = np.sum(kernels, axis=0) + 100.0
    for i in range(len(SIZES)):
        for j in range(i):
            kernel = kernel + chosen.pair_scale**2 * kernels[i] * kernels[j]
    centred = (y - y.mean()) / y.std()
    weights = np.linalg.solve(kernel[:60, :60] + chosen.ridge * np.eye(60), centred)
    expected = y.mean() + y.std() * kernel[60:, :60] @ weights
    assert np.allclose(model(unseen), expected, rtol=0, atol=2e-4 * y.std())


def test_noise_is_not_learnt() -> None:
    rng = np.random.default_rng(2)
    rows = random_rows(rng, 100)
    ((model, _),) = fit_pairs(SIZES, rows, rng.normal(size=(100, 1)))
    assert model(random_rows(rng, 500)).std() < 0.4


def test_few_subnets_of_many_genes_do_no_harm() -> None:
    space = get_space("salnas")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows, unseen = space.sample(rng, 30), space.sample(rng, 300)
        effects = rng.normal(size=len(space.sizes)) * (rng.random(len(space.sizes)) < 0.3)
        ((model, _),) = fit_pairs(space.sizes, rows, (rows @ effects + 0.1 * rng.normal(size=30))[:, None])
        truth = unseen @ effects
        assert np.square(model(unseen) - truth).mean() < 1.05 * truth.var()


def test_targets_are_fitted_apart() -> None:
    rng = np.random.default_rng(3)
    rows = random_rows(rng, 80)
    y = np.column_stack([pairwise_truth(rng, rows), 100 * rng.normal(size=80)])
    together = [model(rows) for model, _ in fit_pairs(SIZES, rows, y)]
    alone = [fit_pairs(SIZES, rows, y[:, [t]])[0][0](rows) for t in range(2)]
    assert np.allclose(together, alone)


def test_weights_say_which_measurements_to_trust() -> None:
    rng = np.random.default_rng(4)
    rows = random_rows(rng, 300)
    truth = pairwise_truth(np.random.default_rng(8), rows)
    is_bad = rng.random(300) < 0.5
    y = truth + np.where(is_bad, 5.0, 0.05) * rng.normal(size=300)
    unseen = random_rows(rng, 300)
    expected = pairwise_truth(np.random.default_rng(8), unseen)
    weights = np.where(is_bad, 1e-4, 1.0)
    weighted = quality(expected, fit_pairs(SIZES, rows, y[:, None], weights=weights)[0][0](unseen))
    blind = quality(expected, fit_pairs(SIZES, rows, y[:, None])[0][0](unseen))
    assert weighted.mae < 0.5 * blind.mae


@given(st.floats(-1e3, 1e3), st.integers(0, 10))
def test_a_constant_is_predicted_as_it_is(value: float, seed: int) -> None:
    rows = random_rows(np.random.default_rng(seed), 20)
    ((model, _),) = fit_pairs(SIZES, rows, np.full((20, 1), value))
    assert model(rows) == pytest.approx(value, rel=1e-5, abs=1e-5)


def test_sum_of_models() -> None:
    rng = np.random.default_rng(5)
    rows = random_rows(rng, 50)
    (first, _), (second, _) = fit_pairs(SIZES, rows, rng.normal(size=(50, 2)))
    assert np.allclose((first + second)(rows), first(rows) + second(rows), atol=1e-5)


def test_a_row_is_predicted_alike_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    rows = random_rows(rng, 70)
    ((model, _),) = fit_pairs(SIZES, rows, pairwise_truth(rng, rows)[:, None])
    whole = model(rows)
    monkeypatch.setattr(pairs, "_BATCH", 16)
    assert np.allclose(model(rows), whole, rtol=0, atol=1e-5)
    assert len(model(rows[:0])) == 0
