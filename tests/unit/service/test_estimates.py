from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predictors.estimate import Estimate
from predictors.tables import append, gene_columns
from service.estimates import METRICS, Choice, Estimates, Quality, load_estimates
from service.supernets import find_supernet
from supernet import metric_names
from supernet.cost import cost
from supernet.errors import DeviceError, PredictorError
from supernet.space import get_space
from tests.fixtures.tiny import TINY, write_predictors, write_supernet

SPACE = get_space("tiny")
CHOICE = Choice("cc", "cpu-1-thread")
ROWS = SPACE.sample(np.random.default_rng(5), 40)


@pytest.fixture(scope="module")
def estimates(results: Path) -> Estimates:
    return load_estimates(results, find_supernet(results, TINY))


def test_metrics_are_those_that_are_measured() -> None:
    assert set(METRICS) == set(metric_names.METRICS)


def test_columns_follow_the_choice(estimates: Estimates) -> None:
    known = estimates.columns(CHOICE)
    assert known[:2] == ("accuracy", "latency_ms")
    assert {"macs", "parameters", "memory_bytes", "kld", "latency_ms@cpu-2-threads"} <= set(known)
    assert "latency_ms" not in estimates.columns(Choice("cc", "watch"))


def test_words_mean_what_was_chosen(estimates: Estimates) -> None:
    names = ["accuracy", "nss", "latency_ms", "latency_ms@cpu-2-threads", "macs"]
    found = estimates.evaluate(ROWS, names, Choice("nss", "cpu-2-threads"))
    assert list(found) == names
    np.testing.assert_array_equal(found["accuracy"], found["nss"])
    np.testing.assert_array_equal(found["latency_ms"], found["latency_ms@cpu-2-threads"])
    np.testing.assert_array_equal(found["macs"], cost(SPACE, ROWS).macs)
    slower = estimates.evaluate(ROWS, ["latency_ms"], CHOICE)["latency_ms"]
    np.testing.assert_allclose(slower / found["latency_ms"], 2.0, rtol=0.05)


def test_a_missing_predictor_names_the_remedy(estimates: Estimates) -> None:
    with pytest.raises(DeviceError, match="cpu-1-thread") as device:
        estimates.evaluate(ROWS, ["latency_ms@watch"], CHOICE)
    assert device.value.value == "watch"
    bare = Estimates(TINY, SPACE)
    assert bare.columns(CHOICE) == ("macs", "parameters", "memory_bytes")
    for name, kind in (("accuracy", PredictorError), ("latency_ms", DeviceError)):
        with pytest.raises(kind, match="make predictors"):
            bare.evaluate(ROWS, [name], CHOICE)


def test_descriptions_hold_predictions_with_bounds(estimates: Estimates) -> None:
    (found,) = estimates.describe(ROWS[:1], CHOICE)
    assert found["id"] == SPACE.ids(ROWS[:1])[0]
    assert found["resolution"] == list(SPACE.decode(ROWS[0]).resolution)
    accuracy = found["accuracy"]
    assert accuracy["low"] < accuracy["predicted"] < accuracy["high"]
    assert accuracy["measured"] is None
    assert accuracy == estimates.predictions(ROWS[:1])["accuracy"]["cc"]
    assert set(estimates.predictions(ROWS[:1])["latency_ms"]) == {"cpu-1-thread", "cpu-2-threads"}


def _measure(results: Path, fingerprint: str) -> None:
    folder = results / "predictors" / TINY
    scores = {name: [0.5, 0.25] for name in METRICS}
    frame = pd.DataFrame({**gene_columns(SPACE, ROWS[:2]), **scores})
    append(folder / "accuracy.parquet", frame, {"supernet_fingerprint": fingerprint})
    timed = pd.DataFrame({**gene_columns(SPACE, ROWS[1:3]), "latency_ms": [3.0, 4.0]})
    append(folder / "latency-cpu-1-thread.parquet", timed, {"device": {}})


def test_measured_values_stand_beside_predicted_ones(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    write_predictors(tmp_path)
    file = find_supernet(tmp_path, TINY)
    _measure(tmp_path, file.fingerprint)
    first, second, third = load_estimates(tmp_path, file).describe(ROWS[:3], CHOICE)
    assert (first["accuracy"]["measured"], first["latency_ms"]["measured"]) == (0.5, None)
    assert (second["accuracy"]["measured"], second["latency_ms"]["measured"]) == (0.25, 3.0)
    assert (third["accuracy"]["measured"], third["latency_ms"]["measured"]) == (None, 4.0)


def test_predictors_and_measurements_of_other_weights_are_not_used(tmp_path: Path) -> None:
    write_supernet(tmp_path)
    write_predictors(tmp_path)
    _measure(tmp_path, find_supernet(tmp_path, TINY).fingerprint)
    write_supernet(tmp_path, seed=1)
    found = load_estimates(tmp_path, find_supernet(tmp_path, TINY))
    assert not found.accuracy
    assert set(found.measured) == {"latency_ms@cpu-1-thread"}
    assert set(found.evaluate(ROWS, ["latency_ms", "macs"], CHOICE)) == {"latency_ms", "macs"}
    with pytest.raises(PredictorError, match="other weights"):
        found.evaluate(ROWS, ["accuracy"], CHOICE)


def test_a_bound_that_promises_nothing_is_null(estimates: Estimates) -> None:
    @dataclass(frozen=True)
    class Vague:
        quality: Quality

        def mean(self, rows: np.ndarray, /) -> np.ndarray:
            return np.zeros(len(rows))

        def predict(self, rows: np.ndarray, /) -> Estimate:
            nothing = np.full(len(rows), np.inf)
            return Estimate(self.mean(rows), -nothing, nothing)

    vague = Estimates(TINY, SPACE, {"cc": Vague(estimates.accuracy["cc"].quality)})
    found = vague.predictions(ROWS[:1])["accuracy"]["cc"]
    assert found == {"predicted": 0.0, "low": None, "high": None, "measured": None}
