"""`GET /v1/models` answers with what the reference models are and what was measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.routes.models import read_models
from supernet.baselines import measured
from supernet.baselines.registry import find_model


def test_models_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "reference_models", lambda: (find_model("csnet-x1"),))
    (tmp_path / measured.FOLDER).mkdir()
    entry = {
        "weights": "published",
        "scores": {"cc": 0.4, "auc": None},
        "held_out": {"cc": 0.5},
        "latency_ms": {"cpu-1-thread": 9.5},
    }
    (tmp_path / measured.FOLDER / measured.MEASURED).write_text(json.dumps({"models": {"csnet-x1": entry}}))
    service = cast(Any, SimpleNamespace(settings=SimpleNamespace(results=tmp_path)))
    (model,) = read_models(service).models
    assert (model.id, model.weights, model.parameters) == ("csnet-x1", "published", 93_647)
    assert model.accuracy == {"cc": 0.4}
    assert model.held_out_accuracy == {"cc": 0.5}
    assert model.latency_ms == {"cpu-1-thread": 9.5}
    assert {figure.metric for figure in model.reported} >= {"parameters", "max_f"}
