"""Training losses, per image: what the SalNAS paper minimises, KLD + (1 - CC) + (1 - σ(NSS)), and its alternatives.

Predictions and maps are (B, h, w), not negative; fixation counts (B, h, w). Every function returns (B,). Lower is
better for losses. They are differentiable and forgiving (small constants keep gradients finite on flat maps);
`supernet.metrics` holds the exact scores.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from supernet.images import resize_maps

_TINY = 1e-7
_AUC_STEPS = 32
_AUC_WIDTH = 0.15
"""Softness of a threshold, in standard deviations of the prediction."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(predicted, maps, counts), each (B, h, w) → (B,)."""


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


def sim_loss(predicted: Tensor, maps: Tensor) -> Tensor:
    """1 - the overlap of the predicted and the true distribution over pixels."""
    return 1 - torch.minimum(_distribution(predicted), _distribution(maps)).sum((1, 2))


def auc_loss(predicted: Tensor, counts: Tensor) -> Tensor:
    """1 - area under the ROC curve with soft thresholds; 0 for photos without fixations.

    The public SalNAS code takes the area of each batch's first image from NumPy, which has no gradient; this one
    has. Thresholds stand from 3 deviations below to 6 above the mean of the prediction.
    """
    centred = predicted - predicted.mean((1, 2), keepdim=True)
    z = (centred / (centred.square().mean((1, 2), keepdim=True) + _TINY).sqrt()).flatten(1)
    seen = counts.flatten(1)
    total, unseen = seen.sum(1), (seen == 0).to(z.dtype)
    steps = torch.linspace(-3.0, 6.0, _AUC_STEPS, device=z.device, dtype=z.dtype)
    above = torch.sigmoid((z[:, None] - steps[:, None]) / _AUC_WIDTH)  # (B, steps, N)
    hits = (above * seen[:, None]).sum(2) / total.clamp(min=1)[:, None]
    alarms = (above * unseen[:, None]).sum(2) / unseen.sum(1).clamp(min=1)[:, None]
    return (1 + torch.trapezoid(hits, alarms, dim=1)) * (total > 0)


LOSSES: dict[str, Loss] = {
    "cc+kld": lambda p, maps, counts: kld_loss(p, maps) + cc_loss(p, maps),
    "cc+kld+nss": lambda p, maps, counts: kld_loss(p, maps) + cc_loss(p, maps) + nss_loss(p, counts),
    "cc+kld+sim": lambda p, maps, counts: kld_loss(p, maps) + cc_loss(p, maps) + sim_loss(p, maps),
    "cc+kld+auc": lambda p, maps, counts: kld_loss(p, maps) + cc_loss(p, maps) + auc_loss(p, counts),
}
"""The combinations of the paper's Table 4; its PKD loss, KLD - CC, has the gradient of cc+kld."""


def saliency_loss(predicted: Tensor, maps: Tensor, counts: Tensor, combination: str = "cc+kld+nss") -> Tensor:
    """A combination of `LOSSES`; predictions of any size are brought to the size of the maps."""
    p = resize_maps(predicted.float(), (maps.shape[1], maps.shape[2]))
    return LOSSES[combination](p, maps, counts)


def _distribution(maps: Tensor) -> Tensor:
    return maps / (maps.sum((1, 2), keepdim=True) + _TINY)
