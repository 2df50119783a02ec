from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.estimate import FloatArray
from predictors.latency import LatencyPredictor, fit_latency, load_latency
from predictors.ranking import quality
from supernet.errors import PredictorError
from supernet.sampling import covering_rows
from supernet.space import Space, get_space


def test_a_hundred_subnets_are_enough(salnas: Space, make_gadget: Any) -> None:
    device = make_gadget(3)
    rows = covering_rows(salnas, np.random.default_rng(0), 100)
    predictor = fit_latency(salnas, rows, device.latency_ms(salnas, rows), np.random.default_rng(0), folds=5)
    unseen = np.concatenate(
        [covering_rows(salnas, np.random.default_rng(5), 300), salnas.sample(np.random.default_rng(6), 300)]
    )
    truth = device.latency_ms(salnas, unseen)
    estimate = predictor.predict(unseen)
    found = quality(truth, estimate.mean)
    assert found.within_5 >= 0.95
    assert found.within_10 >= 0.99
    inside = (estimate.low <= truth) & (truth <= estimate.high)
    assert 0.84 <= inside.mean() <= 0.99


def test_physics_alone_is_exact_where_there_is_nothing_else(salnas: Space, make_gadget: Any) -> None:
    device = make_gadget(4, habit=0.0, noise=0.0, start=0.01)
    rows = covering_rows(salnas, np.random.default_rng(0), 60)
    predictor = fit_latency(salnas, rows, device.latency_ms(salnas, rows), np.random.default_rng(0), folds=3)
    unseen = salnas.sample(np.random.default_rng(1), 200)
    assert predictor.predict(unseen).mean == pytest.approx(device.latency_ms(salnas, unseen), rel=2e-3)


def test_measurements_that_are_far_off_do_little(salnas: Space, make_gadget: Any) -> None:
    device = make_gadget(6)
    rows = covering_rows(salnas, np.random.default_rng(0), 120)
    latency = device.latency_ms(salnas, rows)
    latency[[10, 50, 90]] *= [3.0, 4.0, 0.3]
    predictor = fit_latency(salnas, rows, latency, np.random.default_rng(0), folds=5)
    unseen = covering_rows(salnas, np.random.default_rng(5), 300)
    assert quality(device.latency_ms(salnas, unseen), predictor.predict(unseen).mean).within_5 >= 0.95


def test_predictions_are_positive_everywhere(salnas: Space, known: LatencyPredictor) -> None:
    estimate = known.predict(salnas.sample(np.random.default_rng(0), 5000))
    assert (estimate.low > 0).all()
    assert (estimate.low < estimate.mean).all()
    assert (estimate.mean < estimate.high).all()


def test_kinds_of_operations_add_up(salnas: Space, known: LatencyPredictor) -> None:
    rows = salnas.sample(np.random.default_rng(0), 20)
    model = known.model
    total = model.by_group(rows).sum(axis=1) * model.factor(rows)
    assert model(rows) == pytest.approx(total)


def test_saved_predictors_predict_the_same(salnas: Space, known: LatencyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "latency-x.safetensors"
    known.save(path)
    again = load_latency(path, salnas)
    rows = salnas.sample(np.random.default_rng(0), 50)
    assert (again.predict(rows).low == known.predict(rows).low).all()
    assert again.quality == known.quality
    with pytest.raises(PredictorError, match="space"):
        load_latency(path, get_space("tiny"))


def test_a_file_whose_correction_knows_genes_alone_predicts_by_them(
    salnas: Space, known: LatencyPredictor, tmp_path: Path
) -> None:
    full = known.model.correction.weights
    genes = int((salnas.sizes - 1).sum())
    blind = np.zeros_like(full)
    blind[:genes, :genes] = full[:genes, :genes]
    now, before = tmp_path / "now.safetensors", tmp_path / "before.safetensors"
    _with_correction(known, blind).save(now)
    _with_correction(known, full[:genes, :genes]).save(before)
    rows = salnas.sample(np.random.default_rng(0), 50)
    assert (load_latency(before, salnas).mean(rows) == load_latency(now, salnas).mean(rows)).all()
    _with_correction(known, full[1:, 1:]).save(before)
    with pytest.raises(PredictorError, match="correction"):
        load_latency(before, salnas)


def _with_correction(predictor: LatencyPredictor, weights: FloatArray) -> LatencyPredictor:
    correction = replace(predictor.model.correction, weights=weights)
    return replace(predictor, model=replace(predictor.model, correction=correction))


def test_an_accuracy_predictor_is_no_latency_predictor(salnas: Space, tmp_path: Path) -> None:
    from predictors.store import save_model

    path = tmp_path / "a.safetensors"
    save_model(path, "accuracy", salnas, {"cc": np.zeros(2)}, {})
    with pytest.raises(PredictorError, match="no latency predictor"):
        load_latency(path, salnas)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_latencies_that_are_none_are_refused(salnas: Space, wrong: float) -> None:
    rows = covering_rows(salnas, np.random.default_rng(0), 20)
    latency = np.full(20, 5.0)
    latency[7] = wrong
    with pytest.raises(PredictorError, match="positive"):
        fit_latency(salnas, rows, latency, np.random.default_rng(0))


def test_another_space(tiny: Space, make_gadget: Any) -> None:
    rows = covering_rows(tiny, np.random.default_rng(0), 80)
    device = make_gadget(5)
    predictor = fit_latency(tiny, rows, device.latency_ms(tiny, rows), np.random.default_rng(0))
    unseen = tiny.sample(np.random.default_rng(1), 300)
    assert quality(device.latency_ms(tiny, unseen), predictor.predict(unseen).mean).within_5 > 0.95
