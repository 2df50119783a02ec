"""MobileNetV2 1.0, the ImageNet network at hand, as one plain module.

Source: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018; weights from
a published 8-bit release, dequantised, batch norms folded. They expect photos as x / 127.5 - 1 and
TensorFlow's padding, which at stride 2 adds its row and column at the far side only.

    stem            3×3, stride 2     H/2  × W/2    32 channels
    blocks 1        expansion 1       H/2  × W/2    16
    blocks 2-3      expansion 6       H/4  × W/4    24
    blocks 4-6                        H/8  × W/8    32
    blocks 7-10                       H/16 × W/16   64
    blocks 11-13                      H/16 × W/16   96
    blocks 14-16                      H/32 × W/32   160
    block 17                          H/32 × W/32   320
    last            1×1               H/32 × W/32   1280

Folded weights come back with batch norms, so that the network can be trained: at first each has mean 0
and variance 1 and changes nothing; `refill_batch_norms` then gives it the statistics of real photos
without changing the function either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from supernet.baselines.reading import published_weights
from supernet.depthwise import DepthwiseConv2d
from supernet.errors import DataError

# expansion, channels, blocks, stride of the first block
SETTINGS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_WIDTH = 32
LAST_WIDTH = 1280
WEIGHTS_FILE = "mobilenet_v2_1.0_imagenet.safetensors"


def far_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding of one dimension: (before, after), the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """Convolution, BN and ReLU6 where wanted: (B, C, h, w) → (B, C', h / stride, w / stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        kind = nn.Conv2d if groups == 1 else DepthwiseConv2d
        self.conv = kind(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride > 1:
            rows = far_padding(x.shape[-2], kernel, stride)
            columns = far_padding(x.shape[-1], kernel, stride)
            x = F.pad(x, (*columns, *rows))
        y: Tensor = self.norm(self.conv(x))
        return F.relu6(y) if self.relu else y


class InvertedResidual(nn.Module):
    """1×1 expand, k×k depthwise, 1×1 project; a shortcut where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [ConvNorm(inputs, hidden)] if expansion != 1 else []
        self.layers = nn.Sequential(
            *expand,
            ConvNorm(hidden, hidden, kernel, stride, groups=hidden),
            ConvNorm(hidden, outputs, relu=False),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV2Features(nn.Module):
    """The network without its classifier: (B, 3, H, W) → (B, 1280, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_WIDTH, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        width = STEM_WIDTH
        for expansion, channels, depth, stride in SETTINGS:
            for position in range(depth):
                self.blocks.append(
                    InvertedResidual(width, channels, expansion, stride if position == 0 else 1)
                )
                width = channels
        self.last = ConvNorm(width, LAST_WIDTH)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Outputs of the 17 blocks and of the last convolution."""
        x = self.stem(images)
        outputs = []
        for block in (*self.blocks, self.last):
            x = block(x)
            outputs.append(x)
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        return self.taps(images)[-1]


class MobileNetV2(nn.Module):
    """The ImageNet classifier: (B, 3, H, W) as x / 127.5 - 1 → logits (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = MobileNetV2Features()
        self.classifier = nn.Linear(LAST_WIDTH, 1000)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def load_mobilenet_v2(path: Path | str) -> MobileNetV2:
    """Read the weights file (folded batch norms, metadata `layers`) in evaluation mode."""
    with published_weights(path, "MobileNetV2", WEIGHTS_FILE):
        with safe_open(str(path), framework="pt") as file:
            names = [layer["name"] for layer in json.loads((file.metadata() or {})["layers"])]
            folded = [(file.get_tensor(f"{name}.weight"), file.get_tensor(f"{name}.bias")) for name in names]
        net = MobileNetV2()
        _fill(net, folded)
    return net.eval()


@torch.no_grad()
def _fill(net: MobileNetV2, folded: list[tuple[Tensor, Tensor]]) -> None:
    layers = [module for module in net.features.modules() if isinstance(module, ConvNorm)]
    *convolutions, (weight, bias) = folded
    for layer, (kernel, offset) in zip(layers, convolutions, strict=True):
        _same_shape(layer.conv.weight, kernel).copy_(kernel)
        _variance(layer.norm).fill_(1.0 - layer.norm.eps)
        layer.norm.bias.copy_(offset)
    _same_shape(net.classifier.weight, weight).copy_(weight)
    net.classifier.bias.copy_(bias)


def _same_shape(target: Tensor, source: Tensor) -> Tensor:
    if target.shape != source.shape:
        raise ValueError(f"expected a tensor of shape {tuple(target.shape)}, found {tuple(source.shape)}")
    return target


@torch.no_grad()
def refill_batch_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every batch norm the statistics of its own input on `batches`, leaving the function as it is.

    After it, training mode starts where evaluation mode is. `batches` are (B, 3, H, W), normalised as `net`
    expects; one pass serves all layers, since evaluation mode does not change meanwhile. Raises DataError
    without a batch.
    """
    moments = {norm: _Moments() for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)}
    hooks = [norm.register_forward_pre_hook(moment) for norm, moment in moments.items()]
    training = net.training
    net.eval()
    try:
        for batch in batches:
            net(batch)
    finally:
        for hook in hooks:
            hook.remove()
        net.train(training)
    for norm, moment in moments.items():
        mean, variance = moment.mean_and_variance()
        _refill(norm, mean.to(norm.weight), variance.to(norm.weight))


class _Moments:
    """Sums per channel of everything that enters a layer."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        self.count += x.numel() // x.shape[1]
        self.total = self.total + x.sum(dim=(0, 2, 3))
        self.squares = self.squares + x.square().sum(dim=(0, 2, 3))

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        if isinstance(self.total, float) or isinstance(self.squares, float):
            raise DataError(
                "Batch statistics need at least one batch of photos.", field="batches", remedy="Pass some."
            )
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp_min(0)


def _refill(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    scale = norm.weight / torch.sqrt(_variance(norm) + norm.eps)
    offset = norm.bias - _mean(norm) * scale
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    norm.bias.copy_(offset + mean * scale)
    _mean(norm).copy_(mean)
    _variance(norm).copy_(variance)


def _mean(norm: nn.BatchNorm2d) -> Tensor:
    return cast(Tensor, norm.running_mean)


def _variance(norm: nn.BatchNorm2d) -> Tensor:
    return cast(Tensor, norm.running_var)
