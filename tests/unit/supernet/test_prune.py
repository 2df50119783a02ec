"""Dynamic weight decay against its formula; removal of channels against the network that still has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.baselines.csnet import CSNet, ILBlock, NormAct, full_arch, load_csnet
from supernet.errors import InvalidArch
from supernet.layers import ConvBN, MBConv
from supernet.network import SaliencyNet
from supernet.prune import (
    STRENGTH,
    DynamicDecay,
    parameter_groups,
    prune_bottlenecks,
    prune_csnet,
    watched_layers,
)
from supernet.space import get_space

ARCH = full_arch(0.5)


def photos(n: int = 2, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def csnet(seed: int = 0) -> CSNet:
    """Random weights, and batch norms that do something."""
    torch.manual_seed(seed)
    net = CSNet(ARCH)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
    net(photos(8))  # running statistics
    return net.eval()


@torch.no_grad()
def subnet(seed: int = 0) -> SaliencyNet:
    torch.manual_seed(seed)
    space = get_space("salnas")
    net = SaliencyNet(space.smallest(), space)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
    net(photos(4, 64))
    return net.eval()


@torch.no_grad()
def silence(layer: NormAct, channels: list[int]) -> None:
    layer.norm.weight[channels] = 0
    layer.norm.bias[channels] = 0


def test_gamma_follows_equation_3() -> None:
    net = csnet()
    layers = watched_layers(net)
    norm = net.stages[2][1].mix.scales["1"].norm  # type: ignore[index]
    assert norm in layers
    seen: list[Tensor] = []
    hook = layers[norm].register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    before = norm.weight.detach().clone()
    optimiser = torch.optim.SGD(parameter_groups(net, layers, weight_decay=0.0), lr=0.1)
    with DynamicDecay(layers) as decay:
        net(photos())
        torch.autograd.backward(STRENGTH * decay.penalty())
        optimiser.step()
    hook.remove()
    magnitude = np.abs(seen[0].numpy().mean(axis=(2, 3))).mean(axis=0)
    expected = before.numpy() * (1 - 0.1 * 3.0 * magnitude)
    np.testing.assert_allclose(norm.weight.detach().numpy(), expected, rtol=1e-5)


def test_the_penalty_is_half_the_weighted_squares() -> None:
    net = csnet()
    layers = watched_layers(net)
    outputs: dict[nn.Module, Tensor] = {}
    for layer in layers.values():
        layer.register_forward_hook(lambda m, i, o: outputs.update({m: o.detach()}))
    with DynamicDecay(layers) as decay:
        net(photos())
        penalty = decay.penalty()
    expected = sum(
        float((outputs[layer].mean((2, 3)).abs().mean(0) * norm.weight.detach().square()).sum()) / 2
        for norm, layer in layers.items()
    )
    assert len(layers) > 60
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-5)


def test_watched_scales_alone_have_no_ordinary_decay() -> None:
    net = csnet()
    layers = watched_layers(net)
    rest, watched = parameter_groups(net, layers, weight_decay=5e-3)
    assert (rest["weight_decay"], watched["weight_decay"]) == (5e-3, 0.0)
    assert {id(p) for p in watched["params"]} == {id(norm.weight) for norm in layers}
    assert len(rest["params"]) + len(watched["params"]) == len(list(net.parameters()))
    head = {id(p) for p in net.head.parameters()}
    assert head <= {id(p) for p in rest["params"]}


def test_nothing_is_measured_outside() -> None:
    net = csnet()
    decay = DynamicDecay(watched_layers(net))
    with decay:
        net(photos())
    with pytest.raises(InvalidArch, match="No forward pass"):
        decay.penalty()
    net(photos())
    with pytest.raises(InvalidArch, match="No forward pass"):
        decay.penalty()
    with pytest.raises(InvalidArch, match="no layer"):
        watched_layers(nn.Conv2d(3, 3, 1))


def test_a_csnet_without_weak_channels_stays_as_it_is() -> None:
    net = csnet()
    small = prune_csnet(net)
    assert small is not net
    assert small.arch == net.arch
    with torch.no_grad():
        torch.testing.assert_close(small(photos()), net(photos()))


def test_published_channels_are_all_above_the_published_threshold(weights_root: Path) -> None:
    net = load_csnet(weights_root / "csnet-L-x1.safetensors")
    assert prune_csnet(net).arch == net.arch


@torch.no_grad()
def test_silent_channels_of_a_csnet_can_go() -> None:
    net = csnet()
    rng = np.random.default_rng(0)
    gone = 0
    for block in (m for m in net.modules() if isinstance(m, ILBlock)):
        for scale, count in enumerate(block.mix.outputs):
            if not count:
                continue
            channels = rng.choice(count, size=int(rng.integers(0, count)), replace=False).tolist()
            gone += len(channels)
            for layer in (block.mix, block.local2):
                norm_act = layer.scales[str(scale)]
                assert isinstance(norm_act, NormAct)
                silence(norm_act, channels)
    for norm_act in (m for m in net.head.modules() if isinstance(m, NormAct)):
        silence(norm_act, [0, 2] if norm_act.norm.num_features > 3 else [0])
    small = prune_csnet(net)
    assert gone > 50
    before = sum(map(sum, (b for stage in net.arch.stages for b in stage))) + sum(net.arch.stem)
    after = sum(map(sum, (b for stage in small.arch.stages for b in stage))) + sum(small.arch.stem)
    assert before - after == gone
    assert sum(small.arch.fuse) < sum(net.arch.fuse)
    assert small.arch.merged == net.arch.merged - 2
    expected = net(photos())
    assert expected.std() > 1e-3
    torch.testing.assert_close(small(photos()), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_layer_of_a_csnet_keeps_a_channel() -> None:
    net = csnet()
    small = prune_csnet(net, threshold=1e9)
    assert small.arch.fuse == (1, 1, 1)
    assert all(sum(block) == 1 for stage in small.arch.stages for block in stage)
    assert small(photos()).shape == (2, 32, 32)
    strongest = max(float(m.norm.weight.max()) for m in net.stem.mix.modules() if isinstance(m, NormAct))
    (kept,) = (m for m in small.stem.mix.modules() if isinstance(m, NormAct))
    assert float(kept.norm.weight) == strongest


@torch.no_grad()
def test_dead_channels_of_our_bottlenecks_can_go() -> None:
    net = subnet()
    rng = np.random.default_rng(0)
    gone, gates = 0, 0
    for block in (m for m in net.modules() if isinstance(m, MBConv)):
        if not isinstance(block.expand, ConvBN):
            continue
        norm = block.depthwise.bn
        channels = rng.choice(norm.num_features, size=norm.num_features // 3, replace=False).tolist()
        norm.weight[channels] = 0
        if not isinstance(block.se, nn.Identity):
            norm.bias[channels] = 0  # behind a gate only a channel of 0 can go without a trace
            gates += 1
        gone += len(channels)
    expected, x = net(photos(2, 64)), photos(2, 64)
    small = prune_bottlenecks(net)
    assert gates > 0
    torch.testing.assert_close(small(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x), expected)  # the original is untouched
    parameters = [sum(p.numel() for p in n.parameters()) for n in (small, net)]
    assert parameters[0] < 0.85 * parameters[1]
    widths = [
        sum(m.depthwise.bn.num_features for m in n.modules() if isinstance(m, MBConv)) for n in (small, net)
    ]
    assert widths[1] - widths[0] == gone
    small.train()(x)


@torch.no_grad()
def test_our_bottlenecks_without_weak_channels_stay() -> None:
    net = subnet()
    small = prune_bottlenecks(net)
    torch.testing.assert_close(small(photos(1, 64)), net(photos(1, 64)))
    assert [p.shape for p in small.parameters()] == [p.shape for p in net.parameters()]
    tiny = prune_bottlenecks(net, threshold=1e9)
    assert tiny(photos(1, 64)).shape == (1, 64, 64)


@torch.no_grad()
@pytest.mark.parametrize("multiple", [1, 8, 16])
def test_channels_that_stay_are_a_multiple(multiple: int) -> None:
    net = subnet()
    for norm in watched_layers(net):
        norm.weight.copy_(torch.linspace(-1, 1, norm.num_features))
    small = prune_bottlenecks(net, threshold=0.7, multiple=multiple)
    for whole, cut in zip(watched_layers(net), watched_layers(small), strict=True):
        strong = int((whole.weight.abs() >= 0.7).sum())
        fewest = min(whole.num_features, multiple * -(-strong // multiple))
        assert cut.num_features == fewest
        assert float(cut.weight.abs().min()) >= float(whole.weight.abs().sort().values[-fewest])
    assert small(photos(1, 64)).shape == (1, 64, 64)
