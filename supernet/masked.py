"""A subnet computed at the size of the largest one, with what it does not have at zero.

A GPU prepares kernels for every shape it meets; sliced execution meets new ones with every random subnet. Here all
subnets of one depth and resolution have the same shapes. No activation is multiplied by a mask: a batch norm whose
γ and β are zero beyond the width gives zeros there, and zeros are what the next convolution must not see.

- widths and expansion: γ and β of the batch norms, and the rows of the gates, are zero beyond them;
- kernels: the rim of a 5×5 kernel is zero;
- shortcuts: always a 1×1 convolution at the start of a stage, with the unit matrix where the subnet has none.

The result and all gradients equal those of `Supernet.forward` but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from supernet.layers import MBConv
from supernet.network import SaliencyNet, Supernet
from supernet.space import Arch


def masked_forward(supernet: Supernet, x: Tensor, arch: Arch, *, drop_rate: float = 0.0) -> Tensor:
    """(B, 3, H, W) photos through subnet `arch` → (B, H, W) saliency in [0, 1], as `supernet(x, arch)`."""
    with torch.device("meta"):
        shell = SaliencyNet(
            _as_large(supernet, arch), supernet.space, drop_rate=drop_rate, spare_shortcuts=True
        )
        net = SaliencyNet(arch, supernet.space)
    shell.train(supernet.training)
    for stage in shell.stages:
        first = next(stage.children())
        assert isinstance(first, MBConv)
        first.projects_shortcut = True
    for module in shell.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    result: Tensor = functional_call(shell, dict(_tensors(supernet, shell, net)), (x,))
    return result


class MaskedNet(nn.Module):
    """Subnet `arch` of a supernet at the size of the largest, with the supernet's own tensors, wherever they lie.

    In evaluation mode its maps are those of `extract(supernet, arch)` but for rounding.
    """

    def __init__(self, supernet: Supernet, arch: Arch) -> None:
        super().__init__()
        self.supernet = supernet
        self.arch = arch
        self.resolution = arch.resolution

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) photos → (B, H, W) saliency in [0, 1]."""
        return masked_forward(self.supernet, x, self.arch)


def _as_large(supernet: Supernet, arch: Arch) -> Arch:
    """The largest subnet with the depths of `arch`."""
    largest = supernet.space.largest()
    stages = zip(largest.stages, arch.stages, strict=True)
    return replace(largest, stages=tuple(replace(large, depth=own.depth) for large, own in stages))


def _tensors(supernet: Supernet, shell: SaliencyNet, net: SaliencyNet) -> Iterator[tuple[str, Tensor]]:
    """For each tensor of `shell` what `net` has of it, the rest at zero."""
    stored = dict(supernet.weights.named_parameters())
    wanted = {name: tensor.shape for name, tensor in net.named_parameters()}
    for name, _ in shell.named_parameters():
        tensor = stored[name]
        if name.endswith("shortcut.weight"):
            yield name, _shortcut(tensor, wanted.get(name), _width_before(net, name))
        elif name.endswith("depthwise.conv.weight"):
            yield name, _without_rim(tensor, wanted[name][-1])
        elif ".bn." in name or ".se." in name:
            yield name, _first_rows(tensor, wanted[name][0])
        else:
            yield name, tensor
    yield from supernet.norm_buffers(shell, net.arch)


def _first_rows(tensor: Tensor, rows: int) -> Tensor:
    if rows == len(tensor):
        return tensor
    kept = torch.arange(len(tensor), device=tensor.device) < rows
    return tensor * kept.view(-1, *[1] * (tensor.dim() - 1))


def _without_rim(kernel: Tensor, side: int) -> Tensor:
    rim = (kernel.shape[-1] - side) // 2
    if not rim:
        return kernel
    mask = torch.zeros(kernel.shape[-2:], device=kernel.device, dtype=kernel.dtype)
    mask[rim:-rim, rim:-rim] = 1.0
    return kernel * mask


def _shortcut(kernel: Tensor, shape: torch.Size | None, width: int) -> Tensor:
    """The kernel's first rows, or the unit matrix over `width` channels where the subnet adds its input."""
    if shape is not None:
        return _first_rows(kernel, shape[0])
    unit = torch.zeros_like(kernel)
    unit[:width, :width, 0, 0] = torch.eye(width, device=kernel.device, dtype=kernel.dtype)
    return unit


def _width_before(net: SaliencyNet, name: str) -> int:
    """Channels that enter the stage of a shortcut such as `stages.2.0.shortcut.weight`."""
    stage = int(name.split(".")[1])
    return net.arch.stages[stage - 1].width if stage else net.arch.stem_width
