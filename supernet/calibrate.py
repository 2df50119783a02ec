"""Batch-norm statistics of subnets, measured on training photos.

A subnet sampled from a supernet needs statistics of its own. `recalibrate` measures them with a forward pass over
photos. `measure_statistics` does so for many subnets, and `fit_statistics` stores in the supernet, for each channel,
the function of genes and their pairs that fits them best: any subnet can be extracted at once and without photos.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.images import resize_photos
from supernet.network import SaliencyNet, Supernet, extract, gene_features
from supernet.sampling import leaning_rows
from supernet.space import Rows, Space

_SMALLEST_VARIANCE = 1e-8
_EPSILON = 1e-5
"""What batch norms add to a variance: below it a channel is dead, and its mean matters little."""

_PAIRS = 0.1
"""How large the effect of a pair of genes is beside that of a gene, before anything is measured."""

_TYPICAL = 4096
"""Subnets over which the loss of a compression is the mean."""


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


@dataclass(frozen=True, eq=False)
class MeasuredStatistics:
    """Statistics of n subnets over the c channels of all batch norms of the largest one.

    rows (n, d) genotypes; present (n, c), whether a subnet has a channel; values (n, 2, c) means and log variances,
    zero where it has not.
    """

    rows: Rows
    present: NDArray[np.bool_]
    values: NDArray[np.float32]


@torch.no_grad()
def measure_statistics(
    supernet: Supernet,
    photos: Sequence[Tensor],
    rows: Rows,
    progress: Callable[[int, int], None] | None = None,
) -> MeasuredStatistics:
    """Measure the subnets `rows` (n, d) on `photos`, batches as sharp as the largest resolution.

    Photos that were small once and are enlarged have other statistics: they cost subnets of the larger resolution up
    to 0.09 CC.
    """
    present = np.zeros((len(rows), supernet.statistics.shape[-1]), dtype=bool)
    values = np.zeros((len(rows), 2, present.shape[1]), dtype=np.float32)
    photos = [batch.contiguous(memory_format=torch.channels_last) for batch in photos]
    for number, arch in enumerate(supernet.space.decode_many(rows)):
        net = extract(supernet, arch).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        net = recalibrate(net, photos)
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                start = supernet.norm_spans[name][0]
                channels = slice(start, start + module.num_features)
                present[number, channels] = True
                log_variance = module.running_var.clamp(min=_SMALLEST_VARIANCE).log()
                values[number, :, channels] = torch.stack([module.running_mean, log_variance]).cpu().numpy()
        if progress:
            progress(number + 1, len(rows))
    return MeasuredStatistics(rows, present, values)


def fit_statistics(supernet: Supernet, measured: MeasuredStatistics, *, ridge: float = 0.3) -> None:
    """Fit `supernet.statistics` and `supernet.projection`, in place, to measured statistics.

    Ridge regression, for every channel, over the subnets that have it, on the genes that lie before it, with the
    intercept free. Of the weights of all channels the directions are kept in which statistics differ most, errors
    of means counted in standard deviations.
    """
    space = supernet.space
    features = gene_features(space, measured.rows).astype(np.float64)
    features[:, 1 + len(space.genes) :] *= _PAIRS
    weights = np.zeros((2, features.shape[1], measured.present.shape[1]))
    for name, (start, end) in supernet.norm_spans.items():
        before = _before(space, name)
        for channels in _alike(measured.present, start, end):
            own = measured.present[:, channels[0]]
            fitted = _ridge(features[own][:, before], measured.values[own][:, :, channels], ridge)
            weights[:, np.flatnonzero(before)[:, None], channels] = fitted
    weights[:, 1 + len(space.genes) :] *= _PAIRS
    projection, statistics = _compressed(space, weights, supernet.projection.shape[1])
    supernet.projection.copy_(torch.from_numpy(projection))
    supernet.statistics.copy_(torch.from_numpy(statistics))


def _before(space: Space, norm: str) -> NDArray[np.bool_]:
    """(features,) which of them a batch norm depends on: those of genes that lie before it in the network.

    How deep its own stage is matters to no block, only to whether there is one.
    """
    stages = [stage.name for stage in space.stages]
    part, _, rest = norm.partition(".")
    last = {"stem": -1, "stages": int(rest.split(".")[0]) if part == "stages" else 0}.get(part, len(stages))
    seen = np.zeros(len(space.genes), dtype=bool)
    for j, gene in enumerate(space.genes):
        stage, _, kind = gene.name.partition(".")
        number = stages.index(stage) if stage in stages else -1
        seen[j] = number < last or (number == last and kind != "depth")
    first, second = np.triu_indices(len(seen), 1)
    return np.concatenate([[True], seen, seen[first] & seen[second]])


def _alike(present: NDArray[np.bool_], start: int, end: int) -> list[NDArray[np.int64]]:
    """The channels from `start` to `end`, in groups that the same subnets have, without those that none has."""
    _, group = np.unique(np.packbits(present[:, start:end], axis=0), axis=1, return_inverse=True)
    groups = [start + np.flatnonzero(group.ravel() == g) for g in range(int(group.max()) + 1)]
    return [channels for channels in groups if present[:, channels[0]].any()]


def _ridge(features: NDArray[np.float64], values: NDArray[np.float32], ridge: float) -> NDArray[np.float64]:
    """Features (s, f), the first of which is one, and values (s, 2, c) → weights (2, f, c)."""
    x = features[:, 1:]
    inverse = np.linalg.inv(x @ x.T + ridge * np.eye(len(x)))
    ones = inverse.sum(axis=1)
    flat = values.reshape(len(x), -1).astype(np.float64)
    constant = ones @ flat / ones.sum()
    slopes = x.T @ (inverse @ flat - ones[:, None] * constant)
    fitted = np.vstack([constant, slopes]).reshape(features.shape[1], 2, -1)
    return np.moveaxis(fitted, 1, 0)


def _compressed(
    space: Space, weights: NDArray[np.float64], rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (2, f, c) → projection (f, r) and statistics (2, r, c) whose products come closest to what they say."""
    rows = leaning_rows(space, np.random.default_rng(0), _TYPICAL)
    features = gene_features(space, rows).astype(np.float64)
    moment = features.T @ features / len(rows) + 1e-9 * np.eye(features.shape[1])
    root = np.linalg.cholesky(moment)
    deviations = np.sqrt(np.exp(weights[1, 0]) + _EPSILON)
    unit = np.stack([1.0 / deviations, np.ones_like(deviations)])  # (2, c)
    spread = np.concatenate(list(root.T @ weights * unit[:, None]), axis=1)
    _, vectors = np.linalg.eigh(spread @ spread.T)
    kept = vectors[:, ::-1][:, :rank]
    projection = np.linalg.solve(root.T, kept)
    statistics = np.stack(np.split(kept.T @ spread, 2, axis=1)) / unit[:, None]
    return projection, statistics
