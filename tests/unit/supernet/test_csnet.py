"""CSNet: the paper's counts, the published weights, the scores they reach on ECSSD."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from supernet.baselines.csnet import (
    LEARNED_ARCHS,
    CSNet,
    CSNetArch,
    GainConv2d,
    GOctConv,
    arch_from_layer_config,
    full_arch,
    load_csnet,
)
from supernet.baselines.registry import build, complexity
from supernet.errors import CheckpointError, InvalidArch
from supernet.images import load_image, to_tensor
from supernet.metrics import max_f_measure

LEARNED_PARAMETERS = {1: 93_647, 2: 140_894}

# Complexity in the paper's Tables 6 and 11: (architecture, thousand parameters, giga "MACC").
PUBLISHED = [
    (full_arch(1.0), 211, 0.61),
    (full_arch(1.2), 298, 0.82),
    (full_arch(1.5), 455, 1.17),
    (full_arch(1.8), 645, 1.58),
    (full_arch(2.0), 788, 1.87),
    (full_arch(split=(1, 0)), 211, 0.91),
    (full_arch(split=(3, 1)), 211, 0.78),
    (full_arch(split=(1, 3)), 211, 0.47),
    (full_arch(split=(0, 1)), 211, 0.35),
    (LEARNED_ARCHS[1], 94, 0.43),
    (LEARNED_ARCHS[2], 141, 0.72),
]


def on_meta(arch: CSNetArch) -> CSNet:
    with torch.device("meta"):
        return CSNet(arch).eval()


def count_as_the_paper(net: CSNet, size: int) -> int:
    """The paper's operations: macs, 4 per BN and 3 per PReLU output, up-sampling 9, pooling."""
    extra = 0

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal extra
        if isinstance(module, nn.BatchNorm2d | nn.PReLU):
            extra += output.numel() * (4 if isinstance(module, nn.BatchNorm2d) else 3)
        elif isinstance(module, GOctConv) and (len(module.inputs), len(module.outputs)) != (1, 1):
            for source, x in inputs[0].items():
                pixels = x.shape[-1] * x.shape[-2] // module.stride**2
                extra += 5 * x.numel() * (module.stride == 2)
                for target, channels in enumerate(module.outputs):
                    if source > target:
                        extra += 9 * channels * pixels * 4 ** (source - target)
                    elif source < target and channels:
                        extra += module.kernel**2 * x.shape[1] * pixels // 4 ** (target - source)

    hooks = [module.register_forward_hook(add) for module in net.modules()]
    macs, _ = complexity(net, (size, size))
    for hook in hooks:
        hook.remove()
    return macs + extra


@pytest.mark.parametrize(("arch", "thousands", "giga"), PUBLISHED)
def test_complexity_is_the_papers(arch: CSNetArch, thousands: int, giga: float) -> None:
    net = on_meta(arch)
    assert abs(sum(p.numel() for p in net.parameters()) / 1000 - thousands) < 1
    assert count_as_the_paper(net, 224) / 1e9 == pytest.approx(giga, abs=0.006)


@pytest.mark.parametrize("width", LEARNED_ARCHS)
def test_learned_channels_have_the_published_parameters(width: int) -> None:
    net = on_meta(LEARNED_ARCHS[width])
    assert sum(p.numel() for p in net.parameters()) == LEARNED_PARAMETERS[width]


@pytest.mark.parametrize("width", LEARNED_ARCHS)
def test_learned_channels_are_those_in_the_weights_file(width: int, weights_root: Path) -> None:
    with safe_open(weights_root / f"csnet-L-x{width}.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["layer_config"])
    assert arch_from_layer_config(config) == LEARNED_ARCHS[width]


@given(width=st.sampled_from([0.5, 0.8, 1.0, 1.3, 2.0]), high=st.integers(0, 5), low=st.integers(0, 5))
@settings(max_examples=25)
def test_a_split_moves_channels_but_keeps_parameters(width: float, high: int, low: int) -> None:
    if high + low == 0:
        with pytest.raises(InvalidArch):
            full_arch(width, (high, low))
        return
    arch, even = full_arch(width, (high, low)), full_arch(width)
    assert sum(arch.stem) == sum(even.stem)
    counts = [sum(p.numel() for p in on_meta(a).parameters()) for a in (arch, even)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("split", [(5, 5), (3, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("size", [(32, 32), (16, 48)])
def test_map_has_the_size_of_the_photo(split: tuple[int, int], size: tuple[int, int]) -> None:
    net = CSNet(full_arch(0.5, split)).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, *size)).shape == (2, *size)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(InvalidArch, match="40x32"):
        CSNet(full_arch(0.5))(torch.zeros(1, 3, 32, 40))


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    net = CSNet(LEARNED_ARCHS[2])
    net(torch.randn(2, 3, 64, 64)).square().mean().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_goctconv_of_one_scale_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer = GOctConv((4,), (6,), kernel=3).eval()
    x = torch.randn(2, 4, 8, 8)
    scale = layer.scales["0"].eval()
    expected = scale(F.conv2d(x, layer.weight * 100, padding=1))
    torch.testing.assert_close(layer({0: x})[0], expected)


def test_goctconv_adds_what_comes_from_each_scale() -> None:
    torch.manual_seed(0)
    layer = GOctConv((2, 3, 1), (4, 0, 2), stride=2).eval()
    x = {0: torch.randn(1, 2, 16, 16), 1: torch.randn(1, 3, 8, 8), 2: torch.randn(1, 1, 4, 4)}
    w = layer.weight
    small = {i: F.avg_pool2d(t, 2) for i, t in x.items()}
    up = nn.UpsamplingBilinear2d  # align_corners=True: a wrong neighbour, to show that the test can tell
    high = F.conv2d(small[0], w[:4, :2])
    for i, columns in ((1, slice(2, 5)), (2, slice(5, 6))):
        raised = F.conv2d(small[i], w[:4, columns])
        assert not torch.allclose(up(scale_factor=2**i)(raised), _upsample(raised, 2**i))
        high = high + _upsample(raised, 2**i)
    low = F.conv2d(F.max_pool2d(small[0], 4), w[4:, :2])
    low = low + F.conv2d(F.max_pool2d(small[1], 2), w[4:, 2:5]) + F.conv2d(small[2], w[4:, 5:])
    result = layer(x)
    assert set(result) == {0, 2}
    torch.testing.assert_close(result[0], layer.scales["0"](high))
    torch.testing.assert_close(result[2], layer.scales["2"](low))


def _upsample(x: torch.Tensor, factor: int) -> torch.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def test_the_gain_multiplies_the_kernel() -> None:
    torch.manual_seed(0)
    layer = GainConv2d(2, 3, dilation=2)
    x = torch.randn(1, 2, 9, 9)
    torch.testing.assert_close(layer(x), F.conv2d(x, 100 * layer.weight, padding=2, dilation=2))


@pytest.mark.parametrize(
    "change",
    [
        {"stem": (0, 0)},
        {"merged": 0},
        {"stages": LEARNED_ARCHS[1].stages[:3]},
        {"dilated": LEARNED_ARCHS[1].dilated[:2]},
    ],
)
def test_an_arch_without_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArch):
        replace(LEARNED_ARCHS[1], **change)


@pytest.mark.parametrize("width", [0, -1])
def test_a_width_without_sense_is_refused(width: float) -> None:
    with pytest.raises(InvalidArch, match="width"):
        full_arch(width)


def test_weights_that_are_not_there_or_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no CSNet weights file"):
        load_csnet(tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(CheckpointError, match="does not hold"):
        load_csnet(tmp_path / "broken.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="does not hold"):
        load_csnet(tmp_path / "other.safetensors")
    metadata = {"layer_config": json.dumps({"layers": [[3, [8, 10]]], "blocks_per_stage": [3, 4, 6, 4]})}
    save_file({"a": torch.zeros(1)}, tmp_path / "short.safetensors", metadata)
    with pytest.raises(CheckpointError, match="layer_config"):
        load_csnet(tmp_path / "short.safetensors")


@pytest.mark.parametrize("width", [1, 2])
def test_no_weight_is_subnormal_which_would_slow_processors_down(width: int, weights_root: Path) -> None:
    path = weights_root / f"csnet-L-x{width}.safetensors"

    def subnormal(tensors: Iterable[torch.Tensor]) -> int:
        return sum(int(((t != 0) & (t.abs() < torch.finfo(torch.float32).tiny)).sum()) for t in tensors)

    with safe_open(path, framework="pt") as file:
        assert subnormal(file.get_tensor(name) for name in file.keys()) > 100  # noqa: SIM118
    assert subnormal(load_csnet(path).state_dict().values()) == 0


@pytest.mark.parametrize("width", LEARNED_ARCHS)
def test_published_weights_fill_every_tensor(width: int, weights_root: Path) -> None:
    net = load_csnet(weights_root / f"csnet-L-x{width}.safetensors")
    assert not net.training
    assert net.arch == LEARNED_ARCHS[width]
    assert sum(p.numel() for p in net.parameters()) == LEARNED_PARAMETERS[width]
    with safe_open(weights_root / f"csnet-L-x{width}.safetensors", framework="pt") as file:
        published = sum(float(file.get_tensor(k).double().sum()) for k in file.keys())  # noqa: SIM118
    assert sum(float(t.double().sum()) for t in net.state_dict().values()) == pytest.approx(published)


# Oracle: published code and weights on this copy of ECSSD, network.md section 9.
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "max_f", "mae"), [("csnet-x1", 0.8978, 0.0767), ("csnet-x2", 0.9130, 0.0672)]
)
def test_published_weights_reach_the_published_scores(
    name: str, max_f: float, mae: float, weights_root: Path, data_root: Path
) -> None:
    stimuli = sorted((data_root / "ecssd" / "stimuli").iterdir())
    if len(stimuli) != 1000:
        pytest.skip("ECSSD is not complete here")
    net = build(name, weights_root)
    with ThreadPoolExecutor(2) as pool:
        maps = list(pool.map(lambda path: torch.from_numpy(_predict(net, path)), stimuli))
    masks = []
    for path in stimuli:
        mask = np.asarray(Image.open(data_root / "ecssd" / "masks" / f"{path.stem}.png").convert("L")) > 127
        masks.append(torch.from_numpy(mask))
    assert max_f_measure(maps, masks) == pytest.approx(max_f, abs=0.002)
    errors = [(m.double() / 255 - t.double()).abs().mean() for m, t in zip(maps, masks, strict=True)]
    assert float(torch.stack(errors).mean()) == pytest.approx(mae, abs=0.002)


@torch.inference_mode()
def _predict(net: nn.Module, path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    photo = load_image(path)
    saliency = net(to_tensor(photo, (224, 224)))[None]
    resized = F.interpolate(saliency, size=photo.size[::-1], mode="bilinear", align_corners=False)[0, 0]
    return np.asarray(np.rint(resized.numpy() * 255), dtype=np.uint8)
