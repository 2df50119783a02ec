"""Well-known backbones under our decoder, for the columns of speed: their weights are random.

MONAI has EfficientNet and needs nothing but torch and numpy. MobileNetV3 is left out: the kept libraries that have it
(timm, pytorchcv) need torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernet.baselines.registry import IMAGENET_DEVIATION, IMAGENET_MEAN, ReferenceNet

BACKBONES = {"efficientnet-b0": (192, 256), "efficientnet-b4": (288, 384)}
"""Names and the resolutions (H, W) at which the paper's Table 9 has them."""


class DecodedBackbone(nn.Module):
    """Features of an encoder at 1/2 to 1/32 → (B, H, W) before the sigmoid, decoded as in our subnets."""

    def __init__(self, encoder: nn.Module, channels: list[int]) -> None:
        super().__init__()
        self.encoder = encoder
        first, *inner, last = channels
        steps = []
        inputs = last
        for width in [*reversed(inner), first]:
            steps.append(_step(inputs, width))
            inputs = 2 * width
        self.merging = nn.ModuleList(steps)
        self.last = nn.Sequential(_step(inputs, first), nn.Upsample(scale_factor=2.0, mode="bilinear"))
        self.map = nn.Sequential(_step(first, first), nn.Conv2d(first, 1, 3, padding=1))

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, H, W)."""
        *skips, features = self.encoder(photos)
        for step, skip in zip(self.merging, reversed(skips), strict=True):
            features = functional.interpolate(step(features), scale_factor=2.0, mode="bilinear")
            features = torch.cat([features, skip], dim=1)
        logits: Tensor = self.map(self.last(features))[:, 0]
        return logits


def open_backbone(name: str) -> ReferenceNet:
    """A backbone with random weights. Raises ImportError without MONAI."""
    from monai.networks.nets.efficientnet import EfficientNetBNFeatures

    height, width = BACKBONES[name]
    encoder = EfficientNetBNFeatures(name, pretrained=False, in_channels=3, spatial_dims=2).eval()
    with torch.no_grad():
        channels = [features.shape[1] for features in encoder(torch.zeros(1, 3, height, width))]
    for head in ("_conv_head", "_bn1", "_fc"):  # of the classifier, which makes no map
        setattr(encoder, head, nn.Identity())
    net = DecodedBackbone(encoder, channels)
    return ReferenceNet(net, (height, width), IMAGENET_MEAN, IMAGENET_DEVIATION).eval()


def _step(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )
