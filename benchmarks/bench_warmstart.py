"""Ways to start a supernet from an ImageNet MobileNetV2, and from random weights, over the first updates.

(a) surgery into the space salnas, whose largest subnet is wider, deeper, gated and adds its input everywhere;
(b) surgery into a space of our own whose largest subnet has the widths and depths of MobileNetV2.

All train the largest and the smallest subnet on the same photographs of OSIE at 128x96 in the same order, and are
scored on photographs that are held out of the training split.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import ROOT, publish
from supernet.cost import cost
from supernet.data.cache import TrainingCache, batches, build_cache
from supernet.data.registry import open_dataset
from supernet.losses import saliency_loss
from supernet.network import Supernet
from supernet.space import Space, StageChoices, get_space
from supernet.train import CLIP, held_out_scores
from supernet.warmstart import load_source, warm_start

SIZE = (96, 128)
RESOLUTIONS = (SIZE, (192, 256))
HELD_OUT = 32


def mobilenet_space() -> Space:
    """MobileNetV2's widths, depths and strides; narrower and cheaper choices below them, no gates."""
    lines = [
        ("mb1", (16,), (1,), (1,), 1),
        ("mb2", (16, 24), (1, 2), (4, 5, 6), 2),
        ("mb3", (24, 32), (2, 3), (4, 5, 6), 2),
        ("mb4", (48, 64), (2, 3, 4), (4, 5, 6), 2),
        ("mb5", (72, 96), (2, 3), (4, 5, 6), 1),
        ("mb6", (120, 160), (2, 3), (4, 5, 6), 2),
        ("mb7", (240, 320), (1,), (6,), 1),
    ]
    stages = tuple(
        StageChoices(name, widths, depths, (3, 5), expansions, False, stride)
        for name, widths, depths, expansions, stride in lines
    )
    return Space("mobilenetv2", RESOLUTIONS, (24, 32), stages)


def first_updates(
    supernet: Supernet, training: TrainingCache, held_out: TrainingCache, updates: int, encoder_rate: float
) -> tuple[list[float], list[float]]:
    """Held-out CC of (smallest, largest) before, halfway and after `updates` of AdamW."""
    space = supernet.space
    parameters = [
        {"params": [parameter], "lr": 2e-3 * (1.0 if name.startswith("weights.decoder.") else encoder_rate)}
        for name, parameter in supernet.named_parameters()
    ]
    optimizer = torch.optim.AdamW(parameters)
    rng = np.random.default_rng(0)
    small: list[float] = []
    large: list[float] = []

    def score() -> None:
        for arch, found in ((space.smallest(), small), (space.largest(), large)):
            found.append(held_out_scores(supernet, arch, held_out, full_resolution=False, frozen=False)[0])

    score()
    done = 0
    while done < updates:
        for photos, maps, counts in batches(training, 8, rng, drop_last=True):
            x = photos.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            for arch in (space.largest(), space.smallest()):
                loss = saliency_loss(supernet.train()(x, arch), maps, counts).mean()
                loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_value_(supernet.parameters(), CLIP)
            optimizer.step()
            done += 1
            if done == updates // 2 or done == updates:
                score()
            if done == updates:
                break
    return small, large


def main() -> None:
    """Train each start for some updates and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=10)
    default = Path(os.environ.get("SALNAS_WEIGHTS", ROOT.parent / "shared" / "weights"))
    parser.add_argument("--weights", type=Path, default=default / "mobilenet_v2_1.0_imagenet.safetensors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cache = build_cache(open_dataset("osie", split="train"), SIZE, (SIZE[0] // 3, SIZE[1] // 3))
    held_out = cache.part(len(cache) - HELD_OUT, len(cache))
    training = cache.part(0, len(cache) - HELD_OUT)
    photos = next(iter(batches(training, 48, augment=False))).images
    salnas = replace(get_space("salnas"), resolutions=RESOLUTIONS)
    starts = {
        "random weights, salnas": (salnas, False),
        "(a) surgery into salnas": (salnas, True),
        "(b) space of MobileNetV2's shape": (mobilenet_space(), True),
    }
    rows = []
    for name, (space, warm) in starts.items():
        torch.manual_seed(0)
        started = time.monotonic()
        supernet = Supernet(space).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        explained = warm_start(supernet, load_source(arguments.weights), photos) if warm else []
        small, large = first_updates(supernet, training, held_out, arguments.updates, 0.3 if warm else 1.0)
        millions = cost(space, (space.sizes - 1)[None]).macs[0] / 1e6
        rows.append(
            {
                "start": name,
                "million macs of the largest, 256x192": float(millions),
                "share of the features kept, last stage": explained[-1] if explained else float("nan"),
                "largest, CC before": large[0],
                "halfway": large[1],
                f"after {arguments.updates} updates": large[2],
                "smallest, CC after": small[2],
                "seconds": time.monotonic() - started,
            }
        )
        print(rows[-1], flush=True)
    publish(
        "warmstart",
        "Starts from ImageNet weights over the first updates",
        pd.DataFrame(rows),
        command=f"python benchmarks/bench_warmstart.py --updates {arguments.updates}",
        note=(
            f"CC on {HELD_OUT} photographs held out of OSIE's training split, at 128x96, one seed, under batch "
            "statistics; the decoder starts from random weights. So few updates show what a start is worth "
            "at first, not where a training ends. The default of `--warm-start` is (a), which keeps the published "
            "search space."
        ),
    )


if __name__ == "__main__":
    main()
