"""How decided the maps are: one number that divides the logits of all subnets, fitted on photos held out of training.

The mean of several supernets, and one that is taught by another, say flatter maps than people's looks are. Source:
Guo et al. 2017, "On Calibration of Modern Neural Networks" (temperature scaling).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from supernet.data.cache import TrainingCache, batches
from supernet.images import resize_maps, resize_photos
from supernet.losses import saliency_loss
from supernet.network import SaliencyNet, Supernet, extract
from supernet.space import Rows

_STEPS = [2 ** (step / 8) for step in range(-8, 9)]
"""Temperatures to start from: the loss may have more than one minimum."""

_AT_ONCE = 20
_SMALLEST = 1e-6


def fit_temperature(
    supernet: Supernet,
    rows: Rows,
    held_out: TrainingCache,
    loss: str = "cc+kld+nss",
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Sharpen or flatten all maps of `supernet`, in place, and return the temperature: under 1 it sharpened.

    It lies between 0.5 and 2, where the mean training loss of the subnets `rows` (n, d), as they are extracted, over
    the photos `held_out` is least.
    """
    device = next(supernet.parameters()).device
    truths = [
        (batch.maps, batch.counts) for batch in batches(held_out, _AT_ONCE, augment=False, device=device)
    ]
    logits: list[list[Tensor]] = []
    for number, arch in enumerate(supernet.space.decode_many(rows)):
        logits.append(_logits(extract(supernet, arch).eval().to(device), held_out))
        if progress:
            progress(number + 1, len(rows))

    def mean_loss(temperature: float) -> float:
        losses = [
            saliency_loss(torch.sigmoid(z / temperature), *truth, loss)
            for subnet in logits
            for z, truth in zip(subnet, truths, strict=True)
        ]
        return float(torch.cat(losses).mean())

    best = min(range(len(_STEPS)), key=lambda step: mean_loss(_STEPS[step]))
    around = (_STEPS[max(best - 1, 0)], _STEPS[min(best + 1, len(_STEPS) - 1)])
    found = float(minimize_scalar(mean_loss, bounds=around, method="bounded", options={"xatol": 1e-3}).x)
    with torch.no_grad():
        for tensor in supernet.weights.decoder[-1].get_submodule("bn").parameters():
            tensor.div_(found)
    return found


@torch.inference_mode()
def _logits(net: SaliencyNet, photos: TrainingCache) -> list[Tensor]:
    """What `net` says before its last sigmoid, (B, h, w) at the size of the truths, batch by batch."""
    found = []
    device = next(net.parameters()).device
    for batch in batches(photos, _AT_ONCE, augment=False, device=device):
        x = resize_photos(batch.images, net.resolution).contiguous(memory_format=torch.channels_last)
        logits = torch.logit(net(x), eps=_SMALLEST)
        found.append(resize_maps(logits, (batch.maps.shape[1], batch.maps.shape[2])))
    return found
