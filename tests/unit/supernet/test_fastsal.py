"""FastSal: counts beside the paper's, the two decoders, the ImageNet encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supernet.baselines.fastsal import GROUP_WIDTHS, FastSal, Variant, fastsal_on_imagenet, group_taps
from supernet.baselines.mobilenet_v2 import (
    WEIGHTS_FILE,
    MobileNetV2Features,
    load_mobilenet_v2,
    refill_batch_norms,
)
from supernet.baselines.registry import complexity
from supernet.errors import InvalidArch


def on_meta(variant: Variant) -> FastSal:
    with torch.device("meta"):
        return FastSal(variant).eval()


def decoder_parameters(variant: Variant) -> int:
    """By hand: adapters and read-out with bias, inverted residuals with three batch norms."""
    adapters = {"C": (128, 256, 512, 512), "A": (8, 32, 128, 512)}[variant]
    total = sum(c * w + w for c, w in zip((28, 24, 136, 520), adapters, strict=True))
    if variant == "C":
        return total + 9 * 352 + 1
    blocks = sum(w * 2 * w + 2 * 2 * w + 9 * 2 * w + 2 * 2 * w + 2 * w * w + 2 * w for w in adapters)
    return total + blocks + 9 * 2 + 1


@pytest.mark.parametrize(("variant", "millions"), [("C", 2.57), ("A", 3.65)])
def test_parameters_are_the_papers(variant: Variant, millions: float) -> None:
    net = on_meta(variant)
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters == {"C": 2_574_049, "A": 3_646_715}[variant]
    assert round(parameters / 1e6, 2) == millions
    assert sum(p.numel() for p in net.encoder.parameters()) == 2_223_872
    assert parameters - 2_223_872 == decoder_parameters(variant)


@pytest.mark.parametrize(
    ("variant", "macs", "operations"), [("C", 616_605_696, 657_149_952), ("A", 638_330_880, 663_736_320)]
)
def test_macs_are_those_the_docstring_states(variant: Variant, macs: int, operations: int) -> None:
    net = on_meta(variant)
    others = 0

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal others
        if isinstance(module, nn.BatchNorm2d):
            relu6 = 0 if module in projections else output.numel()
            others += 2 * output.numel() + relu6
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            adapter = module is not net.readout
            others += output.numel() * (2 if adapter else 1)  # bias, and ReLU after an adapter

    layers = list(net.modules())
    projections = {m.norm for m in layers if getattr(m, "relu", True) is False}
    for module in layers:
        module.register_forward_hook(add)
    assert complexity(net, (192, 256))[0] == macs
    upsampled = (256 + 512 + 512) * 96 * 128 if variant == "C" else 0
    assert macs + others + upsampled == operations
    assert 2 * operations / 1e9 == pytest.approx(1.32, abs=0.01)


def test_groups_have_the_papers_channels() -> None:
    with torch.device("meta"):
        groups = group_taps(MobileNetV2Features().taps(torch.empty(1, 3, 192, 256)))
    assert [g.shape[1] for g in groups] == list(GROUP_WIDTHS)
    assert [g.shape[2:] for g in groups] == [(96, 128), (48, 64), (24, 32), (12, 16)]


@pytest.mark.parametrize(("variant", "widths"), [("C", [128, 256, 512, 512]), ("A", [8, 32, 128, 512])])
def test_hints_are_the_adapted_groups(variant: Variant, widths: list[int]) -> None:
    hints = on_meta(variant).hints(torch.empty(2, 3, 64, 64, device="meta"))
    assert [h.shape for h in hints] == [(2, w, 32 >> i, 32 >> i) for i, w in enumerate(widths)]


@given(
    variant=st.sampled_from(["A", "C"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    n=st.integers(1, 3),
)
@settings(max_examples=12)
def test_map_has_the_size_of_the_photo(variant: Variant, height: int, width: int, n: int) -> None:
    logits = on_meta(variant)(torch.empty(n, 3, 32 * height, 32 * width, device="meta"))
    assert logits.shape == (n, 32 * height, 32 * width)


@pytest.mark.parametrize("variant", ["A", "C"])
def test_every_parameter_learns(variant: Variant) -> None:
    torch.manual_seed(0)
    net = FastSal(variant)
    net(torch.rand(2, 3, 64, 64) * 2 - 1).square().mean().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@torch.no_grad()
def test_addition_passes_the_sum_and_its_residual() -> None:
    torch.manual_seed(0)
    net = FastSal("A").eval()
    for norm in (m for name, m in net.merges.named_modules() if name.endswith("layers.2.norm")):
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.zero_()  # each inverted residual becomes its shortcut
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    h = net.hints(x)
    f = h[3] * 2
    for i in (2, 1, 0):
        f = (h[i] + nn.functional.pixel_shuffle(f, 2)) * 2
    torch.testing.assert_close(net(x), net.readout(nn.functional.pixel_shuffle(f, 2))[:, 0])


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(InvalidArch, match="'B'"):
        FastSal("B")  # type: ignore[arg-type]
    with pytest.raises(InvalidArch, match="48x32"):
        FastSal("A")(torch.zeros(1, 3, 32, 48))


@pytest.mark.parametrize("variant", ["A", "C"])
@torch.no_grad()
def test_encoder_has_the_imagenet_features(variant: Variant, weights_root: Path) -> None:
    net = fastsal_on_imagenet(variant, weights_root / WEIGHTS_FILE)
    features = load_mobilenet_v2(weights_root / WEIGHTS_FILE).features
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert not net.training
    torch.testing.assert_close(net.encoder(x), features(x))
    before = net(x)
    refill_batch_norms(net, [x, -x])
    torch.testing.assert_close(net(x), before, rtol=1e-3, atol=1e-4)
