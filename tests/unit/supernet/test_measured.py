"""Dominance against a search by hand, and measured models as points of a chart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from supernet.baselines.measured import (
    FOLDER,
    MEASURED,
    Point,
    describe_models,
    dominance,
    reference_points,
    weights_of,
)
from supernet.baselines.registry import find_model
from supernet.errors import CheckpointError


def test_dominance_of_a_slower_and_worse_model() -> None:
    subnets = [Point("a", 10, 0.70), Point("b", 20, 0.74), Point("c", 40, 0.76)]
    found = dominance(Point("rival", 25, 0.72), subnets)
    assert (found.faster, found.better) == ("b", "b")
    assert found.gained == pytest.approx(0.02)
    assert found.saved == pytest.approx(0.2)
    assert found.is_dominated


def test_a_model_beyond_the_subnets_is_not_dominated() -> None:
    subnets = [Point("a", 10, 0.70), Point("b", 20, 0.74)]
    quick = dominance(Point("quick", 5, 0.6), subnets)
    assert (quick.faster, quick.gained, quick.is_dominated) == (None, None, False)
    assert quick.saved == pytest.approx(-1.0)
    good = dominance(Point("good", 30, 0.9), subnets)
    assert (good.better, good.saved, good.is_dominated) == (None, None, False)
    assert good.gained == pytest.approx(-0.16)


def test_dominated_means_what_it_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        subnets = [Point(str(i), *map(float, rng.integers(1, 6, 2))) for i in range(4)]
        rival = Point("rival", *map(float, rng.integers(1, 6, 2)))
        expected = any(
            s.latency_ms <= rival.latency_ms
            and s.score >= rival.score
            and (s.latency_ms < rival.latency_ms or s.score > rival.score)
            for s in subnets
        )
        assert dominance(rival, subnets).is_dominated == expected, (rival, subnets)


def test_measured_models_become_points(tmp_path: Path) -> None:
    assert reference_points(tmp_path) == []
    (tmp_path / FOLDER).mkdir()
    entry = {"weights": "published", "scores": {"cc": 0.5}, "latency_ms": {"cpu-1-thread": 12.0}}
    content = {"models": {"csnet-x1": entry, "gone": entry}}
    (tmp_path / FOLDER / MEASURED).write_text(json.dumps(content))
    (point,) = reference_points(tmp_path)
    assert (point.name, point.parameters, point.scores["cc"]) == ("csnet-x1", 93_647, 0.5)
    described = {model["name"]: model for model in describe_models(tmp_path)}
    assert described["csnet-x1"]["latency_ms"] == {"cpu-1-thread": 12.0}
    assert described["csnet-x2"]["scores"] == {}
    (tmp_path / FOLDER / MEASURED).write_text("{")
    with pytest.raises(CheckpointError, match="bench-models"):
        reference_points(tmp_path)


def test_trained_weights_go_before_published_ones(tmp_path: Path) -> None:
    assert weights_of(tmp_path, find_model("fastsal-a")) == "random"
    assert weights_of(tmp_path, find_model("csnet-x1")) == "published"
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "fastsal-a.safetensors").write_bytes(b"")
    assert weights_of(tmp_path, find_model("fastsal-a")) == "trained"


def test_what_was_trained_and_measured_elsewhere_is_absent(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    content = {"models": {"csnet-x1-fixations": {"weights": "trained", "scores": {"cc": 0.7}}}}
    (tmp_path / FOLDER / MEASURED).write_text(json.dumps(content))
    described = {model["name"]: model for model in describe_models(tmp_path)}
    assert described["csnet-x1-fixations"]["weights"] == "absent"
    assert described["csnet-x2-fixations"]["weights"] == "random"
    (tmp_path / FOLDER / "csnet-x1-fixations.safetensors").write_bytes(b"")
    described = {model["name"]: model for model in describe_models(tmp_path)}
    assert described["csnet-x1-fixations"]["weights"] == "trained"
