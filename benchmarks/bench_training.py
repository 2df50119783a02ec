"""Training on a CPU: what number format, channels last, kept memory and our gradient of 5×5 kernels are worth.

Settings take turns step by step, so that whatever else the machine does slows all of them; the ratio is what counts.
A step is forward and backward of the largest, a random and the smallest subnet of the shipped space, each at its own
resolution.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import publish
from supernet.images import resize_photos
from supernet.network import Supernet
from supernet.processor import chosen_precision, kept_memory, training_threads
from supernet.space import Arch, get_space


@dataclass(frozen=True)
class Setting:
    """How a step is computed."""

    precision: str = "fp32"
    channels_last: bool = True
    keeps_memory: bool = True
    own_gradient: bool = True

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def step_seconds(supernet: Supernet, archs: list[Arch], photos: torch.Tensor, setting: Setting) -> float:
    """Wall time of forward and backward of `archs` on one batch."""
    supernet.to(memory_format=setting.layout)  # type: ignore[call-overload]
    supernet.zero_grad(set_to_none=True)
    memory = kept_memory if setting.keeps_memory else nullcontext()
    gradient = nullcontext() if setting.own_gradient else patch("supernet.depthwise._loop", lambda: None)
    with memory, gradient:
        began = time.perf_counter()
        for arch in archs:
            x = resize_photos(photos, arch.resolution).contiguous(memory_format=setting.layout)
            with torch.autocast("cpu", torch.bfloat16, enabled=setting.precision == "bf16"):
                predicted = supernet(x, arch)
            predicted.float().mean().backward()
        return time.perf_counter() - began


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    best = chosen_precision("auto")
    settings = [
        Setting(channels_last=False, keeps_memory=False, own_gradient=False),
        Setting(keeps_memory=False, own_gradient=False),
        Setting(own_gradient=False),
        Setting(),
        *([Setting(best, own_gradient=False), Setting(best)] if best != "fp32" else []),
    ]
    torch.manual_seed(0)
    space = get_space("salnas")
    supernet = Supernet(space).train()
    photos = torch.rand(asked.batch_size, 3, *space.largest().resolution)
    archs = [
        space.largest(),
        *space.decode_many(space.sample(np.random.default_rng(0), 1)),
        space.smallest(),
    ]
    seconds = np.empty((asked.rounds + 1, len(settings)))
    with training_threads(asked.threads):
        for of_round in seconds:
            of_round[:] = [step_seconds(supernet, archs, photos, setting) for setting in settings]
    seconds = seconds[1:]  # the first warms up
    frame = pd.DataFrame(
        {
            "precision": [setting.precision for setting in settings],
            "channels": ["last" if setting.channels_last else "first" for setting in settings],
            "freed memory": ["kept" if setting.keeps_memory else "returned" for setting in settings],
            "gradient of 5×5 kernels": ["ours" if setting.own_gradient else "torch" for setting in settings],
            "seconds a step": np.median(seconds, axis=0),
            "photos a second": asked.batch_size / np.median(seconds, axis=0),
            "times the first": np.median(seconds[:, :1] / seconds, axis=0),
        }
    )
    publish(
        "training",
        f"Training steps of three subnets, batch {asked.batch_size}, {asked.threads} threads",
        frame,
        command="make bench-training",
        note="`salnas train` keeps memory and channels last, with our gradient; `--precision auto` takes bf16 where "
        "that is native.",
    )


if __name__ == "__main__":
    main()
