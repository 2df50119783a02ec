"""MobileNetV2: the published counts, the weights at hand, what it sees in photos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from supernet.baselines.mobilenet_v2 import (
    WEIGHTS_FILE,
    MobileNetV2,
    MobileNetV2Features,
    far_padding,
    load_mobilenet_v2,
    refill_batch_norms,
)
from supernet.baselines.registry import complexity
from supernet.errors import CheckpointError, DataError
from supernet.images import load_image, to_tensor

# Photos of ECSSD whose subject is an ImageNet class that nobody can mistake.
SUBJECTS = {
    "0061": 345,  # ox
    "0211": 319,  # dragonfly
    "0281": 15,  # robin
    "0441": 88,  # macaw
    "0861": 407,  # ambulance
    "0961": 404,  # airliner
}


def test_counts_are_the_papers() -> None:
    with torch.device("meta"):
        net = MobileNetV2()
    macs, parameters = complexity(net, (224, 224))
    assert parameters == 3_504_872  # 3.4 M in the paper; 3.50 M with its batch norms
    assert macs == 300_774_272  # 300 M in the paper
    assert sum(p.numel() for p in net.features.parameters()) == 2_223_872


def test_outputs_of_all_stages() -> None:
    with torch.device("meta"):
        taps = MobileNetV2Features().taps(torch.empty(1, 3, 64, 96))
    widths = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320, 1280]
    strides = [2, *[4] * 2, *[8] * 3, *[16] * 7, *[32] * 5]
    assert [t.shape for t in taps] == [(1, w, 64 // s, 96 // s) for w, s in zip(widths, strides, strict=True)]


@given(size=st.integers(1, 65), kernel=st.sampled_from([1, 3, 5]), stride=st.sampled_from([1, 2]))
def test_padding_keeps_size_over_stride_and_favours_the_far_side(size: int, kernel: int, stride: int) -> None:
    before, after = far_padding(size, kernel, stride)
    if kernel >= stride:
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert 0 <= after - before <= 1


def test_even_sizes_pad_at_the_far_side_only() -> None:
    assert far_padding(224, 3, 2) == (0, 1)
    assert far_padding(7, 3, 2) == (1, 1)


def test_weights_that_are_not_there_or_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no MobileNetV2 weights file"):
        load_mobilenet_v2(tmp_path / "absent.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="does not hold"):
        load_mobilenet_v2(tmp_path / "other.safetensors")


@pytest.fixture(scope="module")
def net(weights_root: Path) -> MobileNetV2:
    return load_mobilenet_v2(weights_root / WEIGHTS_FILE)


def run_as_listed(path: Path, x: Tensor) -> Tensor:
    """The network layer by layer as the file lists it; a block adds its input where the shapes agree."""
    with safe_open(path, framework="pt") as file:
        layers = json.loads(file.metadata()["layers"])
        block = x
        for layer in layers[:-1]:
            weight, bias = (file.get_tensor(f"{layer['name']}.{part}") for part in ("weight", "bias"))
            if weight.shape[2:] == (3, 3):
                x = F.pad(x, (0, 1, 0, 1) if layer["stride"] == 2 else (1, 1, 1, 1))
            groups = weight.shape[0] if layer["kind"] == "depthwise" else 1
            x = F.conv2d(x, weight, bias, layer["stride"], groups=groups)
            if layer["activation"] == "relu6":
                x = F.relu6(x)
            else:
                block = x = x + block if x.shape == block.shape else x
        last = layers[-1]["name"]
        return F.linear(x.mean((2, 3)), file.get_tensor(f"{last}.weight"), file.get_tensor(f"{last}.bias"))


@torch.no_grad()
def test_module_equals_the_listed_layers(net: MobileNetV2, weights_root: Path) -> None:
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = run_as_listed(weights_root / WEIGHTS_FILE, x)
    assert expected.std() > 0.5
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_photos_are_recognised(net: MobileNetV2, data_root: Path) -> None:
    folder = data_root / "ecssd" / "stimuli"
    photos = torch.cat([to_tensor(load_image(folder / f"{name}.jpg"), (224, 224)) for name in SUBJECTS])
    confidence, label = net(photos).softmax(dim=1).max(dim=1)
    assert label.tolist() == list(SUBJECTS.values())
    assert confidence.min() > 0.85


@torch.no_grad()
def test_refilled_batch_norms_keep_the_function_and_agree_with_training(weights_root: Path) -> None:
    net = load_mobilenet_v2(weights_root / WEIGHTS_FILE).double()
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    before = net(x)
    assert not torch.allclose(net.train()(x), before, atol=0.1)
    net = load_mobilenet_v2(weights_root / WEIGHTS_FILE).double()
    refill_batch_norms(net, [x[:2], x[2:]])
    assert not net.training
    torch.testing.assert_close(net(x), before, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(net.train()(x), before, rtol=1e-6, atol=1e-6)


def test_refilling_needs_photos() -> None:
    with pytest.raises(DataError, match="at least one batch"):
        refill_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), [])
