"""Batch-norm statistics of subnets, measured on training photos.

A subnet sampled from a supernet needs statistics of its own. `recalibrate` measures them with a forward pass over
photos. `measure_statistics` does so for many subnets, `on_more_photos` corrects them by what some of them show on
more photos, and `fit_statistics` stores in the supernet, for each channel, an interpolation between them: any subnet
can be extracted at once and without photos.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.images import resize_photos
from supernet.network import FITTED, SaliencyNet, Supernet, extract, similarities
from supernet.processor import kept_memory, side_by_side
from supernet.sampling import leaning_rows
from supernet.space import Arch, Rows, Space

_SMALLEST_VARIANCE = 1e-8
_EPSILON = 1e-5
"""What batch norms add to a variance: below it a channel is dead, and its mean matters little."""

_RANK = 96
"""Directions in which statistics differ that are kept."""

_NOTHING = 1e-9
"""Directions of less than this share of the largest hold no more than rounding."""

_TYPICAL = 1024
"""Subnets over which the loss of leaving out the other directions is the mean."""


@torch.no_grad()
def recalibrate(net: SaliencyNet, photos: Sequence[Tensor], *, precision: str = "fp32") -> SaliencyNet:
    """A copy of `net` in evaluation mode whose statistics are the mean of those of the batches `photos`.

    `photos`: normalised training batches (B, 3, H, W) of any size, 16 photos a batch or more; they are brought to
    the subnet's resolution. With `precision` "bf16" convolutions compute in it; statistics are float32.
    """
    fresh = copy.deepcopy(net).train()
    fresh.drop_rate = 0.0
    norms = [module for module in fresh.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean over batches
    for batch in photos:
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bf16"):
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


@kept_memory
def measure_statistics(
    supernet: Supernet,
    photos: Sequence[Tensor],
    rows: Rows,
    progress: Callable[[int, int], None] | None = None,
    *,
    precision: str = "fp32",
) -> MeasuredStatistics:
    """Measure the subnets `rows` (n, d) on `photos`, batches as sharp as the largest resolution.

    Photos that were small once and are enlarged have other statistics: they cost subnets of the larger resolution
    0.04 to 0.07 CC (`make bench-statistics`).
    """
    present = np.zeros((len(rows), supernet.statistics.shape[-1]), dtype=bool)
    values = np.zeros((len(rows), 2, present.shape[1]), dtype=np.float32)
    photos = [batch.contiguous(memory_format=torch.channels_last) for batch in photos]

    @torch.no_grad()
    def measure(arch: Arch) -> SaliencyNet:
        net = extract(supernet, arch).to(photos[0].device)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return recalibrate(net, photos, precision=precision)

    with side_by_side() as pool:
        archs = supernet.space.decode_many(rows)
        measured = pool.map(measure, archs) if photos[0].device.type == "cpu" else map(measure, archs)
        for number, net in enumerate(measured):
            _note(supernet, net, present[number], values[number])
            if progress:
                progress(number + 1, len(rows))
    return MeasuredStatistics(rows, present, values)


def _note(
    supernet: Supernet, net: SaliencyNet, present: NDArray[np.bool_], values: NDArray[np.float32]
) -> None:
    """Put the statistics of `net` where its channels are in `present` (c,) and `values` (2, c)."""
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            start = supernet.norm_spans[name][0]
            channels = slice(start, start + module.num_features)
            present[channels] = True
            log_variance = module.running_var.clamp(min=_SMALLEST_VARIANCE).log()
            values[:, channels] = torch.stack([module.running_mean, log_variance]).cpu().numpy()


def on_more_photos(
    supernet: Supernet, measured: MeasuredStatistics, more: MeasuredStatistics, *, ridge: float = 1e-2
) -> MeasuredStatistics:
    """`measured`, all of them moved by what `more` says differently of the first of the same subnets.

    A few photos have other statistics than many, and alike in subnets that are alike: the difference is interpolated
    as the statistics are.
    """
    space, first = supernet.space, len(more.rows)
    difference = replace(more, values=more.values - measured.values[:first])
    support = space.traits(more.rows)
    known, new = (_by_part(space, rows, support) for rows in (more.rows, measured.rows))
    values = measured.values.copy()
    for name, (start, end) in supernet.norm_spans.items():
        norm = _fit_norm(known[_part(name)], difference, start, end, ridge)
        moved = norm.in_units(norm.constant + new[_part(name)] @ norm.weights)
        values[:, :, start:end] += np.moveaxis(moved, 1, 0)
    return replace(measured, values=np.where(measured.present[:, None], values, np.float32(0.0)))


def fit_statistics(supernet: Supernet, measured: MeasuredStatistics, *, ridge: float = 1e-4) -> None:
    """Fit the batch-norm statistics of `supernet`, in place, to measured ones.

    Kernel ridge regression, for every channel, over the subnets that have it, on the traits that lie before it, with
    the intercept free. What it says of typical subnets is then cut down to its principal components, errors of means
    counted in standard deviations.
    """
    space, parts = supernet.space, {name: _part(name) for name in supernet.norm_spans}
    typical = leaning_rows(space, np.random.default_rng(0), _TYPICAL)
    support = space.traits(measured.rows)
    known, new = (_by_part(space, rows, support) for rows in (measured.rows, typical))
    norms = {
        name: _fit_norm(known[parts[name]], measured, *span, ridge)
        for name, span in supernet.norm_spans.items()
    }
    said = {name: norm.constant + new[parts[name]] @ norm.weights for name, norm in norms.items()}
    sizes, vectors = np.linalg.eigh(sum(values @ values.T for values in said.values()) / _TYPICAL)
    kept = np.flatnonzero(sizes > _NOTHING * sizes[-1])[::-1][:_RANK]
    scores = vectors[:, kept] * _TYPICAL**0.5
    constant, by_part = np.zeros(len(kept)), np.zeros((len(known), len(measured.rows), len(kept)))
    statistics = np.zeros((2, len(kept), measured.present.shape[1]))
    for name, norm in norms.items():
        loadings = scores.T @ said[name] / _TYPICAL
        constant += norm.constant @ loadings.T / sizes[kept]
        by_part[parts[name]] += norm.weights @ loadings.T / sizes[kept]
        statistics[:, :, slice(*supernet.norm_spans[name])] = norm.in_units(loadings)
    projection = np.vstack([constant, *by_part])
    device = supernet.statistics.device
    for name, values in zip(FITTED, (support, projection, statistics), strict=True):
        setattr(supernet, name, torch.from_numpy(values).float().to(device))


@dataclass(frozen=True, eq=False)
class _Norm:
    """What was fitted to c channels: constant (2c,) and weights (s, 2c), means over `deviations` (c,)."""

    constant: NDArray[np.float64]
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def in_units(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(r, 2c) → (2, r, c) means and log variances."""
        means, log_variances = np.split(values, 2, axis=1)
        return np.stack([means * self.deviations, log_variances])


def _part(norm: str) -> int:
    """Which of `traits_before` a batch norm belongs to."""
    where, number = norm.split(".")[:2]
    return 1 + int(number) if where == "stages" else 0 if where == "stem" else -1


def _by_part(space: Space, rows: Rows, support: NDArray[Any]) -> NDArray[np.float64]:
    """(g, n, s) the similarities of `rows` (n, d) to `support` (s, d + k), for each part of the network."""
    features = similarities(space, rows, support)[:, 1:]
    return np.moveaxis(features.reshape(len(rows), -1, len(support)), 1, 0)


def _fit_norm(
    kernel: NDArray[np.float64], measured: MeasuredStatistics, start: int, end: int, ridge: float
) -> _Norm:
    """Channels `start` to `end`; those that the same subnets have are fitted together. `kernel` (s, s)."""
    present = measured.present[:, start:end]
    constant, weights = np.zeros((2, end - start)), np.zeros((len(kernel), 2, end - start))
    _, group = np.unique(np.packbits(present, axis=0), axis=1, return_inverse=True)
    for number in range(int(group.max()) + 1):
        channels = np.flatnonzero(group.ravel() == number)
        own = np.flatnonzero(present[:, channels[0]])
        if not len(own):
            continue
        inverse = np.linalg.inv(kernel[np.ix_(own, own)] + ridge * np.eye(len(own)))
        ones = inverse.sum(axis=1)
        values = measured.values[own][:, :, start + channels].reshape(len(own), -1).astype(np.float64)
        middle = ones @ values / ones.sum()
        constant[:, channels] = middle.reshape(2, -1)
        fitted = inverse @ values - ones[:, None] * middle
        weights[own[:, None], :, channels] = fitted.reshape(len(own), 2, -1).transpose(0, 2, 1)
    deviations = np.sqrt(np.exp(constant[1]) + _EPSILON)
    unit = np.stack([1.0 / deviations, np.ones_like(deviations)])
    return _Norm((constant * unit).ravel(), (weights * unit).reshape(len(kernel), -1), deviations)
