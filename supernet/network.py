"""The saliency network: one plain module for one subnet, and the supernet that lends weights to all of them.

`SaliencyNet` is the definition. `Supernet` stores the tensors of the largest one; `forward(x, arch)` runs the
definition of `arch` on slices of them, so a supernet has no active subnet and a forward pass equals the extracted
module by construction. Source: SalNAS paper, section 3; blocks and decoder as in the published network, except
that the two halves of a decoder kernel over a concatenation are sliced apart, so that subnets share each half.

Shapes: photos (B, 3, H, W), normalised as x / 127.5 - 1; saliency maps (B, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from supernet.layers import ConvBN, MBConv, first_channels
from supernet.space import Arch, Rows, Space, StageChoices, get_space

_LENGTH = 8.0
"""How far statistics look alike, where a gene is 2 long."""

FITTED = ("support", "projection", "statistics")
"""Buffers of a supernet that `supernet.calibrate` fits."""

TAPS = (1, 2, 4)
"""Stages (mb2, mb3, mb5) whose output the decoder reads, besides the stem and the last convolution."""

DROP_RATE = 0.2
"""Dropout and drop-connect of the largest subnet in training, in the last two stages."""


def decoder_widths(arch: Arch) -> list[tuple[int, int, int]]:
    """(up-sampled input, skip input, output) channels of the seven decoder convolutions."""
    w0 = arch.stem_width
    w1, w2, w3, _, w5, _, _ = (stage.width for stage in arch.stages)
    return [
        (arch.last_width, 0, w5),
        (w5, w5, w3),
        (w3, w3, w2),
        (w2, w2, w1),
        (w1, w0, w0),
        (w0, 0, w0),
        (w0, 0, 1),
    ]


class SaliencyNet(nn.Module):
    """One subnet as a plain module: MBConv encoder, decoder over five scales."""

    def __init__(
        self,
        arch: Arch,
        space: Space | None = None,
        *,
        drop_rate: float = 0.0,
        spare_shortcuts: bool = False,
    ) -> None:
        super().__init__()
        space = space or get_space(arch.space)
        self.arch = arch
        self.drop_rate = drop_rate
        self.stem = ConvBN(3, arch.stem_width, 3, stride=2)
        self.stages = nn.ModuleList()
        c_in = arch.stem_width
        for number, (stage, choices) in enumerate(zip(arch.stages, space.stages, strict=True)):
            blocks = nn.Sequential()
            for block in range(stage.depth):
                first = block == 0
                blocks.append(
                    MBConv(
                        c_in,
                        stage.width,
                        kernel=stage.kernel,
                        expansion=stage.expansion,
                        stride=_stride(choices, first),
                        se=choices.se,
                        drop_connect=drop_rate if number >= 5 else 0.0,
                        spare_shortcut=spare_shortcuts and first,
                    )
                )
                c_in = stage.width
            self.stages.append(blocks)
        self.last = ConvBN(c_in, arch.last_width, 1)
        widths = decoder_widths(arch)
        self.decoder = nn.ModuleList(
            ConvBN(up + skip, out, 3, swish=number < len(widths) - 1)
            for number, (up, skip, out) in enumerate(widths)
        )

    @property
    def resolution(self) -> tuple[int, int]:
        """(height, width) of the photos this subnet was chosen for."""
        return self.arch.resolution

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised photos → (B, H, W) saliency in [0, 1]."""
        x = self.stem(x)  # (B, w0, H/2, W/2)
        skips = [x]
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in TAPS:
                skips.append(x)  # (B, w2 | w3 | w5, H/4 | H/8 | H/16, …)
        x = self.last(x)  # (B, 6·w7, H/32, W/32)
        x = F.dropout(x, self.drop_rate, self.training)
        for conv in self.decoder[:4]:
            x = torch.cat([_double(conv(x)), skips.pop()], dim=1)  # H/16 … H/2
        x = _double(self.decoder[4](x))  # (B, w0, H, W)
        x = self.decoder[5](x)
        return torch.sigmoid(self.decoder[6](x)).squeeze(1)


class Supernet(nn.Module):
    """The weights of every subnet of a space, stored once.

    Batch norms use batch statistics in training mode. In evaluation mode each subnet has statistics of its own,
    interpolated between those of measured subnets, whose traits are `support` (s, d + k): with z = `similarities` ·
    `projection`, mean = z·a and log variance = z·b for every channel. `statistics` (2, r, channels of all batch
    norms) holds a and b; zeros, as at first, are mean 0 and variance 1. `projection` (features, r) keeps the r
    directions that statistics differ in most. `supernet.calibrate` fits all three.
    """

    support: Tensor
    projection: Tensor
    statistics: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.weights = SaliencyNet(space.largest(), space, spare_shortcuts=True)
        self.norm_spans = _norm_spans(self.weights)
        channels = max(end for _, end in self.norm_spans.values())
        self.register_buffer("support", torch.zeros(1, len(space.trait_sizes)))
        features = 1 + len(traits_before(space))
        self.register_buffer("projection", torch.eye(features))
        self.register_buffer("statistics", torch.zeros(2, features, channels))

    def forward(self, x: Tensor, arch: Arch, *, drop_rate: float = 0.0) -> Tensor:
        """(B, 3, H, W) photos through subnet `arch` → (B, H, W) saliency in [0, 1]."""
        with torch.device("meta"):
            net = SaliencyNet(arch, self.space, drop_rate=drop_rate)
        net.train(self.training)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
        result: Tensor = functional_call(net, dict(self.slices(net)), (x,))
        return result

    def slices(self, net: SaliencyNet) -> Iterator[tuple[str, Tensor]]:
        """For each tensor of `net`, its name and what it is in the supernet: a view of the shared tensor, or
        the statistics of this subnet."""
        stored = dict(self.weights.named_parameters())
        largest = decoder_widths(self.weights.arch)
        for name, tensor in net.named_parameters():
            if name.startswith("decoder.") and name.endswith("conv.weight"):
                number = int(name.split(".")[1])
                yield name, _halves(stored[name], largest[number], decoder_widths(net.arch)[number])
            else:
                yield name, first_channels(stored[name], tensor.shape)
        yield from self.norm_buffers(net, net.arch)

    def norm_buffers(self, net: nn.Module, arch: Arch) -> Iterator[tuple[str, Tensor]]:
        """The buffers of all batch norms of `net`, a module with the names of ours, as subnet `arch` has them."""
        mean, log_variance = self.statistics_of(arch)
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                start = self.norm_spans[name][0]
                span = slice(start, start + module.num_features)
                yield f"{name}.running_mean", mean[span]
                yield f"{name}.running_var", log_variance[span].exp()
                yield f"{name}.num_batches_tracked", torch.zeros((), dtype=torch.long, device=mean.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in FITTED:  # as large as the fit made them
            if prefix + name in state_dict:
                setattr(
                    self, name, torch.empty_like(state_dict[prefix + name], device=self.statistics.device)
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def statistics_of(self, arch: Arch) -> tuple[Tensor, Tensor]:
        """(channels,) means and log variances of all batch norms of the largest subnet's size."""
        row = self.space.encode(arch)[None]
        with torch.autocast(self.statistics.device.type, enabled=False):
            features = torch.from_numpy(similarities(self.space, row, self.support.cpu().numpy())[0])
            # Weights of subnets that are much alike are large and nearly cancel out.
            z = (features.to(self.projection.device) @ self.projection.double()).to(self.statistics)
            mean, log_variance = z @ self.statistics
        return mean, log_variance


def traits_before(space: Space) -> list[NDArray[np.int64]]:
    """The columns of `Space.traits` that the stem, each stage in turn, and what follows them all depend on.

    How deep a stage is matters to what follows it, but to none of its own blocks.
    """
    names = [stage.name for stage in space.stages]
    found = []
    for last in range(-1, len(names) + 1):
        seen = []
        for gene in space.genes:
            stage, _, kind = gene.name.partition(".")
            number = names.index(stage) if stage in names else -1
            seen.append(number < last or (number == last and (kind != "depth" or number < 0)))
        seen += [widths.stage <= last for widths in space.meeting_widths]
        found.append(np.flatnonzero(seen))
    return found


def similarities(space: Space, rows: Rows, support: NDArray[Any]) -> NDArray[np.float64]:
    """(n, d) genotypes and traits (s, d + k) of measured ones → (n, 1 + g·s) features that statistics are linear in.

    A one, then for each of the g parts of the network exp(-½ |x - x'|² / l²) over the traits that lie before it,
    scaled to [-1, 1]. Files of earlier versions hold genes alone (s, d): then x are genes alone.
    """
    known = support.shape[1]
    x, other = (
        2.0 * t / (space.trait_sizes[:known] - 1) - 1.0 for t in (space.traits(rows)[:, :known], support)
    )
    squares = np.square(x[:, None] - other[None])
    before = [columns[columns < known] for columns in traits_before(space)]
    parts = [np.exp(-0.5 * squares[:, :, columns].sum(axis=2) / _LENGTH**2) for columns in before]
    return np.hstack([np.ones((len(x), 1)), *parts])


def extract(supernet: Supernet, arch: Arch) -> SaliencyNet:
    """A compact module with its own copy of the weights that `arch` uses; same mode as the supernet."""
    net = SaliencyNet(arch, supernet.space)
    net.load_state_dict({name: tensor.detach().clone() for name, tensor in supernet.slices(net)})
    return net.train(supernet.training)


def _norm_spans(net: SaliencyNet) -> dict[str, tuple[int, int]]:
    """The (first, end) channel of each batch norm among those of all."""
    spans, start = {}, 0
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            spans[name] = (start, start + module.num_features)
            start += module.num_features
    return spans


def _stride(choices: StageChoices, first: bool) -> int:
    return choices.stride if first else 1


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _halves(weight: Tensor, stored: tuple[int, int, int], used: tuple[int, int, int]) -> Tensor:
    """The decoder kernel of a subnet: the first channels of the up-sampled half and of the skip half."""
    up, skip, out = used
    if not skip:
        return weight[:out, :up]
    return torch.cat([weight[:out, :up], weight[:out, stored[0] : stored[0] + skip]], dim=1)
