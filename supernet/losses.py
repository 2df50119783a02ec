"""Training losses, per image: what the SalNAS paper minimises, KLD + (1 - CC) + (1 - σ(NSS)).

Predictions and maps are (B, h, w), not negative; fixation counts (B, h, w). Every function returns (B,). Lower is
better for losses. They are differentiable and forgiving (small constants keep gradients finite on flat maps);
`supernet.metrics` holds the exact scores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-7


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) → (B, *size): area averages where it shrinks by whole numbers, else bilinear."""
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    if height % size[0] == 0 and width % size[1] == 0:
        return F.adaptive_avg_pool2d(maps[:, None], size)[:, 0]
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]


def kld_loss(predicted: Tensor, maps: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the predicted from the true distribution over pixels."""
    p = _distribution(predicted)
    t = _distribution(maps)
    return (t * ((t + _TINY).log() - (p + _TINY).log())).sum((1, 2))


def cc_loss(predicted: Tensor, maps: Tensor) -> Tensor:
    """1 - Pearson correlation over pixels."""
    p = predicted - predicted.mean((1, 2), keepdim=True)
    t = maps - maps.mean((1, 2), keepdim=True)
    norm = (p.square().sum((1, 2)) * t.square().sum((1, 2)) + _TINY**2).sqrt()
    return 1 - (p * t).sum((1, 2)) / norm


def nss_loss(predicted: Tensor, counts: Tensor) -> Tensor:
    """1 - σ(mean standardised prediction at fixations); 0 for photos without fixations."""
    centred = predicted - predicted.mean((1, 2), keepdim=True)
    z = centred / (centred.square().mean((1, 2), keepdim=True) + _TINY).sqrt()
    total = counts.sum((1, 2))
    nss = (z * counts).sum((1, 2)) / total.clamp(min=1)
    return (1 - torch.sigmoid(nss)) * (total > 0)


def saliency_loss(predicted: Tensor, maps: Tensor, counts: Tensor) -> Tensor:
    """The paper's loss; predictions of any size are brought to the size of the maps."""
    p = resize_maps(predicted.float(), (maps.shape[1], maps.shape[2]))
    return kld_loss(p, maps) + cc_loss(p, maps) + nss_loss(p, counts)


def _distribution(maps: Tensor) -> Tensor:
    return maps / (maps.sum((1, 2), keepdim=True) + _TINY)


def resize_photos(photos: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) → (B, 3, *size), anti-aliased bilinear."""
    if (photos.shape[2], photos.shape[3]) == size:
        return photos
    return F.interpolate(photos, size, mode="bilinear", align_corners=False, antialias=True)
