"""Real measurements of a tiny supernet: the scores of an evaluation, latencies in the unit of the device."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from predictors.devices import Device
from predictors.latency import fit_latency
from predictors.runtimes import describe_machine
from predictors.timing import TimingPlan
from search.instruments import LatencyMeter, accuracy_meter, latency_meter
from search.measuring import Measurement
from supernet.cost import cost
from supernet.data.registry import open_dataset
from supernet.errors import DataError, DeviceError
from supernet.evaluate import evaluate
from supernet.metric_names import METRICS
from supernet.network import Supernet, extract
from supernet.space import get_space
from tests.fixtures.tiny import write_data

SPACE = get_space("tiny")
ROWS = SPACE.sample(np.random.default_rng(0), 3)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Supernet(SPACE).eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("photos"), 10)


def device(name: str = "here", **provenance: Any) -> Device:
    rng = np.random.default_rng(0)
    rows = SPACE.sample(rng, 60)
    fitted = fit_latency(SPACE, rows, 1.0 + cost(SPACE, rows).macs / 1e6, rng, provenance=provenance)
    return Device(name, fitted, "onnxruntime", 1, details=describe_machine())


def test_accuracy_is_that_of_an_evaluation_of_the_last_training_photos(
    supernet: Supernet, photos: Path
) -> None:
    meter = accuracy_meter(supernet, "abc", "nss", data=str(photos), photos=3)
    found = meter(ROWS)
    assert set(found) == {"accuracy", *METRICS} == set(meter.columns)
    np.testing.assert_array_equal(found["accuracy"], found["nss"])
    training = open_dataset(photos, split="train")
    for i, arch in enumerate(SPACE.decode_many(ROWS)):
        whole = evaluate(extract(supernet, arch), training)
        for name in METRICS:
            assert found[name][i] == pytest.approx(np.nanmean(whole.columns[name][-3:]), abs=1e-6)
    assert meter.identity["supernet_fingerprint"] == "abc"
    other = accuracy_meter(supernet, "abc", "nss", data=str(photos), photos=2)
    assert other.identity["photos_fingerprint"] != meter.identity["photos_fingerprint"]


def test_more_photos_than_there_are_is_refused(supernet: Supernet, photos: Path) -> None:
    with pytest.raises(DataError):
        accuracy_meter(supernet, "abc", "cc", data=str(photos), photos=1000)


def test_latency_is_in_the_unit_of_the_device(supernet: Supernet) -> None:
    columns = ("latency_ms@here", "latency_ms")
    meter = latency_meter(supernet, device(reference_ms=7.0), columns)
    quick = LatencyMeter(**{**vars(meter), "plan": TimingPlan(rounds=3, warm_up=1, retries=0)})
    ends = np.stack([0 * SPACE.sizes, SPACE.sizes - 1])
    found = quick(ends)
    np.testing.assert_array_equal(found["latency_ms"], found["latency_ms@here"])
    smallest, largest = found["latency_ms"]
    assert smallest == pytest.approx(7.0, rel=0.8), "the smallest subnet is the unit"
    assert largest > smallest
    assert meter.identity["about"]["threads"] == 1
    assert meter.name == "latency-here"


@pytest.mark.parametrize("other", [{"processor": "Pocket 3"}, {"instructions": "avx1024"}])
def test_another_machine_is_refused(supernet: Supernet, other: dict[str, str]) -> None:
    meter = latency_meter(supernet, device(reference_ms=7.0), ("latency_ms",))
    elsewhere = LatencyMeter(**{**vars(meter), "machine": {**meter.machine, **other}})
    with pytest.raises(DeviceError, match="not the device here"):
        elsewhere(ROWS)


@pytest.mark.parametrize(
    "unknown", [{"runtime": "somebody's"}, {"threads": None}, {"predictor": device().predictor}]
)
def test_a_device_known_by_numbers_alone_is_refused(supernet: Supernet, unknown: dict[str, Any]) -> None:
    known = device(reference_ms=7.0)
    with pytest.raises(DeviceError, match="cannot be timed"):
        latency_meter(supernet, Device(**{**vars(known), **unknown}), ("latency_ms",))


def test_instruments_travel(supernet: Supernet, photos: Path) -> None:
    meter: Measurement = accuracy_meter(supernet, "abc", "cc", data=str(photos), photos=2)
    back = pickle.loads(pickle.dumps(meter))  # noqa: S301
    np.testing.assert_array_equal(back(ROWS)["cc"], meter(ROWS)["cc"])
    timer: Measurement = latency_meter(supernet, device(reference_ms=7.0), ("latency_ms",))
    assert pickle.loads(pickle.dumps(timer)).identity == timer.identity  # noqa: S301
