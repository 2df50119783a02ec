"""Warm start: an ImageNet MobileNetV2 put into the largest subnet, so that the network keeps its features.

Method, block by block on real photos, with the source network (ReLU6, no gates, no shortcut between stages) run
beside the target:

- channels in the middle of a block are ordered by the energy they contribute to its output, so that narrower
  subnets keep the best; 3×3 kernels become the centre of 5×5 ones;
- swish becomes a ReLU by scaling what enters it: swish(s·x)/s → ReLU(x) as s grows, and batch norm absorbs s;
- each projection is fitted by least squares from the target's own activations to the source's output, which takes
  back the error made so far (swish for ReLU6, lost channels, gates that start below 1);
- batch norms get γ and β from measured statistics, so that batch statistics do not change the function;
- blocks beyond the source's depth start as identities (γ = 0), shortcuts between stages at 0;
- stage mb7 has fewer channels than the source: it keeps the principal components of the source's output.

Source of the weights: `mobilenet_v2_1.0_imagenet.safetensors`, batch norms folded, metadata `layers` in order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.data.cache import Source
from supernet.errors import CheckpointError
from supernet.layers import ConvBN, MBConv, SqueezeExcite, centre
from supernet.network import SaliencyNet, Supernet

SHARPNESS = 3.0
"""s in swish(s·x)/s: how close the swish comes to a ReLU (largest difference 0.28 / s)."""

STREAM_SCALE = 3.0
"""mb1 adds the stem where the widths agree; its own output is this much larger, to stay readable."""

RIDGE = 1e-2
"""Pull of a fitted projection towards the source's own kernel, relative to the mean energy of its inputs."""

SOURCE_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks of MobileNetV2 that go into mb1 … mb7."""

_TRUTHS = 64
_FAINTEST = 0.01


@dataclass(frozen=True)
class SourceLayer:
    """One convolution of the source with folded batch norm."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    relu6: bool

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, h, w) → (before, after) the activation."""
        padding = self.weight.shape[-1] // 2
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return y, F.relu6(y) if self.relu6 else y


def load_source(path: Path | str) -> list[SourceLayer]:
    """The 52 convolutions of MobileNetV2 in order, without the classifier."""
    try:
        with safe_open(str(path), "pt") as tensors:
            described = json.loads((tensors.metadata() or {})["layers"])
            return [
                SourceLayer(
                    weight=(weight := tensors.get_tensor(f"{layer['name']}.weight").float()),
                    bias=tensors.get_tensor(f"{layer['name']}.bias").float(),
                    stride=layer["stride"],
                    groups=weight.shape[0] if layer["kind"] == "depthwise" else 1,
                    relu6=layer["activation"] == "relu6",
                )
                for layer in described[:52]
            ]
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} holds no MobileNetV2: {error}.",
            field="warm_start",
            value=str(path),
            remedy="Give the path of mobilenet_v2_1.0_imagenet.safetensors.",
        ) from error


@torch.no_grad()
def warm_start(supernet: Supernet, source: list[SourceLayer], photos: Tensor) -> list[float]:
    """Put `source` into `supernet`, in place, on `photos` (B, 3, H, W) normalised; 32 or more will do.

    Returns for each stage the share of the variance of the source's output (of the part that fits into the
    target's channels) that the target reproduces: 1 = the same function. All three are on the CPU. Raises
    CheckpointError, before anything is changed, where the space has no place for a block of the source.
    """
    if misfit := _misfit(supernet.weights, source):
        raise CheckpointError(
            f"MobileNetV2 does not fit into the space {supernet.space.name}: {misfit}.",
            field="warm_start",
            value=supernet.space.name,
            remedy="Leave --warm-start out, or train the space salnas.",
        )
    net = supernet.weights.eval()
    stem, *layers = source
    u, v = _stem(net.stem, stem, layers[0], layers[1], photos)
    explained = []
    for number, (stage, depth) in enumerate(zip(net.stages, SOURCE_DEPTHS, strict=True)):
        for index, block in enumerate(stage):  # type: ignore[var-annotated, arg-type]
            if index >= depth:
                v = _identity_block(block, v)
                continue
            taken = 3 if number else 2
            u, v, share = _block(block, layers[:taken], u, v, scale=STREAM_SCALE if number == 0 else 1.0)
            layers = layers[taken:]
        explained.append(share)
    last = layers[0]
    before, _ = last(u)
    basis = _principal(u, v.shape[1])
    _fit(net.last.conv, v, before, prior=last.weight[:, :, 0, 0] @ basis)
    _set_batch_norm(net.last, v, before, SHARPNESS)
    return explained


def _misfit(net: SaliencyNet, source: list[SourceLayer]) -> str | None:
    """The first thing about `net` that keeps the source out, in words."""
    if net.stem.conv.out_channels > len(source[0].weight):
        return f"its stem has more than {len(source[0].weight)} channels"
    if len(net.stages) != len(SOURCE_DEPTHS):
        return f"it has {len(net.stages)} stages, not {len(SOURCE_DEPTHS)}"
    blocks = iter([pair for pair in pairwise(source) if pair[0].groups > 1])
    for number, (stage, depth) in enumerate(zip(net.stages, SOURCE_DEPTHS, strict=True), start=1):
        (depthwise, project), *_ = islice(blocks, depth)
        lacks = _lacks(cast(nn.Sequential, stage), number, depth, depthwise, project)
        if wrong := next((what for what, is_so in lacks.items() if is_so), None):
            return f"mb{number} {wrong}"
    return None


def _lacks(
    stage: nn.Sequential, number: int, depth: int, depthwise: SourceLayer, project: SourceLayer
) -> dict[str, bool]:
    """What may be wrong with stage mb`number` for a stage of the source that begins with these layers; is it so?"""
    first = cast(MBConv, stage[0])
    expands = isinstance(first.expand, ConvBN)
    width = len(project.weight) if number < len(SOURCE_DEPTHS) else 0
    side = depthwise.weight.shape[-1]
    return {
        f"has fewer than {depth} blocks": len(stage) < depth,
        f"has fewer than {width} channels": first.project.conv.out_channels < width,
        f"has not the stride {depthwise.stride}": first.stride != depthwise.stride,
        f"has kernels smaller than {side}": first.depthwise.conv.kernel_size[0] < side,
        "must expand its channels": number > 1 and not expands,
        "must not expand its channels": number == 1 and expands,
    }


def begin_with_truths(net: SaliencyNet, photos: Source) -> None:
    """Give the last layer of a new network, in place, the logits of the truths: their mean and deviation.

    Salient are few pixels. XS by itself, which begins with one half everywhere otherwise, scores CC 0.638 after four
    epochs of OSIE; begun like this, 0.724.
    """
    mean, deviation = logits_of_truths(photos)
    norm = cast(ConvBN, net.decoder[-1]).bn
    with torch.no_grad():
        norm.weight.fill_(deviation)
        norm.bias.fill_(mean)


def logits_of_truths(photos: Source) -> tuple[float, float]:
    """Mean and deviation over the pixels of some maps."""
    _, maps, _ = photos.take(np.arange(min(_TRUTHS, len(photos))))
    clear = maps.astype(np.float64).clip(_FAINTEST, 1 - _FAINTEST)
    logits = np.log(clear / (1 - clear))
    return float(logits.mean()), float(logits.std())


def _running(layer: ConvBN) -> tuple[Tensor, Tensor]:
    mean, variance = layer.bn.running_mean, layer.bn.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


def _stem(
    stem: ConvBN, source: SourceLayer, depthwise: SourceLayer, project: SourceLayer, photos: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill the stem with the channels that matter most after mb1; (source's, target's) activations.

    The source's are returned in the order of the target, because mb1 has no convolution that could reorder.
    """
    before, u = source(photos)
    order = _importance(depthwise(u)[1], project)
    stem.conv.weight.copy_(source.weight[order[: stem.conv.out_channels]])
    _set_batch_norm(stem, photos, before[:, order], SHARPNESS)
    return u, stem(photos)


def _block(
    block: MBConv, layers: list[SourceLayer], u: Tensor, v: Tensor, *, scale: float
) -> tuple[Tensor, Tensor, float]:
    """Put one inverted bottleneck of the source into `block`.

    `u` (B, c, h, w) is the source's input, `v` (B, C, h, w) the target's; returns the outputs of both and the
    explained share of the source's variance. The target's output is `scale` times the source's.
    """
    *expand, depthwise, project = layers
    before, mid = expand[0](u) if expand else (u, u)
    filtered_before, filtered = depthwise(mid)
    order = _importance(filtered, project)[: block.depthwise.conv.in_channels]
    out = project(filtered)[0]
    out = u + out if out.shape == u.shape else out

    y = v
    if isinstance(block.expand, ConvBN):
        prior = expand[0].weight[order, :, 0, 0]
        _fit(block.expand.conv, v[:, : u.shape[1]], before[:, order], prior=prior)
        _set_batch_norm(block.expand, v, before[:, order], SHARPNESS)
        y = block.expand(v)
    kernel = block.depthwise.conv.weight
    kernel[: len(order)] = 0.0
    centre(kernel, depthwise.weight.shape[-1])[: len(order)] = depthwise.weight[order]
    _set_batch_norm(block.depthwise, y, filtered_before[:, order], SHARPNESS)
    y = block.depthwise(y)
    _open_gate(block.se)
    y = block.se(y)

    basis = _principal(out, block.project.conv.out_channels)
    target = scale * torch.einsum("bchw,ck->bkhw", out, basis)
    width = target.shape[1]
    shortcut = _shortcut(block, v)[:, :width]
    prior = scale / SHARPNESS * basis.T @ project.weight[:, order, 0, 0]
    _fit(block.project.conv, y[:, : len(order)], target - shortcut, prior=prior)
    _set_batch_norm(block.project, y, target - shortcut, None)
    v = block(v)
    error = (v[:, :width] - v[:, :width].mean((0, 2, 3), keepdim=True)) - (
        target - target.mean((0, 2, 3), keepdim=True)
    )
    share = 1 - float(error.square().sum() / (target.var((0, 2, 3)).sum() * target[:, 0].numel()))
    return out, v, share


def _identity_block(block: MBConv, v: Tensor) -> Tensor:
    """A block that the source does not have: its residual branch starts at zero, ready to learn."""
    y = v
    for layer in (block.expand, block.depthwise, block.se):
        if isinstance(layer, ConvBN):
            _measure(layer, y)
        elif isinstance(layer, SqueezeExcite):
            _open_gate(layer)
        y = layer(y)
    _measure(block.project, y)
    nn.init.zeros_(block.project.bn.weight)
    return v


def _importance(activation: Tensor, project: SourceLayer) -> Tensor:
    """(B, c, h, w) → (c,) channels in falling order of the energy that `project` takes from each."""
    energy = activation.var((0, 2, 3)) * project.weight.flatten(1).square().sum(0)
    return energy.argsort(descending=True)


def _principal(x: Tensor, channels: int) -> Tensor:
    """(B, c, h, w) → (c, min(c, channels)) orthonormal: the identity, or the leading principal components."""
    if x.shape[1] <= channels:
        return torch.eye(x.shape[1])
    vectors: Tensor = torch.linalg.eigh(torch.cov(x.transpose(0, 1).flatten(1))).eigenvectors
    return vectors.flip(1)[:, :channels]


def _fit(conv: nn.Conv2d, x: Tensor, target: Tensor, *, prior: Tensor, ridge: float = RIDGE) -> None:
    """Set the 1×1 kernel so that its first outputs on the first inputs `x` are `target` but for a constant.

    Ridge regression towards `prior` (outputs, inputs), the source's own kernel. Weights from the inputs that `x`
    does not have to these outputs become zero; the other outputs stay.
    """
    inputs, outputs = _centred(x), _centred(target)
    known = prior.double()
    gram = inputs @ inputs.T
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    weight = known + torch.linalg.solve(gram, inputs @ (outputs - known @ inputs).T).T
    conv.weight[: len(weight)] = 0.0
    conv.weight[: len(weight), : len(inputs), 0, 0] = weight.float()


def _centred(x: Tensor, positions: int = 40_000) -> Tensor:
    """(B, c, h, w) → (c, about `positions`) evenly taken positions, double precision, without their mean."""
    flat = x.transpose(0, 1).flatten(1)
    flat = flat[:, :: max(1, flat.shape[1] // positions)].double()
    return flat - flat.mean(1, keepdim=True)


def _measure(layer: ConvBN, x: Tensor) -> Tensor:
    """Set the stored statistics from the batch; the raw output of the convolution."""
    raw: Tensor = layer.conv(x)
    mean, variance = _running(layer)
    mean.copy_(raw.mean((0, 2, 3)))
    variance.copy_(raw.var((0, 2, 3)))
    return raw


def _set_batch_norm(layer: ConvBN, x: Tensor, wanted: Tensor, sharpness: float | None) -> None:
    """Choose γ and β so that the normalised output is `wanted`, times `sharpness` before a swish.

    Channels beyond those of `wanted` start with unit variance before a swish and a tenth of the typical deviation
    on a residual stream.
    """
    raw = _measure(layer, x)
    factor = sharpness or 1.0
    n = min(wanted.shape[1], raw.shape[1])
    deviation = wanted[:, :n].std((0, 2, 3)) if sharpness else raw[:, :n].std((0, 2, 3))
    layer.bn.weight.fill_(1.0 if sharpness else 0.1 * float(deviation.median()))
    layer.bn.bias.zero_()
    layer.bn.weight[:n] = factor * deviation
    layer.bn.bias[:n] = factor * wanted[:, :n].mean((0, 2, 3))


def _open_gate(gate: nn.Module) -> None:
    """Start a gate near 1, where its hard sigmoid still has a gradient."""
    if isinstance(gate, SqueezeExcite):
        nn.init.normal_(gate.expand.weight, std=1e-3)
        gate.expand.bias.fill_(2.5)  # type: ignore[union-attr]


def _shortcut(block: MBConv, x: Tensor) -> Tensor:
    """What the block adds to its residual branch; 1×1 kernels start at zero."""
    if hasattr(block, "shortcut"):
        nn.init.zeros_(block.shortcut.weight)
    if block.stride == 2:
        x = F.avg_pool2d(x, 2)
    result: Tensor = block.shortcut(x) if block.projects_shortcut else x
    return result
