"""A state dict of the public shapes, mapped, computes what the public network computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from supernet.__main__ import app
from supernet.checkpoint import load_supernet
from supernet.data.folder import write_folder
from supernet.data.synthetic import synthetic
from supernet.errors import CheckpointError
from supernet.foreign import import_public
from supernet.space import get_space
from supernet.train_config import TrainConfig

# Width, blocks, expansion, gate, stride of the largest subnet's stages, written down from Table 1.
STAGES = [
    (24, 2, 1, False, 1),
    (32, 5, 6, False, 2),
    (40, 6, 6, True, 2),
    (72, 6, 6, False, 2),
    (128, 8, 6, True, 1),
    (216, 8, 6, True, 2),
    (224, 2, 6, True, 1),
]
GATES = {144: 40, 192: 48, 240: 64, 432: 112, 768: 192, 1296: 328, 1344: 336}


def public_state(seed: int = 0, decoder: bool = True) -> dict[str, Tensor]:
    """Names and shapes as the public code saves them, with random values."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        fan = shape[1] * shape[2] * shape[3]
        state[name] = torch.randn(shape, generator=generator) * (1 / fan) ** 0.5

    def norm(name: str, width: int) -> None:
        state[f"{name}.bn.bn.weight"] = torch.rand(width, generator=generator) + 0.5
        state[f"{name}.bn.bn.bias"] = torch.randn(width, generator=generator) * 0.3
        for kind in ("bn.running_mean", "bn.running_var", "bn_tracking.0.running_mean"):
            state[f"{name}.bn.{kind}"] = torch.ones(width)

    conv("first_conv.conv.conv.weight", 24, 3, 3, 3)
    norm("first_conv", 24)
    width, number = 24, 0
    for out, blocks, expansion, gated, _ in STAGES:
        for _ in range(blocks):
            inner = f"blocks.{number}.mobile_inverted_conv"
            mid = width * expansion
            if expansion > 1:
                conv(f"{inner}.inverted_bottleneck.conv.conv.weight", mid, width, 1, 1)
                norm(f"{inner}.inverted_bottleneck", mid)
            conv(f"{inner}.depth_conv.conv.conv.weight", mid, 1, 5, 5)
            norm(f"{inner}.depth_conv", mid)
            if gated:
                for kind, a, b in (("reduce", GATES[mid], mid), ("expand", mid, GATES[mid])):
                    conv(f"{inner}.depth_conv.se.fc.{kind}.weight", a, b, 1, 1)
                    state[f"{inner}.depth_conv.se.fc.{kind}.bias"] = torch.randn(a, generator=generator)
            conv(f"{inner}.point_linear.conv.conv.weight", out, mid, 1, 1)
            norm(f"{inner}.point_linear", out)
            conv(f"blocks.{number}.shortcut.conv.conv.weight", out, width, 1, 1)
            width, number = out, number + 1
    conv("last_conv.final_expand_layer.conv.conv.weight", 1344, 224, 1, 1)
    norm("last_conv.final_expand_layer", 1344)
    if decoder:
        shapes = [(128, 1984), (40, 256), (32, 80), (24, 64), (24, 48), (24, 24), (1, 24)]
        for i, (a, b) in enumerate(shapes):
            name = f"decode_output{i}.0" if i < 5 else f"decode_output{i}"
            conv(f"{name}.conv.conv.weight", a, b, 3, 3)
            norm(name, a)
    else:
        conv("last_conv.feature_mix_layer.conv.conv.weight", 1984, 1344, 1, 1)
        state["classifier.linear.linear.weight"] = torch.zeros(1000, 1984)
    return state


def public_forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The largest network, layer by layer, under batch statistics; maps are enlarged without aligned corners."""

    def layer(name: str, x: Tensor, stride: int = 1, groups: int = 1, act: bool = True) -> Tensor:
        weight = state[f"{name}.conv.conv.weight"][:, : x.shape[1] // groups]
        y = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        weight, bias = state[f"{name}.bn.bn.weight"], state[f"{name}.bn.bn.bias"]
        y = F.batch_norm(y, None, None, weight, bias, training=True, eps=1e-5)
        return y * torch.sigmoid(y) if act else y

    def grown(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)

    x = layer("first_conv", x, stride=2)
    taps, number = [x], 0
    for stage, (out, blocks, expansion, gated, stage_stride) in enumerate(STAGES):
        for block in range(blocks):
            inner, stride = f"blocks.{number}.mobile_inverted_conv", stage_stride if block == 0 else 1
            y = layer(f"{inner}.inverted_bottleneck", x) if expansion > 1 else x
            y = layer(f"{inner}.depth_conv", y, stride, groups=y.shape[1])
            if gated:
                gate = f"{inner}.depth_conv.se.fc"
                g = y.mean((2, 3), keepdim=True)
                g = F.relu(F.conv2d(g, state[f"{gate}.reduce.weight"], state[f"{gate}.reduce.bias"]))
                g = F.conv2d(g, state[f"{gate}.expand.weight"], state[f"{gate}.expand.bias"])
                y = y * (F.relu6(g + 3) / 6)
            y = layer(f"{inner}.point_linear", y, act=False)
            shortcut = F.avg_pool2d(x, 2) if stride == 2 else x
            if shortcut.shape[1] != out:
                shortcut = F.conv2d(shortcut, state[f"blocks.{number}.shortcut.conv.conv.weight"])
            x, number = y + shortcut, number + 1
        if stage in (1, 2, 4):
            taps.append(x)
    x = layer("last_conv.final_expand_layer", x)
    for i in range(4):
        x = torch.cat([grown(layer(f"decode_output{i}.0", x)), taps.pop()], 1)
    x = grown(layer("decode_output4.0", x))
    x = layer("decode_output5", x)
    return torch.sigmoid(layer("decode_output6", x, act=False))[:, 0]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_salnas_checkpoint_computes_the_same(prefix: str, tmp_path: Path) -> None:
    state = public_state()
    path = tmp_path / "salnas.pt"
    torch.save({"student": {prefix + k: v for k, v in state.items()}, "epoch": 3}, path)
    supernet, with_decoder = import_public(path, get_space("salnas"))
    assert with_decoder
    photos = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = supernet.train()(photos, get_space("salnas").largest())
        theirs = public_forward(state, photos)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_an_alphanet_checkpoint_brings_the_encoder(tmp_path: Path) -> None:
    state = public_state(decoder=False)
    path = tmp_path / "alphanet.pth.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    supernet, with_decoder = import_public(path, get_space("salnas"))
    assert not with_decoder
    found = supernet.weights.stages[5][7].se.expand.bias  # type: ignore[index]
    assert torch.equal(found, state["blocks.34.mobile_inverted_conv.depth_conv.se.fc.expand.bias"])
    assert torch.equal(
        supernet.weights.last.conv.weight, state["last_conv.final_expand_layer.conv.conv.weight"]
    )


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    save_file(public_state(decoder=False), tmp_path / "a.safetensors")
    supernet, _ = import_public(tmp_path / "a.safetensors", get_space("salnas"))
    assert torch.equal(supernet.weights.stem.conv.weight, public_state()["first_conv.conv.conv.weight"])


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    state = public_state(decoder=False)
    missing = {k: v for k, v in state.items() if k != "blocks.7.mobile_inverted_conv.point_linear.bn.bn.bias"}
    torch.save(missing, path)
    with pytest.raises(CheckpointError, match=r"lacks blocks\.7\..*point_linear\.bn\.bn\.bias"):
        import_public(path, get_space("salnas"))
    with pytest.raises(CheckpointError, match=r"another space: first_conv.* is \(24, 3, 3, 3\), not \(8, "):
        import_public(path, get_space("tiny"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_public(path, get_space("salnas"))
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_public(path, get_space("salnas"))
    assert not Path("touched").exists()
    with pytest.raises(CheckpointError, match="No such file"):
        import_public(tmp_path / "nowhere.pt", get_space("salnas"))


@pytest.mark.slow
def test_the_command_writes_a_supernet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(TrainConfig, "statistics_photos", 2)
    write_folder(synthetic(24), tmp_path / "photos")
    torch.save({"student": public_state()}, tmp_path / "salnas.pt")
    out = tmp_path / "imported.safetensors"
    words = ["import", str(tmp_path / "salnas.pt"), "--out", str(out), "--data", str(tmp_path / "photos")]
    app([*words, "--subnets", "2"], standalone_mode=False)
    supernet, provenance = load_supernet(out)
    assert provenance["origin"] == "SalNAS"
    assert supernet.statistics.abs().sum() > 0
    torch.testing.assert_close(
        supernet.weights.stem.conv.weight, public_state()["first_conv.conv.conv.weight"], atol=1e-3, rtol=1e-3
    )
