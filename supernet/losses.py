"""Training losses, per image: what the SalNAS paper minimises, KLD + (1 - CC) + (1 - σ(NSS)).

Predictions and maps are (B, h, w), not negative; fixation counts (B, h, w). Every function returns (B,). Lower is
better for losses. They are differentiable and forgiving (small constants keep gradients finite on flat maps);
`supernet.metrics` holds the exact scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.images import resize_maps

_TINY = 1e-7


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
