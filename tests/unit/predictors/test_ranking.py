from __future__ import annotations

import numpy as np
import pytest

from predictors.estimate import FloatArray
from predictors.ranking import Model, folds_of, out_of_fold, quality
from supernet.errors import PredictorError
from supernet.space import Rows


def test_perfect_and_reversed_rankings() -> None:
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert quality(truth, truth * 2).kendall == 1.0
    assert quality(truth, -truth).spearman == -1.0
    same = quality(truth, truth)
    assert (same.r2, same.mae, same.p90, same.within_5) == (1.0, 0.0, 0.0, 1.0)


def test_kendall_counts_pairs() -> None:
    assert quality(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).kendall == pytest.approx(1 / 3)


def test_shares_of_relative_errors() -> None:
    found = quality(np.array([100.0, 100.0, 100.0, 100.0]), np.array([100.0, 104.0, 109.0, 120.0]))
    assert (found.within_5, found.within_10) == (0.5, 0.75)


def test_a_constant_prediction_ranks_nothing() -> None:
    found = quality(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0))
    assert (found.kendall, found.spearman) == (0.0, 0.0)


def test_folds_are_equal_and_cover_all() -> None:
    fold = folds_of(103, 10, np.random.default_rng(0))
    assert sorted(set(np.bincount(fold))) == [10, 11]
    with pytest.raises(PredictorError, match="5 measured subnets"):
        folds_of(5, 10, np.random.default_rng(0))


def memorise(rows: Rows, targets: FloatArray) -> Model:
    known = {tuple(row): target for row, target in zip(rows.tolist(), targets, strict=True)}
    return lambda unseen: np.array(
        [known.get(tuple(row), np.full_like(targets[0], -1.0)) for row in unseen.tolist()]
    )


@pytest.mark.parametrize("shape", [(40,), (40, 2)])
def test_nothing_is_predicted_by_a_model_that_has_seen_it(shape: tuple[int, ...]) -> None:
    rows = np.arange(40)[:, None]
    found = out_of_fold(memorise, rows, np.ones(shape), rng=np.random.default_rng(0))
    assert found.shape == shape
    assert (found == -1.0).all()
