"""Well-known backbones under our decoder, for the columns of speed: their weights are random.

MONAI has EfficientNet and needs nothing but torch and numpy. MobileNetV3 is left out: the kept libraries that have it
(timm, pytorchcv) need torchvision.
"""

from __future__ import annotations

import torch
from torch import nn

from supernet.baselines.decoded import DecodedBackbone
from supernet.baselines.registry import IMAGENET_DEVIATION, IMAGENET_MEAN, ReferenceNet

BACKBONES = {"efficientnet-b0": (192, 256), "efficientnet-b4": (288, 384)}
"""Names and the resolutions (H, W) at which the paper's Table 9 has them."""


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
