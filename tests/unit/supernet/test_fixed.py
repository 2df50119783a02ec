"""Networks on disk keep their function, pruned ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from supernet.baselines.csnet import CSNet, CSNetArch
from supernet.baselines.registry import IMAGENET_DEVIATION, IMAGENET_MEAN, ReferenceNet, build
from supernet.errors import CheckpointError
from supernet.fixed import load_net, save_net, spec_of
from supernet.layers import ConvBN, MBConv
from supernet.network import SaliencyNet
from supernet.prune import prune_bottlenecks
from supernet.space import get_space

SMALL = CSNetArch(
    stem=(3, 2),
    stages=(((3, 2),), ((4, 2), (5,)), ((4, 3), (4,)), ((3, 4), (6,))),
    fuse=(3, 4, 2),
    dilated=((1, 0, 1, 1, 0), (1, 1, 1, 0, 1), (0, 1, 1, 1, 0)),
    merged=5,
)


def small_csnet() -> ReferenceNet:
    torch.manual_seed(0)
    return ReferenceNet(CSNet(SMALL), (32, 48), IMAGENET_MEAN, IMAGENET_DEVIATION).eval()


def tiny_subnet(word: str = "max") -> SaliencyNet:
    torch.manual_seed(0)
    return SaliencyNet(get_space("tiny").parse_arch(word)).eval()


def maps_of(net: nn.Module, resolution: tuple[int, int]) -> torch.Tensor:
    photos = torch.rand(2, 3, *resolution, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        found: torch.Tensor = net(photos)
    return found


@pytest.mark.parametrize("make", [small_csnet, tiny_subnet], ids=["csnet", "subnet"])
def test_a_saved_network_has_the_same_function(make: object, tmp_path: Path) -> None:
    net = make()  # type: ignore[operator]
    save_net(tmp_path / "net.safetensors", net, {"note": "kept"})
    loaded, provenance = load_net(tmp_path / "net.safetensors")
    assert provenance == {"note": "kept"}
    assert loaded.resolution == net.resolution
    assert not loaded.training
    torch.testing.assert_close(
        maps_of(loaded, net.resolution), maps_of(net, net.resolution), atol=5e-3, rtol=0
    )


def test_a_reference_model_is_known_by_its_name(tmp_path: Path) -> None:
    net = build("fastsal-a")
    net.resolution = (64, 96)
    save_net(tmp_path / "a.safetensors", net, {}, "fastsal-a")
    loaded, _ = load_net(tmp_path / "a.safetensors")
    assert loaded.resolution == (64, 96)
    torch.testing.assert_close(maps_of(loaded, (64, 96)), maps_of(net, (64, 96)), atol=2e-2, rtol=0)
    with pytest.raises(CheckpointError, match="cannot be saved"):
        save_net(tmp_path / "b.safetensors", net, {})


@torch.no_grad()
def test_a_pruned_subnet_keeps_its_channels(tmp_path: Path) -> None:
    net = tiny_subnet()
    for module in net.modules():
        if isinstance(module, MBConv) and isinstance(module.expand, ConvBN):
            module.depthwise.bn.weight[::3] = 0.0
    small = prune_bottlenecks(net, 1e-6)
    assert spec_of(small)["bottlenecks"] != spec_of(net)["bottlenecks"]
    save_net(tmp_path / "small.safetensors", small, {})
    loaded, _ = load_net(tmp_path / "small.safetensors")
    assert spec_of(loaded) == spec_of(small)
    torch.testing.assert_close(
        maps_of(loaded, net.resolution), maps_of(small, net.resolution), atol=5e-3, rtol=0
    )


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="does not hold a trained network"):
        load_net(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="does not hold a trained network"):
        load_net(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError, match="cannot be saved"):
        spec_of(nn.Conv2d(1, 1, 1))
