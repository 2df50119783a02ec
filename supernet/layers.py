"""The layers of a saliency network, plain modules of fixed widths, and how they are sliced.

Shapes: feature maps are (B, C, h, w), convolution kernels (out, in, k, k). Convolutions have no bias and "same"
padding k // 2; batch norm has eps 1e-5. A smaller kernel is the centre of a larger one, fewer channels are the
first ones: both are views, so that gradients reach the shared tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.depthwise import DepthwiseConv2d
from supernet.space import expanded_width, squeezed_width


def centre(weight: Tensor, kernel: int) -> Tensor:
    """(…, K, K) → (…, kernel, kernel), the middle of it; a view."""
    start = (weight.shape[-1] - kernel) // 2
    return weight[..., start : start + kernel, start : start + kernel]


def first_channels(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The slice of `tensor` that a subnet with a tensor of `shape` uses; a view."""
    if tensor.dim() == 4 and tensor.shape[-1] != shape[-1]:
        tensor = centre(tensor, shape[-1])
    return tensor[tuple(slice(0, size) for size in shape)]


class ConvBN(nn.Sequential):
    """Convolution, batch norm and, where `swish`, x · σ(x)."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1, swish: bool = True
    ) -> None:
        super().__init__()
        kind = nn.Conv2d if groups == 1 else DepthwiseConv2d
        self.conv = kind(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-5)
        self.swish = swish

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) → (B, c_out, h / stride, w / stride)."""
        x = self.bn(self.conv(x))
        return F.silu(x) if self.swish else x


class SqueezeExcite(nn.Module):
    """Channel gate: pool → 1×1 → ReLU → 1×1 → hard sigmoid → multiply."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed_width(channels), 1)
        self.expand = nn.Conv2d(squeezed_width(channels), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same shape."""
        gate = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(gate)


class MBConv(nn.Module):
    """Inverted bottleneck with a shortcut on every block.

    The shortcut halves by average pooling where the stride is 2 and convolves 1×1 only where the widths differ;
    `spare_shortcut` stores that kernel even so, for subnets of a supernet that need it.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int,
        expansion: int,
        stride: int,
        se: bool,
        drop_connect: float = 0.0,
        spare_shortcut: bool = False,
    ) -> None:
        super().__init__()
        mid = expanded_width(c_in, expansion)
        self.expand = ConvBN(c_in, mid, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvBN(mid, mid, kernel, stride=stride, groups=mid)
        self.se = SqueezeExcite(mid) if se else nn.Identity()
        self.project = ConvBN(mid, c_out, 1, swish=False)
        self.projects_shortcut = c_in != c_out
        if self.projects_shortcut or spare_shortcut:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.stride = stride
        self.drop_connect = drop_connect

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) → (B, c_out, h / stride, w / stride)."""
        y = self.project(self.se(self.depthwise(self.expand(x))))
        if self.stride == 2:
            x = F.avg_pool2d(x, 2)
        if self.projects_shortcut:
            x = self.shortcut(x)
        if self.training and self.drop_connect:
            keep = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop_connect
            y = y * keep.to(y.dtype) / (1 - self.drop_connect)
        result: Tensor = x + y
        return result
