"""Channels that training shows to be superfluous: dynamic weight decay, and their removal.

Source: Cheng, Gao et al., "A highly efficient model to study the semantics of salient object detection", TPAMI
2021, section 3.2. The scale γ of a batch norm decays the faster the larger its channel's output is,

    γ ← γ − ∇f(γ) − λ_d · M(x) · γ,    M(x) = |mean of the channel's output over the photo|, mean of the batch,

so that outputs become alike while channels without use die; those with |γ| below a threshold are cut out. A
training step:

    layers = watched_layers(net)
    optimiser = torch.optim.Adam(parameter_groups(net, layers, weight_decay=5e-3), lr=1e-4)
    with DynamicDecay(layers) as decay:
        (loss(net(photos)) + STRENGTH * decay.penalty()).backward()
        optimiser.step()

The recipe of the paper: 300 epochs of batch 24 at 224×224 with flips, learning rate divided by ten after 200 and
250, then `prune_csnet` and 20 more epochs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from supernet.baselines.csnet import (
    Channels,
    CSNet,
    CSNetArch,
    Depthwise,
    Dilated,
    GOctConv,
    ILBlock,
    NormAct,
)
from supernet.errors import InvalidArch
from supernet.layers import ConvBN, MBConv, SqueezeExcite

STRENGTH = 3.0
"""λ_d of the paper."""

THRESHOLD = 1e-20
"""|γ| below which the paper removes a channel."""

FAST_MULTIPLE = 16
"""Runtimes compute 8 or 16 channels at once: with other numbers of them a pruned XS took longer than a whole one."""

Net = TypeVar("Net", bound=nn.Module)
Layers = Mapping[nn.BatchNorm2d, nn.Module]
Kept = list[Tensor]
"""For each scale of a layer the channels that stay, in order."""


def watched_layers(net: nn.Module) -> dict[nn.BatchNorm2d, nn.Module]:
    """The batch norms that may lose channels, each with the module whose output is measured (after activation).

    In a CSNet those of all ILBlocks, in our own networks that of the depthwise convolution of each bottleneck
    that expands. Raises InvalidArch
    for a network with neither.
    """
    found: dict[nn.BatchNorm2d, nn.Module] = {}
    for module in net.modules():
        if isinstance(module, ILBlock):
            found |= {layer.norm: layer for layer in module.modules() if isinstance(layer, NormAct)}
        elif isinstance(module, MBConv) and isinstance(module.expand, ConvBN):
            found[module.depthwise.bn] = module.depthwise
    if not found:
        raise InvalidArch(
            f"{type(net).__name__} has no layer that can lose channels.",
            field="net",
            value=type(net).__name__,
            remedy="Pass a CSNet or an extracted subnet.",
        )
    return found


def parameter_groups(net: nn.Module, layers: Layers, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: the watched γ without ordinary decay, all else with `weight_decay`."""
    watched = {norm.weight for norm in layers}
    rest = [p for p in net.parameters() if p not in watched]
    return [
        {"params": rest, "weight_decay": weight_decay},
        {"params": list(watched), "weight_decay": 0.0},
    ]


class DynamicDecay:
    """Measures the watched layers in every forward pass while it is entered."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._measured: dict[nn.BatchNorm2d, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._hooks = [layer.register_forward_hook(self._hook(norm)) for norm, layer in self.layers.items()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._measured = [], {}

    def _hook(self, norm: nn.BatchNorm2d) -> Any:
        def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._measured[norm] = output.detach().mean(dim=(2, 3)).abs().mean(dim=0)

        return measure

    def penalty(self) -> Tensor:
        """½ Σ M(x) γ² over the watched channels of the latest forward pass; its gradient is M(x) γ."""
        if not self._measured:
            raise InvalidArch(
                "No forward pass has been measured.",
                field="penalty",
                remedy="Run the network inside `with DynamicDecay(...)` first.",
            )
        terms = [(size * norm.weight.square()).sum() for norm, size in self._measured.items()]
        return 0.5 * torch.stack(terms).sum()


@torch.no_grad()
def prune_csnet(net: CSNet, threshold: float = THRESHOLD) -> CSNet:
    """A new, smaller CSNet without the channels whose |γ| behind their gOctConv is below `threshold`.

    Each layer, and each scale of the head, keeps at least its strongest channel. The function stays the same
    where removed channels gave 0.
    """
    blocks = [net.stem, *_blocks(net)]
    kept = [_strong_of(block.mix, threshold) for block in blocks]
    exchange = _strong_of(net.head.exchange, threshold, each_scale=True)
    old_dilated = [cast(Dilated, module) for module in net.head.dilated]
    dilated = [_strong(module.act.norm.weight, threshold) for module in old_dilated]
    merged = _strong_of(net.head.merge, threshold)

    ends = [0, *accumulate(len(stage) for stage in net.arch.stages)]
    sizes = [tuple(len(scale) for scale in layer) for layer in kept]
    by_conv = [_per_conv(keep, old) for keep, old in zip(dilated, net.arch.dilated, strict=True)]
    small = CSNet(
        CSNetArch(
            stem=sizes[0],
            stages=tuple(tuple(sizes[1 + a : 1 + b]) for a, b in pairwise(ends)),
            fuse=tuple(len(scale) for scale in exchange),
            dilated=tuple(tuple(len(conv) for conv in convs) for convs in by_conv),
            merged=len(merged[0]),
        )
    ).to(net.readout.weight.device)

    inputs: Kept = [torch.arange(3, device=net.readout.weight.device)]
    for old, new, outputs in zip(blocks, [small.stem, *_blocks(small)], kept, strict=True):
        _copy_mix(new.mix, old.mix, outputs, inputs)
        for name in ("local1", "local2"):
            _copy_depthwise(getattr(new, name), getattr(old, name), outputs)
        inputs = outputs
    taps = [kept[end][0] for end in ends[2:]]
    _copy_mix(small.head.exchange, net.head.exchange, exchange, taps)
    for i, module in enumerate(small.head.dilated):
        _copy_dilated(cast(Dilated, module), old_dilated[i], by_conv[i], exchange[i], dilated[i])
    _copy_mix(small.head.merge, net.head.merge, merged, dilated)
    small.readout.weight.copy_(net.readout.weight[:, merged[0]])
    cast(Tensor, small.readout.bias).copy_(cast(Tensor, net.readout.bias))
    return small.train(net.training)


def _blocks(net: CSNet) -> Iterator[ILBlock]:
    for stage in net.stages:
        yield from cast(Sequence[ILBlock], stage)


def _strong(gamma: Tensor, threshold: float, multiple: int = 1) -> Tensor:
    """Indices of |γ| ≥ threshold and of the next largest up to a `multiple`, which is also the least number."""
    strong = int((gamma.abs() >= threshold).sum())
    count = max(multiple, multiple * math.ceil(strong / multiple))
    return gamma.abs().argsort(descending=True, stable=True)[:count].sort().values


def _strong_of(layer: GOctConv, threshold: float, each_scale: bool = False) -> Kept:
    gammas = {int(j): cast(NormAct, scale).norm.weight for j, scale in layer.scales.items()}
    strongest = max(gammas, key=lambda j: float(gammas[j].abs().max()))
    kept: Kept = []
    for j in range(len(layer.outputs)):
        gamma = gammas.get(j, layer.weight.new_empty(0))
        if each_scale or (j == strongest and float(gamma.abs().max()) < threshold):
            kept.append(_strong(gamma, threshold))
        else:
            kept.append((gamma.abs() >= threshold).nonzero().flatten())
    return kept


def _per_conv(keep: Tensor, outputs: Channels) -> list[Tensor]:
    """Indices into a concatenation → indices into each of its parts."""
    starts = [0, *accumulate(outputs)]
    return [keep[(keep >= a) & (keep < b)] - a for a, b in pairwise(starts)]


def _in_one_tensor(kept: Kept, channels: Channels) -> Tensor:
    starts = [0, *accumulate(channels)]
    return torch.cat([scale + start for scale, start in zip(kept, starts, strict=False)])


def _copy_mix(new: GOctConv, old: GOctConv, outputs: Kept, inputs: Kept) -> None:
    rows, columns = _in_one_tensor(outputs, old.outputs), _in_one_tensor(inputs, old.inputs)
    new.weight.copy_(old.weight[rows][:, columns])
    for j, scale in new.scales.items():
        _copy_norm(cast(NormAct, scale), cast(NormAct, old.scales[j]), outputs[int(j)])


def _copy_depthwise(new: Depthwise, old: Depthwise, kept: Kept) -> None:
    for i, conv in new.convs.items():
        cast(nn.Conv2d, conv).weight.copy_(cast(nn.Conv2d, old.convs[i]).weight[kept[int(i)]])
        _copy_norm(cast(NormAct, new.scales[i]), cast(NormAct, old.scales[i]), kept[int(i)])


def _copy_dilated(new: Dilated, old: Dilated, outputs: list[Tensor], inputs: Tensor, keep: Tensor) -> None:
    for k, conv in new.convs.items():
        kernel = cast(nn.Conv2d, old.convs[k]).weight
        cast(nn.Conv2d, conv).weight.copy_(kernel[outputs[int(k)]][:, inputs])
    _copy_norm(new.act, old.act, keep)


def _copy_norm(new: NormAct, old: NormAct, keep: Tensor) -> None:
    _copy_channels(new.norm, old.norm, keep)
    new.act.weight.copy_(old.act.weight[keep])


def _copy_channels(new: nn.Module, old: nn.Module, keep: Tensor) -> None:
    """Every tensor of a batch norm or depthwise convolution, at the channels that stay."""
    for name, tensor in old.state_dict().items():
        new.state_dict()[name].copy_(tensor[keep] if tensor.dim() else tensor)


@torch.no_grad()
def prune_bottlenecks(net: Net, threshold: float = THRESHOLD, *, multiple: int = 1) -> Net:
    """A copy of one of our networks whose bottlenecks lack the channels with small depthwise |γ|.

    Widths of stages stay. Of the weak channels the strongest stay too, up to a `multiple`. A channel with γ = 0 gives
    the constant swish(β): its part in the projection moves into the batch norm behind, its part in an SE gate into
    the gate's bias, so that the function stays the same, except behind a gate where β ≠ 0.
    """
    small = copy.deepcopy(net)
    for block in small.modules():
        if isinstance(block, MBConv) and isinstance(block.expand, ConvBN):
            _prune_bottleneck(block, block.expand, threshold, multiple)
    return small


def _prune_bottleneck(block: MBConv, expand: ConvBN, threshold: float, multiple: int) -> None:
    depthwise, project = block.depthwise, block.project
    keep = _strong(depthwise.bn.weight, threshold, multiple)
    gone = torch.ones_like(depthwise.bn.weight, dtype=torch.bool).index_fill(0, keep, False)
    constant = F.silu(depthwise.bn.bias[gone])  # (channels that go,)
    if isinstance(block.se, SqueezeExcite):
        gate = block.se
        cast(Tensor, gate.reduce.bias).add_(gate.reduce.weight[:, gone, 0, 0] @ constant)
        gate.reduce = _narrow(gate.reduce, columns=keep)
        gate.expand = _narrow(gate.expand, rows=keep)
    else:
        cast(Tensor, project.bn.running_mean).sub_(project.conv.weight[:, gone, 0, 0] @ constant)
    for layer in (expand, depthwise):
        layer.conv = _narrow(layer.conv, rows=keep)
        narrow = nn.BatchNorm2d(len(keep), layer.bn.eps, layer.bn.momentum).to(keep.device)
        _copy_channels(narrow, layer.bn, keep)
        layer.bn = narrow.train(layer.bn.training)
    project.conv = _narrow(project.conv, columns=keep)


def _narrow(conv: nn.Conv2d, rows: Tensor | None = None, columns: Tensor | None = None) -> nn.Conv2d:
    """A copy with some of the output (rows) or input (columns) channels; a depthwise one has rows alone."""
    weight, bias = conv.weight, conv.bias
    if rows is not None:
        weight, bias = weight[rows], None if bias is None else bias[rows]
    if columns is not None:
        weight = weight[:, columns]
    groups = len(weight) if conv.groups > 1 else 1
    narrow = nn.Conv2d(
        weight.shape[1] * groups,
        len(weight),
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
        device=weight.device,
    )
    narrow.weight.copy_(weight)
    if bias is not None:
        cast(Tensor, narrow.bias).copy_(bias)
    return narrow
