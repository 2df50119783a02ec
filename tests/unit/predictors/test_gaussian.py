"""The Gaussian process: equal to scikit-learn's, modest away from what was measured, and fast enough for a search."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Kernel, WhiteKernel

from predictors.features import contrast_table, scaled_genes
from predictors.gaussian import (
    _SPREAD_OF_LENGTHS,
    _USUAL_LENGTH,
    GaussianModel,
    Parameters,
    Support,
    _parameters,
    _prior,
    _surprise,
    fit_gaussian,
)
from predictors.low_order import choices
from supernet.space import get_space

SALNAS = get_space("salnas")


def interacting(rows: np.ndarray) -> np.ndarray:
    """Best where all genes are small and where all are large, as in a supernet that is trained at its extremes."""
    x = (2.0 * rows / (SALNAS.sizes - 1) - 1.0).mean(axis=1)
    return np.asarray(0.7 + 0.1 * x**2)


SIZES = np.array([2, 4, 3])


def oracle(sizes: np.ndarray, parameters: Parameters) -> Kernel:
    """The kernel of the process, written out gene by gene and pair by pair, over scaled genes."""
    far, near = (RBF(lengths, "fixed") for lengths in parameters.lengths)
    found = [OfOneGene(j, int(k)) for j, k in enumerate(sizes)]
    parts = [far, ConstantKernel(parameters.near, "fixed") * near]
    for gene, variance in zip(found, parameters.singles, strict=True):
        parts.append(ConstantKernel(variance, "fixed") * gene)
    for (a, p), (b, q) in combinations(zip(found, parameters.pairs, strict=True), 2):
        parts.append(ConstantKernel(p * q, "fixed") * a * b)
    return added(parts)


def added(parts: list[Kernel]) -> Kernel:
    """Their sum, as a tree: scikit-learn goes down one sum in another by recursion."""
    half = len(parts) // 2
    return added(parts[:half]) + added(parts[half:]) if half else parts[0]


class OfOneGene(DotProduct):  # type: ignore[misc]
    """Products of the orthonormal polynomials of a gene's choices, each degree with half the variance."""

    def __init__(self, gene: int = 0, count: int = 2) -> None:
        super().__init__(sigma_0=0.0, sigma_0_bounds="fixed")
        self.gene, self.count = gene, count

    def _lines(self, x: np.ndarray) -> np.ndarray:
        chosen = np.rint((x[:, self.gene] + 1.0) / 2.0 * (self.count - 1)).astype(int)
        return np.asarray(contrast_table(self.count)[chosen] * 0.5 ** (np.arange(self.count - 1) / 2))

    def __call__(self, x: np.ndarray, y: np.ndarray | None = None, eval_gradient: bool = False) -> object:
        kernel = self._lines(x) @ self._lines(x if y is None else y).T
        return (kernel, np.empty((*kernel.shape, 0))) if eval_gradient else kernel

    def diag(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.square(self._lines(x)).sum(axis=1))


def test_predictions_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    rows, unseen = SALNAS.sample(rng, 40), SALNAS.sample(rng, 30)
    targets = interacting(rows) + rng.normal(0, 0.01, 40)
    d = len(SALNAS.trait_sizes)
    singles, pairs = rng.uniform(0, 0.2, d), rng.uniform(0, 0.3, d)
    parameters = Parameters(rng.uniform(2, 6, (2, d)), singles, pairs, 0.3, 1e-4)
    scaled = [scaled_genes(SALNAS.trait_sizes, SALNAS.traits(r)) for r in (rows, unseen)]
    kernel = oracle(SALNAS.trait_sizes, parameters) + WhiteKernel(parameters.noise, "fixed")
    fixed = GaussianProcessRegressor(kernel, optimizer=None).fit(scaled[0], targets - targets.mean())
    support = Support(SALNAS, rows, parameters)
    ours = GaussianModel(support, support.solve(targets - targets.mean()), float(targets.mean()))
    expected, deviation = fixed.predict(scaled[1], return_std=True)
    assert ours(unseen) == pytest.approx(expected + targets.mean(), abs=1e-4)
    assert support.deviation(unseen) == pytest.approx(deviation, abs=1e-3)


def test_more_is_known_of_what_was_measured_than_of_what_is_far_from_it() -> None:
    rng = np.random.default_rng(4)
    rows = SALNAS.sample(rng, 60)
    rows[:, 0] = 0
    model = fit_gaussian(SALNAS, rows, interacting(rows))
    far = SALNAS.sizes - 1 - rows
    assert model.support.deviation(rows).max() < 0.5 * model.support.deviation(far).min()


def test_it_learns_what_pairs_of_genes_cannot_say() -> None:
    rng = np.random.default_rng(1)
    rows = np.vstack([SALNAS.sample(rng, 80), np.zeros_like(SALNAS.sizes), SALNAS.sizes - 1])
    model = fit_gaussian(SALNAS, rows, interacting(rows))
    extremes = np.stack([0 * SALNAS.sizes, SALNAS.sizes - 1])
    assert model(extremes) == pytest.approx([0.8, 0.8], abs=0.01)


def test_it_learns_what_an_identity_shortcut_changes() -> None:
    rng = np.random.default_rng(7)
    rows, unseen = SALNAS.sample(rng, 150), SALNAS.sample(rng, 300)

    def jumping(genotypes: np.ndarray) -> np.ndarray:
        return np.asarray(interacting(genotypes) + 0.03 * SALNAS.identity_shortcuts(genotypes)[:, -1])

    error = np.abs(fit_gaussian(SALNAS, rows, jumping(rows))(unseen) - jumping(unseen))
    assert error[SALNAS.identity_shortcuts(unseen)[:, -1] == 1].mean() < 0.003


def test_nothing_is_promised_far_beyond_what_was_measured() -> None:
    rng = np.random.default_rng(2)
    rows = SALNAS.sample(rng, 80)
    targets = interacting(rows) + rng.normal(0, 0.02, 80)
    model = fit_gaussian(SALNAS, rows, targets)
    everywhere = model(SALNAS.sample(rng, 20_000))
    assert everywhere.max() < targets.max() + targets.std()


def test_lengths_are_chosen_on_a_part_and_weights_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows, unseen = SALNAS.sample(rng, 200), SALNAS.sample(rng, 100)
    whole = fit_gaussian(SALNAS, rows, interacting(rows))
    monkeypatch.setattr("predictors.gaussian._CHOSEN_ON", 80)
    part = fit_gaussian(SALNAS, rows, interacting(rows))
    assert len(part.weights) == 200
    errors = [np.abs(model(unseen) - interacting(unseen)).mean() for model in (whole, part)]
    assert errors[1] < 2.0 * errors[0] + 1e-3
    assert part(rows) == pytest.approx(interacting(rows), abs=2e-3)


def test_the_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(4)
    rows, z = rng.integers(0, SIZES, (12, 3)), rng.normal(size=12)
    logs = rng.normal(-0.5, 0.7, 14)
    seen = scaled_genes(SIZES, rows), choices(SIZES, rows)
    _, gradient = _surprise(logs, *seen, z)
    steps = 1e-5 * np.eye(14)
    numeric = [(_surprise(logs + h, *seen, z)[0] - _surprise(logs - h, *seen, z)[0]) / 2e-5 for h in steps]
    assert gradient == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_the_likelihood_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    rows, z = rng.integers(0, SIZES, (15, 3)), rng.normal(size=15)
    x, seen = scaled_genes(SIZES, rows), choices(SIZES, rows)
    top, _ = _prior(3, _USUAL_LENGTH, _SPREAD_OF_LENGTHS)
    kernel = oracle(SIZES, _parameters(np.append(top, 0.0)))
    values, likelihoods = [], []
    for noise in (0.01, 0.1, 0.5):
        values.append(_surprise(np.append(top, np.log(noise)), x, seen, z)[0])
        variance = float(z @ np.linalg.solve(kernel(x) + noise * np.eye(15), z)) / 15
        whole = ConstantKernel(variance, "fixed") * (kernel + WhiteKernel(noise, "fixed"))
        process = GaussianProcessRegressor(whole, optimizer=None, alpha=0).fit(x, z)
        likelihoods.append(-process.log_marginal_likelihood_value_)
    assert np.diff(values) == pytest.approx(np.diff(likelihoods), abs=1e-6)


def test_what_is_rough_is_told_from_noise() -> None:
    """Whether two measurements of one subnet agree where other subnets say nothing of it."""
    rng = np.random.default_rng(8)
    rows = np.repeat(SALNAS.sample(rng, 100), 2, axis=0)
    rough, noise = 0.05 * np.repeat(rng.normal(size=100), 2), 0.05 * rng.normal(size=200)
    supports = [fit_gaussian(SALNAS, rows, interacting(rows) + y).support for y in (rough, noise)]
    assert supports[0].parameters.noise < 1e-3
    assert supports[1].parameters.noise > 0.1


def test_a_constant_target_is_constant_and_many_rows_are_as_few() -> None:
    rng = np.random.default_rng(6)
    rows, unseen = SALNAS.sample(rng, 60), SALNAS.sample(rng, 3000)
    assert fit_gaussian(SALNAS, rows, np.full(60, 0.5))(rows) == pytest.approx(np.full(60, 0.5))
    model = fit_gaussian(SALNAS, rows, interacting(rows))
    few = np.concatenate([model(part) for part in np.split(unseen, 30)])
    assert model(unseen) == pytest.approx(few, abs=1e-6)
    assert model.support.deviation(unseen[:0]).shape == model(unseen[:0]).shape == (0,)
