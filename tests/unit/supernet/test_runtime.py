"""Sessions load what was exported and nothing else; latencies are those of as many runs as asked for."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from supernet.errors import ExportError
from supernet.export import export_onnx
from supernet.network import SaliencyNet
from supernet.onnx_graph import InputType
from supernet.runtime import measure_latency, onnx_session, quick_latency_ms, random_photos
from supernet.space import get_space


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_photos_of_noise_fit_the_model(input_type: InputType, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(SaliencyNet(get_space("tiny").smallest()), path, input_type=input_type)
    for session in (onnx_session(path), onnx_session(path.read_bytes(), 2)):
        feed = random_photos(session, np.random.default_rng(0), 3)
        assert feed["image"].dtype == input_type
        assert feed["image"].max() == 255
        (maps,) = session.run(None, feed)
        assert maps.shape == (3, 32, 32)


class Sleeper:
    """A session that sleeps."""

    name, type, shape = "image", "tensor(uint8)", ("batch", 3, 4, 4)

    def __init__(self, naps: list[float]) -> None:
        self.naps = naps
        self.feeds: list[Any] = []

    def get_inputs(self) -> list["Sleeper"]:
        return [self]

    def run(self, outputs: None, feed: Any) -> None:
        self.feeds.append(feed)
        time.sleep(self.naps[len(self.feeds) - 1])


def test_latency_is_the_median_after_the_warm_up() -> None:
    session = Sleeper([0.2, 0.01, 0.01, 0.05])
    latency = measure_latency(session, runs=3, warm_up=1)
    assert len(session.feeds) == 4
    assert latency.n == 3
    assert 10 <= latency.median_ms < 50
    assert latency.mad_ms < 20


@pytest.mark.parametrize(("nap", "runs"), [(0.06, 3), (0.005, 3 + 10)])
def test_a_quick_latency_takes_more_runs_where_they_are_short(nap: float, runs: int) -> None:
    session = Sleeper([nap] * runs)
    assert 1e3 * nap <= quick_latency_ms(session) < 4e3 * nap
    assert len(session.feeds) == runs


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"no model")
    for model in (path, tmp_path / "missing.onnx", b"no model"):
        with pytest.raises(ExportError, match="cannot load") as caught:
            onnx_session(model)
        assert caught.value.field == "model"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_another_processor_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(SaliencyNet(get_space("tiny").smallest()), path)
    for provider in onnxruntime.get_available_providers():
        assert provider in onnx_session(path, provider=provider).get_providers()
    with pytest.raises(ExportError, match="AbacusExecutionProvider"):
        onnx_session(path, provider="AbacusExecutionProvider")


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="pip install"):
        onnx_session(b"")
