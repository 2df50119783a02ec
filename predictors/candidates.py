"""Models of accuracy that compete: a Gaussian process, ridge on pairs, boosted trees, small networks, a stack of all.

The Gaussian process is what ships (`predictors.accuracy`); the others say what it misses. Each entry of `CANDIDATES`
is a function of the space that gives a `Fit`: rows (n, d) and one target (n,) to a model of rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy.optimize import nnls

from predictors.estimate import FloatArray
from predictors.features import contrasts, general_features
from predictors.gaussian import fit_gaussian
from predictors.pairs import fit_pairs
from predictors.ranking import Fit, Model, Quality, out_of_fold, quality
from supernet.space import Rows, Space

Candidate: TypeAlias = Callable[[Space], Fit]

_NETWORKS = 5
_HIDDEN, _PENALTY = 48, 1.0
_STACK_FOLDS = 3


def gaussian(space: Space) -> Fit:
    """The Gaussian process over genes that the search uses."""

    def fit(rows: Rows, target: FloatArray) -> Model:
        return fit_gaussian(space, rows, target)

    return fit


def ridge(space: Space) -> Fit:
    """Ridge on genes and pairs of genes."""

    def fit(rows: Rows, target: FloatArray) -> Model:
        ((model, _),) = fit_pairs(space.sizes, rows, target[:, None])
        return model

    return fit


def boosting(space: Space) -> Fit:
    """Gradient-boosted trees on scaled genes, log macs and log parameters."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    def fit(rows: Rows, target: FloatArray) -> Model:
        trees = HistGradientBoostingRegressor(
            learning_rate=0.06,
            max_iter=300,
            max_leaf_nodes=8,
            min_samples_leaf=min(10, max(2, len(rows) // 20)),
            l2_regularization=1.0,
            random_state=0,
        )
        trees.fit(general_features(space, rows), target)
        return lambda unseen: np.asarray(trees.predict(general_features(space, unseen)), dtype=np.float64)

    return fit


def networks(space: Space, *, hidden: int = _HIDDEN, penalty: float = _PENALTY) -> Fit:
    """The mean of small networks from different random weights, on scaled contrasts, log macs and parameters.

    `hidden` units in each of two layers; `penalty` on the squares of weights.
    """
    from sklearn.exceptions import ConvergenceWarning

    def features(rows: Rows) -> FloatArray:
        return np.hstack([contrasts(space.sizes, rows), general_features(space, rows)[:, -2:]])

    def fit(rows: Rows, target: FloatArray) -> Model:
        x = features(rows)
        centre, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        level, unit = float(target.mean()), max(float(target.std()), 1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            members = [
                _network(seed, hidden, penalty).fit((x - centre) / spread, (target - level) / unit)
                for seed in range(_NETWORKS)
            ]

        def predict(unseen: Rows) -> FloatArray:
            z = (features(unseen) - centre) / spread
            return np.asarray(level + unit * np.mean([member.predict(z) for member in members], axis=0))

        return predict

    return fit


def _network(seed: int, hidden: int, penalty: float) -> Any:
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(
        hidden_layer_sizes=(hidden, hidden),
        activation="tanh",
        solver="lbfgs",
        alpha=penalty,
        max_iter=300,
        random_state=seed,
    )


def stack(space: Space) -> Fit:
    """A non-negative mixture of the others, weighed by what each predicts of folds that it has not seen."""
    parts = [gaussian(space), ridge(space), boosting(space), networks(space)]

    def fit(rows: Rows, target: FloatArray) -> Model:
        rng = np.random.default_rng(0)
        unseen = [
            out_of_fold(
                part, rows, target, rng=np.random.default_rng(rng.integers(2**32)), folds=_STACK_FOLDS
            )
            for part in parts
        ]
        level = target.mean()
        weights, _ = nnls(np.stack(unseen, axis=1) - level, target - level)
        models = [part(rows, target) for part in parts]
        return lambda new: level + np.stack([model(new) - level for model in models], axis=1) @ weights

    return fit


CANDIDATES: Mapping[str, Candidate] = {
    "gaussian process": gaussian,
    "ridge on pairs": ridge,
    "boosted trees": boosting,
    "small networks": networks,
    "stack": stack,
}


def compare(
    space: Space,
    rows: Rows,
    target: FloatArray,
    rng: np.random.Generator,
    *,
    names: Sequence[str] = tuple(CANDIDATES),
    folds: int = 5,
) -> dict[str, Quality]:
    """Held-out quality of each candidate, all on the same folds."""
    seed = int(rng.integers(2**32))
    found = {}
    for name in names:
        fit = CANDIDATES[name](space)
        held_out = out_of_fold(fit, rows, target, rng=np.random.default_rng(seed), folds=folds)
        found[name] = quality(target, held_out)
    return found


def learning_curve(
    fit: Fit,
    rows: Rows,
    target: FloatArray,
    sizes: Sequence[int],
    rng: np.random.Generator,
    *,
    repeats: int = 5,
) -> dict[int, list[Quality]]:
    """For each number of subnets, the quality on all others, with `repeats` random choices."""
    found: dict[int, list[Quality]] = {}
    for size in sizes:
        for _ in range(repeats):
            order = rng.permutation(len(rows))
            seen, unseen = order[:size], order[size:]
            model = fit(rows[seen], target[seen])
            found.setdefault(size, []).append(quality(target[unseen], model(rows[unseen])))
    return found
