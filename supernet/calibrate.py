"""Batch-norm statistics of subnets, measured on training photos.

A subnet sampled from a supernet needs statistics of its own. `recalibrate` measures them with a forward pass over
photos. `fit_statistics` measures many subnets and stores in the supernet, channel by channel, the linear function of
the genes that fits them best, so that any subnet can be extracted at once and without photos.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from supernet.images import resize_photos
from supernet.network import SaliencyNet, Supernet, extract, gene_features
from supernet.space import Rows

_SMALLEST_VARIANCE = 1e-8


@torch.no_grad()
def recalibrate(net: SaliencyNet, photos: Sequence[Tensor]) -> SaliencyNet:
    """A copy of `net` in evaluation mode whose statistics are the mean of those of the batches `photos`.

    `photos`: normalised training batches (B, 3, H, W) of any size, 16 photos a batch or more; they are brought to
    the subnet's resolution.
    """
    fresh = copy.deepcopy(net).train()
    fresh.drop_rate = 0.0
    norms = [module for module in fresh.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean over batches
    for batch in photos:
        fresh(resize_photos(batch, fresh.resolution))
    for norm in norms:
        norm.momentum = 0.1
    return fresh.eval()


@torch.no_grad()
def fit_statistics(
    supernet: Supernet,
    photos: Sequence[Tensor],
    rows: Rows,
    *,
    ridge: float = 0.3,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fit `supernet.statistics`, in place, to the measured statistics of the subnets `rows` (n, d).

    Ridge regression of every channel over the subnets that have it, with the intercept free. `ridge` is in units of
    one subnet.
    """
    features = torch.from_numpy(gene_features(supernet.space, rows)).double()
    channels = supernet.statistics.shape[-1]
    penalty = ridge * torch.eye(features.shape[1], dtype=torch.double)
    penalty[0, 0] = 1e-6
    gram = penalty.expand(channels, -1, -1).clone()
    moment = torch.zeros(2, channels, features.shape[1], dtype=torch.double)
    for number, arch in enumerate(supernet.space.decode_many(rows)):
        present, values = _measured(supernet, recalibrate(extract(supernet, arch), photos))
        z = features[number]
        gram[present] += z[:, None] * z
        moment[:, present] += values[:, :, None].double() * z
        if progress:
            progress(number + 1, len(rows))
    fitted = torch.linalg.solve(gram, moment.unsqueeze(-1)).squeeze(-1)
    supernet.statistics.copy_(fitted.transpose(1, 2))


def _measured(supernet: Supernet, net: SaliencyNet) -> tuple[Tensor, Tensor]:
    """(c,) the channels that `net` has and (2, c) their means and log variances."""
    present, means, variances = [], [], []
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            start = supernet.norm_spans[name][0]
            present.append(torch.arange(start, start + module.num_features))
            means.append(module.running_mean)
            variances.append(module.running_var)
    log_variance = torch.cat(variances).clamp(min=_SMALLEST_VARIANCE).log()
    return torch.cat(present), torch.stack([torch.cat(means), log_variance])
