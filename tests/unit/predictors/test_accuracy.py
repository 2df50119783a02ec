from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from predictors.accuracy import KIND, AccuracyPredictors, fit_accuracy, load_accuracy
from predictors.estimate import FloatArray
from predictors.features import scaled_genes
from predictors.ranking import quality
from predictors.store import save_model
from supernet.cost import cost
from supernet.errors import PredictorError
from supernet.sampling import covering_rows
from supernet.space import Rows, Space, get_space


def truth(space: Space, rows: Rows) -> FloatArray:
    """What accuracy may look like: it grows ever less with size, and some genes matter more than others."""
    z = scaled_genes(space.sizes, rows)
    weights = np.random.default_rng(0).uniform(0.0, 0.004, z.shape[1])
    size = np.log(cost(space, rows).macs / 5e8)
    return np.asarray(0.7 + 0.04 * (1 - np.exp(-size)) + z @ weights - 0.003 * z[:, 0] * z[:, 5])


def measured(space: Space, n: int, seed: int = 0) -> tuple[Rows, dict[str, FloatArray]]:
    rows = covering_rows(space, np.random.default_rng(seed), n)
    noise = np.random.default_rng([seed, 1]).normal(size=(2, n))
    cc = truth(space, rows)
    return rows, {"kld": 2.0 - 2.0 * cc + 0.004 * noise[1], "cc": cc + 0.001 * noise[0]}


@pytest.fixture(scope="module")
def fitted(salnas: Space) -> AccuracyPredictors:
    return fit_accuracy(salnas, *measured(salnas, 300), np.random.default_rng(0), folds=5)


def test_unseen_subnets_are_ranked(salnas: Space, fitted: AccuracyPredictors) -> None:
    rows = covering_rows(salnas, np.random.default_rng(7), 500)
    found = quality(truth(salnas, rows), fitted.by_metric["cc"].predict(rows).mean)
    assert found.kendall > 0.9
    assert quality(truth(salnas, rows), fitted.by_metric["kld"].predict(rows).mean).kendall < -0.85
    assert list(fitted.by_metric) == ["cc", "kld"]


def test_intervals_hold_what_is_measured(salnas: Space, fitted: AccuracyPredictors) -> None:
    rows, scores = measured(salnas, 1000, seed=8)
    estimate = fitted.by_metric["cc"].predict(rows)
    inside = (estimate.low <= scores["cc"]) & (scores["cc"] <= estimate.high)
    assert 0.85 <= inside.mean() <= 0.96
    width = estimate.high - estimate.low
    near = fitted.by_metric["cc"].predict(measured(salnas, 300)[0])
    assert (near.high - near.low).mean() < 0.8 * width.mean()
    assert np.median(width) == pytest.approx(2 * fitted.by_metric["cc"].usual_radius, rel=0.2)


def test_reported_quality_is_that_of_unseen_subnets(salnas: Space, fitted: AccuracyPredictors) -> None:
    rows, scores = measured(salnas, 500, seed=9)
    unseen = quality(scores["cc"], fitted.by_metric["cc"].predict(rows).mean)
    reported = fitted.by_metric["cc"].quality
    assert reported.kendall == pytest.approx(unseen.kendall, abs=0.03)
    assert reported.mae == pytest.approx(unseen.mae, rel=0.25)
    in_sample = quality(
        measured(salnas, 300)[1]["cc"], fitted.by_metric["cc"].predict(measured(salnas, 300)[0]).mean
    )
    assert reported.mae > in_sample.mae


def test_saved_predictors_predict_the_same(salnas: Space, fitted: AccuracyPredictors, tmp_path: Path) -> None:
    path = tmp_path / "accuracy.safetensors"
    fitted.save(path, supernet="feedbeef")
    again = load_accuracy(path, salnas, supernet="feedbeef")
    rows = salnas.sample(np.random.default_rng(0), 50)
    for name, predictor in fitted.by_metric.items():
        assert (again.by_metric[name].predict(rows).high == predictor.predict(rows).high).all()
        assert again.by_metric[name].quality == predictor.quality


def test_predictors_of_something_else_are_refused(
    salnas: Space, fitted: AccuracyPredictors, tmp_path: Path
) -> None:
    path = tmp_path / "accuracy.safetensors"
    fitted.save(path, supernet="feedbeef")
    with pytest.raises(PredictorError, match="other weights"):
        load_accuracy(path, salnas, supernet="0123")
    with pytest.raises(PredictorError, match="space"):
        load_accuracy(path, get_space("tiny"), supernet="feedbeef")
    with pytest.raises(PredictorError, match="no predictor"):
        load_accuracy(tmp_path / "none.safetensors", salnas)
    content = path.read_bytes()
    for damaged in (
        b"",
        b"PK",
        content[:500],
        content[:-40],
        content.replace(b"salnas-predictor-1", b"salnas-predictor-9"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(PredictorError) as caught:
            load_accuracy(path, salnas)
        assert caught.value.remedy


def test_weights_that_are_not_finite_are_refused(
    salnas: Space, fitted: AccuracyPredictors, tmp_path: Path
) -> None:
    path = tmp_path / "accuracy.safetensors"
    fitted.by_metric["cc"].model.weights[0], before = np.nan, fitted.by_metric["cc"].model.weights[0]
    fitted.save(path, supernet=None)
    fitted.by_metric["cc"].model.weights[0] = before
    with pytest.raises(PredictorError, match=r"'cc\.weights'"):
        load_accuracy(path, salnas)


def test_a_file_of_an_earlier_layout_is_refused(salnas: Space, tmp_path: Path) -> None:
    path = tmp_path / "accuracy.safetensors"
    arrays = {"lengths": np.ones(27), "support": np.ones((2, 27)), "cc.weights": np.ones(2)}
    save_model(path, KIND, salnas, arrays, {"metrics": {"cc": {}}, "support": 2, "provenance": {}})
    with pytest.raises(PredictorError, match="'rows'") as caught:
        load_accuracy(path, salnas)
    assert "fit again" in str(caught.value.remedy)


def test_the_file_is_plain_data(fitted: AccuracyPredictors, tmp_path: Path) -> None:
    path = tmp_path / "accuracy.safetensors"
    fitted.save(path, supernet=None)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {
        "__metadata__",
        "rows",
        *(f"{m}.{a}" for m in ("cc", "kld") for a in ("lengths", "singles", "pairs", "weights")),
    }
    assert len(content) < 500_000


def test_too_few_subnets_are_refused(salnas: Space) -> None:
    rows, scores = measured(salnas, 6)
    with pytest.raises(PredictorError, match="6 measured subnets"):
        fit_accuracy(salnas, rows, scores, np.random.default_rng(0))


def test_a_larger_budget_never_gives_a_worse_best(salnas: Space, fitted: AccuracyPredictors) -> None:
    """The best predicted accuracy grows with the budget of macs in clear steps."""
    rows = covering_rows(salnas, np.random.default_rng(3), 2000)
    macs = cost(salnas, rows).macs
    predicted = fitted.by_metric["cc"].predict(rows).mean
    best = [predicted[macs <= budget].max() for budget in np.quantile(macs, [0.1, 0.3, 0.6, 1.0])]
    assert best == sorted(best)
    assert best[-1] > best[0] + 0.01
