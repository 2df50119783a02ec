"""Depthwise convolutions whose gradient does not take longer than all the rest of a training step.

On a CPU the library that torch calls computes the gradient of a 5×5 depthwise kernel without vector instructions: it
takes several times as long as the loop here (`make bench-training` compares whole steps). The loop is compiled by
numba; where that is not installed, torch's own gradient is taken. 3×3 kernels are fast there.

Shapes: feature maps (B, C, h, w), kernels (C, 1, k, k).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_SLOW_KERNEL = 5
"""Kernels from this size on have a slow gradient in torch."""

_Loop = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], int, int], None]


class DepthwiseConv2d(nn.Conv2d):
    """A convolution with as many groups as channels: see `depthwise`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C, h', w')."""
        return depthwise(x, self.weight, self.stride[0], int(self.padding[0]))


def depthwise(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """(B, C, h, w), (C, 1, k, k) → (B, C, h', w').

    On a CPU what is bfloat16 and learns is computed in float32, in which most gradients are several times as fast.
    """
    # A trace, from which costs are counted, knows torch's own convolutions alone.
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    learns = torch.is_grad_enabled() and x.device.type == "cpu" and not traced
    if learns and x.dtype is torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return depthwise(x.float(), weight, stride, padding).to(torch.bfloat16)
    is_slow = weight.shape[-1] >= _SLOW_KERNEL and x.dtype is torch.float32
    if learns and is_slow and weight.requires_grad and _loop() is not None:
        result: Tensor = _Depthwise.apply(x, weight, stride, padding)  # type: ignore[no-untyped-call]
        return result
    return _convolve(x, weight, stride, padding)


def _convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return _convolve(x, weight, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            shape = ([ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0], len(weight))
            of_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *shape, [True, False, False]
            )[0]
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(x, gradient, weight.shape[-1], ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The gradient (C, 1, k, k) of a depthwise kernel, from its input and the gradient of its output.

    As many threads as torch has take a share of the photos each.
    """
    loop = _loop()
    assert loop is not None
    inputs, outputs = _channels_last(x), _channels_last(gradient)
    threads = min(torch.get_num_threads(), len(inputs))
    found = np.zeros((threads, kernel, kernel, x.shape[1]), np.float32)
    bounds = np.linspace(0, len(inputs), threads + 1).astype(int)

    def share(number: int) -> None:
        part = slice(bounds[number], bounds[number + 1])
        loop(outputs[part], inputs[part], found[number], stride, padding)

    if threads == 1:
        share(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(share, range(threads)))
    return torch.from_numpy(found.sum(axis=0)).permute(2, 0, 1)[:, None]


def _channels_last(x: Tensor) -> NDArray[np.float32]:
    """(B, C, h, w) → (B, h, w, C) in one piece."""
    array: NDArray[np.float32] = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return array


@cache
def _loop() -> _Loop | None:
    """The compiled loop, or None without numba."""
    try:
        from numba import njit
    except ImportError:
        return None
    return _compiled(njit)


def _compiled(njit: Any) -> _Loop:
    @njit(fastmath={"contract"}, nogil=True)  # type: ignore[untyped-decorator]
    def add_up(
        gradient: NDArray[np.float32],
        x: NDArray[np.float32],
        found: NDArray[np.float32],
        stride: int,
        padding: int,
    ) -> None:
        """Add to `found` (k, k, C) what `gradient` (B, h', w', C) and `x` (B, h, w, C) yield."""
        photos, rows, columns, channels = gradient.shape
        height, width = x.shape[1], x.shape[2]
        kernel = found.shape[0]
        for photo in range(photos):
            for row in range(rows):
                for i in range(kernel):
                    y = row * stride + i - padding
                    if y < 0 or y >= height:
                        continue
                    for column in range(columns):
                        for j in range(kernel):
                            z = column * stride + j - padding
                            if z < 0 or z >= width:
                                continue
                            for c in range(channels):
                                found[i, j, c] += gradient[photo, row, column, c] * x[photo, y, z, c]

    loop: _Loop = add_up
    return loop
