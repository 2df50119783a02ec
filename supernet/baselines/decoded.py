"""An encoder of another network under a decoder like that of our subnets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DecodedBackbone(nn.Module):
    """Features of an encoder at 1/2 to 1/32 → (B, H, W) before the sigmoid, decoded as in our subnets.

    `channels` of the encoder's five outputs, the largest maps first.
    """

    def __init__(self, encoder: nn.Module, channels: Sequence[int], drop_rate: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.drop_rate = drop_rate
        first, *inner, last = channels
        steps = []
        inputs = last
        for width in [*reversed(inner), first]:
            steps.append(_step(inputs, width))
            inputs = 2 * width
        self.merging = nn.ModuleList(steps)
        self.last = nn.Sequential(_step(inputs, first), nn.Upsample(scale_factor=2.0, mode="bilinear"))
        self.refine = _step(first, first)
        self.readout = nn.Conv2d(first, 1, 3, padding=1)

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, H, W); H and W multiples of 32."""
        *skips, features = self.encoder(photos)
        features = F.dropout(features, self.drop_rate, self.training)
        for step, skip in zip(self.merging, reversed(skips), strict=True):
            features = F.interpolate(step(features), scale_factor=2.0, mode="bilinear")
            features = torch.cat([features, skip], dim=1)
        logits: Tensor = self.readout(self.refine(self.last(features)))[:, 0]
        return logits


def _step(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )
