from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from predictors.latency import LatencyPredictor
from predictors.pack import pack_rows
from predictors.ranking import Quality, quality
from predictors.transfer import NOTHING, fit_scales, transfer_latency
from supernet.errors import PredictorError
from supernet.sampling import covering_rows
from supernet.space import Space


def test_scales_are_found_where_there_is_no_doubt() -> None:
    rng = np.random.default_rng(0)
    parts = rng.uniform(1.0, 5.0, (200, 4))
    scales = np.array([2.0, 0.5, 1.0, 3.0])
    assert fit_scales(parts, parts @ scales) == pytest.approx(scales, rel=1e-2)


def test_scales_are_drawn_together_and_never_negative() -> None:
    rng = np.random.default_rng(1)
    parts = np.column_stack([rng.uniform(1.0, 2.0, (4, 5)), np.ones(4)])
    latency = 3.0 * parts[:, :-1].sum(axis=1) * np.exp(0.05 * rng.normal(size=4))
    scales = fit_scales(parts, latency)
    assert (scales >= 0).all()
    assert scales[:-1] == pytest.approx(np.full(5, 3.0), rel=0.3)


def transferred(
    salnas: Space, known: LatencyPredictor, device: Any, n: int
) -> tuple[LatencyPredictor, Quality, float]:
    rows = pack_rows(salnas, n)
    found = transfer_latency(
        salnas, {"known": known}, rows, device.latency_ms(salnas, rows), np.random.default_rng(0)
    )
    unseen = covering_rows(salnas, np.random.default_rng(11), 400)
    truth = device.latency_ms(salnas, unseen)
    estimate = found.predict(unseen)
    inside = (estimate.low <= truth) & (truth <= estimate.high)
    return found, quality(truth, estimate.mean), float(inside.mean())


DEVICES = [
    {"seed": 21, "contrast": 0.2},
    {"seed": 22, "contrast": 0.5},
    {"seed": 23, "contrast": 0.3, "start": 0.3},
    {"seed": 24, "contrast": 0.3, "noise": 0.03},
]


@pytest.mark.parametrize("about", DEVICES, ids=["alike", "unlike", "slow to start", "noisy"])
def test_ten_measurements_rank_and_thirty_predict(
    salnas: Space, known: LatencyPredictor, make_gadget: Any, about: dict[str, Any]
) -> None:
    device = make_gadget(**about)
    found, ten, _ = transferred(salnas, known, device, 10)
    assert found.provenance["start"] == "known"
    assert ten.spearman >= 0.95
    _, thirty, _ = transferred(salnas, known, device, 30)
    assert thirty.within_10 >= 0.95


def test_intervals_hold_on_the_average_device(
    salnas: Space, known: LatencyPredictor, make_gadget: Any
) -> None:
    covered = [
        transferred(salnas, known, make_gadget(seed, contrast=0.3, noise=noise), n)[2]
        for seed in range(50, 54)
        for noise in (0.01, 0.04)
        for n in (12, 30)
    ]
    assert 0.87 <= np.mean(covered) <= 0.99


def test_many_measurements_need_no_known_device(salnas: Space, make_gadget: Any) -> None:
    rows = pack_rows(salnas, 100)
    found = transfer_latency(
        salnas, {}, rows, make_gadget(30).latency_ms(salnas, rows), np.random.default_rng(0)
    )
    assert found.provenance["start"] == NOTHING
    assert found.quality.spearman > 0.98


def test_the_better_start_wins(salnas: Space, known: LatencyPredictor, make_gadget: Any) -> None:
    rows = covering_rows(salnas, np.random.default_rng(0), 150)
    from predictors.latency import fit_latency

    near = fit_latency(
        salnas, rows, make_gadget(40, habit=0.02).latency_ms(salnas, rows), np.random.default_rng(0), folds=5
    )
    few = pack_rows(salnas, 12)
    found = transfer_latency(
        salnas,
        {"far": known, "near": near},
        few,
        2.5 * make_gadget(40, habit=0.02).latency_ms(salnas, few),
        np.random.default_rng(0),
    )
    assert found.provenance["start"] == "near"


def test_nine_measurements_are_too_few(salnas: Space, known: LatencyPredictor) -> None:
    with pytest.raises(PredictorError, match="9 measured subnets"):
        transfer_latency(salnas, {"known": known}, pack_rows(salnas, 9), np.ones(9), np.random.default_rng(0))
