"""Smoothing of maps as the evaluation does it: ours, torch's convolution and scipy's correlation, in turns."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import correlate1d
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import publish
from supernet.evaluate import MAP_SIZE
from supernet.images import smooth_maps

TAPS = np.exp(-0.5 * (np.arange(-5, 6) / 10.5) ** 2)
TAPS /= TAPS.sum()
BATCHES = (1, 2, 8)
ROUNDS = 30


def convolved(maps: Tensor) -> Tensor:
    """(B, H, W) by two convolutions of one channel."""
    taps = torch.from_numpy(TAPS).to(maps.dtype)
    padded = functional.pad(maps[:, None], [5] * 4, mode="reflect")
    along = functional.conv2d(padded, taps[None, None, :, None])
    return functional.conv2d(along, taps[None, None, None])[:, 0]


def correlated(maps: Tensor) -> Tensor:
    """(B, H, W) by scipy, whose `mirror` is torch's `reflect`."""
    along = correlate1d(maps.numpy(), TAPS, 1, mode="mirror")
    return torch.from_numpy(correlate1d(along, TAPS, 2, mode="mirror"))


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "ours": smooth_maps,
    "torch, conv2d": convolved,
    "scipy, correlate1d": correlated,
}


@torch.inference_mode()
def main() -> None:
    """Measure and publish."""
    torch.set_num_threads(1)
    lines = []
    for batch in BATCHES:
        maps = torch.rand(batch, *MAP_SIZE, generator=torch.Generator().manual_seed(0))
        expected = smooth_maps(maps)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, smooth in WAYS.items():
                start = time.perf_counter()
                found = smooth(maps)
                seconds[name].append(time.perf_counter() - start)
                assert torch.allclose(found, expected, atol=1e-6)
        ours = statistics.median(seconds["ours"])
        for name, all_of_it in seconds.items():
            median = statistics.median(all_of_it)
            lines.append((batch, name, 1000 * median / batch, median / ours))
    frame = pd.DataFrame(lines, columns=["maps at once", "by", "ms a map", "times ours"])
    publish("smoothing", "Smoothing of maps, one thread", frame, command="make bench-smoothing")


if __name__ == "__main__":
    main()
