"""CSNet (SOD100K): salient object detection with about 100 thousand parameters.

Source: Cheng, Gao et al., "A highly efficient model to study the semantics of salient object detection",
TPAMI 2021. B is the batch, H × W the input size; scale s of a tensor has half the height and width of
scale s − 1. A scale without channels is absent, not empty.

    stem      ILBlock, 3×3                             H   × W      two scales
    stage 1   3 ILBlocks, 1×1                          H   × W      two scales
    stage 2   4 ILBlocks, the first 3×3 and stride 2   H/2 × W/2    two scales, the last block one
    stage 3   6 ILBlocks, likewise                     H/4 × W/4
    stage 4   4 ILBlocks, likewise                     H/8 × W/8
    head      the three single scales exchange, pass dilated convolutions and meet at H/2 × W/2

The published training multiplies some kernels by 100 in the forward pass: the depthwise and dilated
ones, and a gOctConv's with one scale in and one out. That is kept (`KERNEL_GAIN`): the published weights
need it, and under Adam and weight decay it is part of the recipe.

Macs here are those of convolutions alone. The paper's are larger (×1: 0.61 G for 0.433 G here; ×2-L:
0.72 G for 0.496 G), since its counter adds 4 per output of a batch norm, 3 of a PReLU, 9 of an
up-sampling inside a gOctConv, and the poolings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from supernet.baselines.reading import published_weights
from supernet.errors import CheckpointError, InvalidArch

STAGE_WIDTHS = (20, 40, 80, 80)
STAGE_DEPTHS = (3, 4, 6, 4)
DILATIONS = (1, 2, 4, 8, 16)
KERNEL_GAIN = 100.0
SIZE_MULTIPLE = 16

Channels = tuple[int, ...]
Features = dict[int, Tensor]


@dataclass(frozen=True)
class CSNetArch:
    """Channel numbers of a CSNet, one entry per scale from the highest resolution down.

    `stages[s][b]` are the output channels of block b of stage s + 1; `fuse` the head's channels at the scales
    of stages 2, 3 and 4; `dilated[i]` the channels of the five dilated convolutions of head scale i; `merged`
    the channels from which the map is read.
    """

    stem: Channels
    stages: tuple[tuple[Channels, ...], ...]
    fuse: Channels
    dilated: tuple[Channels, ...]
    merged: int

    def __post_init__(self) -> None:
        everything = (self.stem, *(block for stage in self.stages for block in stage), self.fuse)
        if any(sum(channels) < 1 or min(channels) < 0 for channels in everything) or self.merged < 1:
            raise InvalidArch(
                "Every layer of a CSNet needs at least one channel.",
                field="channels",
                remedy="Give each layer a positive number of channels at one scale or more.",
            )
        singles = [stage[-1] for stage in self.stages[1:]]
        if len(self.stages) != 4 or not all(len(c) == 1 for c in singles):
            raise InvalidArch(
                "A CSNet has four stages, and the last block of stages 2 to 4 has one scale.",
                field="stages",
                value=len(self.stages),
                remedy="Start from `full_arch`.",
            )
        if not (len(self.fuse) == len(self.dilated) == 3 and all(len(d) == 5 for d in self.dilated)):
            raise InvalidArch(
                "The head of a CSNet has three scales with five dilated convolutions each.",
                field="dilated",
                value=self.dilated,
                remedy="Start from `full_arch`.",
            )


def full_arch(width: float = 1.0, split: tuple[int, int] = (5, 5)) -> CSNetArch:
    """The CSNet before any channel is removed.

    `width` multiplies the channels of every layer; `split` is the share of high to low resolution channels
    in the extractor, (1, 0) and (0, 1) leave one scale out. The parameters depend on the width alone:
    210,985 at 1, 298,633 at 1.2, 455,631 at 1.5, 645,565 at 1.8 and 788,631 at 2. The paper prints 211 K
    (rounded), 298, 455, 645 and 788 K (cut off).
    """
    if width <= 0 or min(split) < 0 or sum(split) == 0:
        raise InvalidArch(
            f"CSNet cannot have width {width} and split {split}.",
            field="width" if width <= 0 else "split",
            value=width if width <= 0 else split,
            remedy="Use a positive width and a split such as (5, 5), (3, 1) or (1, 0).",
        )
    base = round(STAGE_WIDTHS[0] * width)
    widths = [base * (channels // STAGE_WIDTHS[0]) for channels in STAGE_WIDTHS]
    stages = [(_split(w, split),) * depth for w, depth in zip(widths, STAGE_DEPTHS, strict=True)]
    for index in (1, 2, 3):
        stages[index] = (*stages[index][:-1], (widths[index],))
    fuse = tuple(w // 3 for w in widths[1:])
    dilated = tuple((w // 5,) * 4 + (w - 4 * (w // 5),) for w in fuse)
    return CSNetArch(_split(widths[0], split), tuple(stages), fuse, dilated, sum(fuse))


def _split(channels: int, split: tuple[int, int]) -> Channels:
    if not split[1]:
        return (channels,)
    high = round(channels * split[0] / sum(split))
    return high, channels - high


def _raise(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _part(channels: Channels, scale: int) -> slice:
    start = sum(channels[:scale])
    return slice(start, start + channels[scale])


def _present(channels: Channels) -> list[int]:
    return [scale for scale, count in enumerate(channels) if count]


LEARNED_ARCHS: Mapping[int, CSNetArch] = {
    1: CSNetArch(
        stem=(8, 10),
        stages=(
            ((9, 10), (10, 10), (10, 10)),
            ((19, 13), (19, 17), (20, 12), (34,)),
            ((24, 21), (26, 27), (22, 18), (19, 18), (23, 18), (38,)),
            ((18, 29), (25, 24), (26, 20), (50,)),
        ),
        fuse=(12, 24, 24),
        dilated=((1, 2, 2, 2, 4), (1, 4, 4, 4, 5), (2, 2, 4, 5, 4)),
        merged=60,
    ),
    2: CSNetArch(
        stem=(13, 10),
        stages=(
            ((13, 12), (18, 11), (18, 12)),
            ((28, 21), (34, 22), (31, 29), (51,)),
            ((23, 26), (27, 26), (25, 20), (17, 21), (19, 25), (38,)),
            ((18, 31), (31, 27), (26, 44), (64,)),
        ),
        fuse=(17, 38, 32),
        dilated=((2, 1, 2, 2, 1), (0, 6, 6, 7, 5), (0, 1, 3, 7, 7)),
        merged=79,
    ),
}
"""Channels left after training ×1 and ×2 with dynamic weight decay, as published with the weights."""


class NormAct(nn.Module):
    """Batch norm and PReLU with one slope per channel: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(x))
        return y


class GainConv2d(nn.Conv2d):
    """A "same" 3×3 convolution whose kernel is multiplied by `KERNEL_GAIN` in the forward pass."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, padding=dilation, dilation=dilation, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.weight)
        self.weight.data.div_(KERNEL_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight * KERNEL_GAIN
        return F.conv2d(x, kernel, None, self.stride, self.padding, self.dilation, self.groups)


class GOctConv(nn.Module):
    """Generalised octave convolution, then BN and PReLU per scale.

    A weight block for every pair of an input and an output scale, all held in one tensor. To a lower scale
    the input is max-pooled first; to a higher one the result is up-sampled bilinearly. A stride of 2 halves
    every input by average pooling before.
    """

    def __init__(self, inputs: Channels, outputs: Channels, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.stride = inputs, outputs, kernel, stride
        self.gain = KERNEL_GAIN if len(inputs) == len(outputs) == 1 else 1.0
        self.weight = nn.Parameter(torch.empty(sum(outputs), sum(inputs), kernel, kernel))
        nn.init.kaiming_normal_(self.weight)
        self.weight.data.div_(self.gain)
        self.scales = nn.ModuleDict({str(j): NormAct(outputs[j]) for j in _present(outputs)})

    def forward(self, features: Features) -> Features:
        if self.stride == 2:
            features = {i: F.avg_pool2d(x, 2) for i, x in features.items()}
        result: Features = {}
        for j in _present(self.outputs):
            total = sum(self._route(features[i], i, j) for i in _present(self.inputs))
            result[j] = self.scales[str(j)](total)
        return result

    def _route(self, x: Tensor, source: int, target: int) -> Tensor:
        if source < target:
            x = F.max_pool2d(x, 2 ** (target - source))
        weight = self.weight[_part(self.outputs, target), _part(self.inputs, source)]
        y = F.conv2d(x, weight * self.gain, padding=self.kernel // 2)
        if source > target:
            y = _raise(y, 2 ** (source - target))
        return y


class Depthwise(nn.Module):
    """A 3×3 depthwise convolution, BN and PReLU in each scale by itself."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        self.scales = nn.ModuleDict()
        for i in _present(channels):
            self.convs[str(i)] = GainConv2d(channels[i], channels[i], groups=channels[i])
            self.scales[str(i)] = NormAct(channels[i])

    def forward(self, features: Features) -> Features:
        return {i: self.scales[str(i)](self.convs[str(i)](x)) for i, x in features.items()}


class ILBlock(nn.Module):
    """In-layer multi-scale block: a gOctConv across scales, then two depthwise convolutions within them."""

    def __init__(self, inputs: Channels, outputs: Channels, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.mix = GOctConv(inputs, outputs, kernel, stride)
        self.local1 = Depthwise(outputs)
        self.local2 = Depthwise(outputs)

    def forward(self, features: Features) -> Features:
        result: Features = self.local2(self.local1(self.mix(features)))
        return result


class Dilated(nn.Module):
    """Five parallel dilated 3×3 convolutions, concatenated: (B, C, H, W) → (B, sum(outputs), H, W)."""

    def __init__(self, channels: int, outputs: Channels) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        for k in _present(outputs):
            self.convs[str(k)] = GainConv2d(channels, outputs[k], dilation=DILATIONS[k])
        self.act = NormAct(sum(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(torch.cat([conv(x) for conv in self.convs.values()], dim=1))
        return y


class CrossStageFusion(nn.Module):
    """Head: three scales exchange, look far and near, and meet at the highest: → (B, merged, h, w)."""

    def __init__(self, inputs: Channels, arch: CSNetArch) -> None:
        super().__init__()
        self.exchange = GOctConv(inputs, arch.fuse)
        self.dilated = nn.ModuleList(Dilated(c, d) for c, d in zip(arch.fuse, arch.dilated, strict=True))
        self.merge = GOctConv(tuple(sum(d) for d in arch.dilated), (arch.merged,))

    def forward(self, features: Features) -> Tensor:
        features = self.exchange(features)
        features = {i: dilated(features[i]) for i, dilated in enumerate(self.dilated)}
        merged: Features = self.merge(features)
        return merged[0]


class CSNet(nn.Module):
    """Salient object detector: (B, 3, H, W), ImageNet mean and deviation, → logits (B, H, W).

    Height and width are multiples of 16. The paper works at 224×224.
    """

    def __init__(self, arch: CSNetArch) -> None:
        super().__init__()
        self.arch = arch
        self.stem = ILBlock((3,), arch.stem, kernel=3)
        self.stages = nn.ModuleList()
        inputs = arch.stem
        for index, blocks in enumerate(arch.stages):
            stage = nn.Sequential()
            for position, outputs in enumerate(blocks):
                halve = index > 0 and position == 0
                stage.append(ILBlock(inputs, outputs, kernel=3 if halve else 1, stride=2 if halve else 1))
                inputs = outputs
            self.stages.append(stage)
        self.head = CrossStageFusion(tuple(stage[-1][0] for stage in arch.stages[1:]), arch)
        self.readout = nn.Conv2d(arch.merged, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise InvalidArch(
                f"CSNet cannot read an input of {width}x{height}.",
                field="resolution",
                value=(height, width),
                remedy=f"Use a height and width that are multiples of {SIZE_MULTIPLE}.",
            )
        features = self.stem({0: images})
        taps: Features = {}
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index > 0:
                taps[index - 1] = features[0]
        logits = self.readout(self.head(taps))  # (B, 1, H/2, W/2)
        return _raise(logits, 2).squeeze(1)


def arch_from_layer_config(config: Mapping[str, Any]) -> CSNetArch:
    """The channel numbers from `layer_config` as published: a list of [inputs, outputs] for every layer."""

    def channels(entry: float | Sequence[float]) -> Channels:
        return tuple(int(c) for c in entry) if isinstance(entry, Sequence) else (int(entry),)

    try:
        depths = [int(depth) for depth in config["blocks_per_stage"]]
        outputs = [channels(layer[1]) for layer in config["layers"]]
        split_points = [1 + sum(depths[:k]) for k in range(len(depths) + 1)]
        stages = tuple(tuple(outputs[a:b]) for a, b in pairwise(split_points))
        exchange, dilated, merge = config["layers"][split_points[-1] :]
        return CSNetArch(
            stem=outputs[0],
            stages=stages,
            fuse=channels(exchange[1]),
            dilated=tuple(channels(row) for row in dilated[2]),
            merged=sum(channels(merge[1])),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The layer_config of this CSNet file cannot be read: {error}.",
            field="layer_config",
            remedy="Use a file such as csnet-L-x2.safetensors.",
        ) from error


def load_csnet(path: Path | str) -> CSNet:
    """Read published CSNet weights (safetensors, learned channels in the metadata) in evaluation mode.

    Dynamic decay has left subnormal numbers among them, which change no map and cost time: they become zero.
    """
    with published_weights(path, "CSNet", "csnet-L-x2.safetensors"):
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {_own_name(name): _normal(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        net = CSNet(arch_from_layer_config(json.loads(metadata["layer_config"])))
        net.load_state_dict(tensors)
    return net.eval()


def _normal(tensor: Tensor) -> Tensor:
    """With zero for what is subnormal."""
    if not tensor.is_floating_point():
        return tensor
    return torch.where(tensor.abs() < torch.finfo(tensor.dtype).tiny, torch.zeros_like(tensor), tensor)


_RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^stage0\.0\.", "stem."),
    (r"^stage(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
    (r"conv1x1\.", "mix."),
    (r"conv3x3_(\d)\.", r"local\1."),
    (r"^oct_fuse\.fuse1x1\.", "head.merge."),
    (r"^oct_fuse\.fuse\.", "head.exchange."),
    (r"^oct_fuse\.ms\.convs\.(\d)\.", r"head.dilated.\1."),
    (r"\.msconv\.", ".convs."),
    (r"\.bn\.", ".act.norm."),
    (r"\.prelu\.", ".act.act."),
    (r"\.bns\.(\d)\.", r".scales.\1.norm."),
    (r"\.prelus\.(\d)\.", r".scales.\1.act."),
    (r"\.conv\.weight$", ".weight"),
    (r"^cls_layer\.", "readout."),
)


def _own_name(published: str) -> str:
    for pattern, replacement in _RENAMES:
        published = re.sub(pattern, replacement, published)
    return published
