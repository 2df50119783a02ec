"""Measured memory beside the exact table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from predictors import memory
from predictors.memory import energy_meter, measure_memory
from supernet.cost import cost
from supernet.errors import DeviceError
from supernet.network import SaliencyNet
from supernet.onnx_graph import saliency_model
from supernet.space import Space


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_measured_memory_goes_with_the_exact_one(salnas: Space) -> None:
    torch.manual_seed(0)
    ends = np.stack([0 * salnas.sizes, salnas.sizes - 1])
    exact = cost(salnas, ends)
    for row, activations, parameters in zip(ends, exact.memory_bytes, exact.parameters, strict=True):
        net = SaliencyNet(salnas.decode(row)).eval()
        used = measure_memory(saliency_model(net).SerializeToString())
        assert activations <= used.activations <= 2.5 * activations
        assert 4 * parameters <= used.weights <= 2.5 * 4 * parameters


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "python", stderr="no /proc here")

    monkeypatch.setattr(subprocess, "run", silent)
    with pytest.raises(DeviceError, match="no /proc here"):
        measure_memory(b"")


def test_energy_is_read_from_a_meter_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_POWER", tmp_path)
    assert energy_meter() is None
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("12\n")
    assert energy_meter() == tmp_path / "intel-rapl:0" / "energy_uj"
