"""A sandwich step of the supernet on slices against masks, on this machine.

A masked forward runs the largest subnet for every subnet and multiplies by masks; four steps of the largest subnet
are therefore a lower bound of its time. Both are timed in turn on the same batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import publish
from supernet.network import Supernet
from supernet.space import Arch, get_space


def step_seconds(supernet: Supernet, archs: list[Arch], photos: torch.Tensor) -> float:
    """Wall time of forward and backward of some subnets on one batch."""
    started = time.perf_counter()
    for arch in archs:
        supernet(photos, arch).mean().backward()
    return time.perf_counter() - started


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    space = get_space("salnas")
    photos = torch.randn(arguments.batch_size, 3, 192, 256).contiguous(memory_format=torch.channels_last)
    layouts = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for layout, memory_format in layouts.items():
        supernet = Supernet(space).train().to(memory_format=memory_format)  # type: ignore[call-overload]
        x = photos.contiguous(memory_format=memory_format)
        for step in range(arguments.steps + 1):
            middle = space.decode_many(space.sample(rng, 2))
            sliced = step_seconds(supernet, [space.largest(), *middle, space.smallest()], x)
            masked = step_seconds(supernet, [space.largest()] * 4, x)
            if step:
                found.setdefault(f"sliced, {layout}", []).append(sliced)
                found.setdefault(f"masked (lower bound), {layout}", []).append(masked)
    base = statistics.median(found["sliced, channels last"])
    frame = pd.DataFrame(
        [
            (name, arguments.batch_size / statistics.median(times), statistics.median(times) / base)
            for name, times in found.items()
        ],
        columns=["sandwich step", "photos a second", "time over sliced, channels last"],
    )
    publish(
        "network",
        f"Sandwich steps at 256x192, batch {arguments.batch_size}, {arguments.threads} threads",
        frame,
        command="python benchmarks/bench_network.py "
        f"--batch-size {arguments.batch_size} --threads {arguments.threads} --steps {arguments.steps}",
        note="Every step draws two new random subnets, so shapes are new to it.",
    )


if __name__ == "__main__":
    main()
