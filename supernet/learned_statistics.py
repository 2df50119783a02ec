"""Batch-norm statistics that are learned on, after they were measured and fitted.

In evaluation mode a batch norm is an affine function of its own for every subnet, as its mean and variance are
interpolated. So gradients on the interpolation give subnets scales and offsets of their own where they share all
weights, at no cost when a subnet runs: what slimmable networks store for each of some widths (Yu et al. 2019,
"Slimmable Neural Networks"), for a whole space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.network import Supernet

_DIRECTIONS = 12
"""Directions that are learned on, of those in which statistics differ most."""


class LearnedStatistics(nn.Module):
    """What is learned on top of the fitted statistics of a supernet.

    `change` (2, k, channels) is counted, along each of the first k directions, in what statistics typically differ in
    it, and means in standard deviations, so that one learning rate suits all. `fitted` (2, r, channels) is what was
    there before.
    """

    fitted: Tensor
    units: Tensor

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        fitted = supernet.statistics.detach().clone()
        kept = min(_DIRECTIONS, fitted.shape[1])
        self.change = nn.Parameter(torch.zeros_like(fitted[:, :kept]))
        self.register_buffer("fitted", fitted)
        self.register_buffer("units", _units(fitted[:, :kept]))

    def lend(self, supernet: Supernet) -> None:
        """Give `supernet` the statistics as they are now, for one forward and backward pass."""
        kept = self.change.shape[1]
        learned = self.fitted[:, :kept] + self.units * self.change
        supernet.statistics = torch.cat([learned, self.fitted[:, kept:]], dim=1)

    @torch.no_grad()
    def give(self, supernet: Supernet) -> None:
        """Leave `supernet` with the statistics as they are now."""
        self.lend(supernet)


def _units(statistics: Tensor) -> Tensor:
    """(2, k, channels): the first direction, nearly a constant, moves all subnets alike."""
    means, log_variances = statistics
    deviations = (0.5 * log_variances[0]).exp()
    sizes = torch.stack([means / deviations, log_variances]).square().mean(dim=(0, 2)).sqrt()
    sizes = sizes / sizes[1:2].clamp(min=1e-12)
    sizes[0] = 1.0
    return sizes[:, None] * torch.stack([deviations, torch.ones_like(deviations)])[:, None]
