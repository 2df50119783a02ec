"""Measured memory beside the exact table."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from predictors.memory import measure_memory
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
