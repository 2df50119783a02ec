"""Every runtime runs every end of a space, on the threads that were asked for."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import onnxruntime
import pytest

from predictors.fit import timed_devices
from predictors.runtimes import describe_machine, runtime
from predictors.timing import ON_CUDA, RUNTIMES, TimingPlan, time_group
from supernet.errors import DeviceError
from supernet.network import Supernet
from supernet.runtime import CUDA


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_larger_subnet_takes_longer(tiny_supernet: Supernet, name: str) -> None:
    if name == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    if name == ON_CUDA and CUDA not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime was built without CUDA")
    space = tiny_supernet.space
    prepare = runtime(name, tiny_supernet, 1)
    ends = [space.smallest(), space.largest()]
    plan = TimingPlan(rounds=30)  # a fraction of a millisecond each: five were once of another order
    timed = time_group(prepare, space.smallest(), ends, plan, np.random.default_rng(0))
    assert (timed.raw_ms > 0).all()
    assert timed.ratio[0] < timed.ratio[1]


def test_another_version_of_the_runtime_is_another_device() -> None:
    assert {"onnxruntime", "torch"} < set(describe_machine())
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    assert set(describe_machine("openvino")) - set(describe_machine()) == {"openvino"}


def test_devices_are_called_by_threads_and_runtime() -> None:
    assert timed_devices([1, 2]) == {"cpu-1-thread": 1, "cpu-2-threads": 2}
    assert list(timed_devices([2], "torch")) == ["cpu-2-threads-torch"]
    assert list(timed_devices([1], "onnxruntime-int8")) == ["cpu-1-thread-int8"]
    assert list(timed_devices([1, 2], "openvino", "laptop")) == [
        "laptop-1-thread-openvino",
        "laptop-2-threads-openvino",
    ]
    assert list(timed_devices([1], ON_CUDA, "jetson")) == ["jetson-cuda"]
    assert timed_devices([1, 2], ON_CUDA) == {"cuda": 1}, "whatever the CPU does meanwhile"
    assert "gpu" in describe_machine(ON_CUDA)


def test_what_is_not_there_is_named(tiny_supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="abacus") as caught:
        runtime("abacus", tiny_supernet, 1)
    assert "onnxruntime-int8" in (caught.value.remedy or "")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match=r"pip install 'salnas\[openvino\]'"):
        runtime("openvino", tiny_supernet, 1)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        runtime(ON_CUDA, tiny_supernet, 1)
