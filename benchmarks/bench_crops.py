"""How much of a photo augmentation should leave: the smallest subnet, trained further under several least crops.

People look at the middle of photos, and photographers put things there. A crop moves the middle, so that small
crops teach a network that it may be anywhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import ROOT, publish
from supernet.checkpoint import load_supernet
from supernet.data.cache import Source, TrainingCache, batches
from supernet.finetune import FinetuneConfig, finetune, held_out_cc
from supernet.images import resize_maps, resize_photos
from supernet.losses import kld_loss
from supernet.network import SaliencyNet, extract
from supernet.processor import chosen_precision
from supernet.train_config import TrainConfig
from supernet.train_data import load_training_data

DATA = ("osie", "mit1003", "crowd")
SHIPPED = ROOT / "results" / "supernets" / "salnas-osie.safetensors"


@torch.inference_mode()
def held_out_kld(net: SaliencyNet, held_out: TrainingCache) -> float:
    """Mean divergence from the maps of photos that do not train; lower is better."""
    found = []
    for photos, maps, _ in batches(held_out, 20, augment=False):
        predicted = net(resize_photos(photos, net.resolution))
        found.extend(kld_loss(resize_maps(predicted, (maps.shape[1], maps.shape[2])), maps).tolist())
    return float(np.mean(found))


def trained(
    crop: float, seed: int, epochs: int, training: Source, held_out: TrainingCache
) -> dict[str, float]:
    """The smallest subnet of the shipped supernet after `epochs` under crops of `crop` of the area and more."""
    supernet, _ = load_supernet(SHIPPED)
    net = extract(supernet, supernet.space.smallest())
    config = FinetuneConfig(
        epochs=epochs,
        learning_rate=0.01,
        smallest_crop=crop,
        precision=chosen_precision("auto"),
        seed=seed,
        threads=1,
    )
    history = finetune(net, training, config, pretrained=("stem.", "stages.", "last."))
    return {
        "least share of the area": crop,
        "seed": seed,
        "training loss": history[-1].loss,
        "held-out CC": held_out_cc(net, held_out),
        "held-out KLD": held_out_kld(net, held_out),
        "seconds": sum(report.seconds for report in history),
    }


def main() -> None:
    """Train under each crop and seed, and publish means and the range of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=float, nargs="+", default=[0.5, 0.8, 0.9, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=600, help="photos an epoch")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    config = TrainConfig(data=DATA, data_weights=(3, 1, 1), epoch_photos=arguments.photos)
    training, held_out = load_training_data(config)
    runs = []
    for seed in range(arguments.seeds):
        for crop in arguments.crops:
            runs.append(trained(crop, seed, arguments.epochs, training, held_out))
            print(runs[-1], flush=True)
    by_crop = pd.DataFrame(runs).groupby("least share of the area")
    frame = by_crop.mean().drop(columns="seed")
    for name in ("held-out CC", "held-out KLD"):
        frame[f"{name}, seeds apart"] = by_crop[name].max() - by_crop[name].min()
    publish(
        "crops",
        "What augmentation leaves of a photo",
        frame.reset_index(),
        command=(
            f"python benchmarks/bench_crops.py --crops {' '.join(map(str, arguments.crops))} "
            f"--seeds {arguments.seeds} --photos {arguments.photos} --epochs {arguments.epochs}"
        ),
        note=(
            f"The smallest subnet of the shipped supernet, trained further alone on the maps of {', '.join(DATA)} "
            "(3:1:1), scored on the photographs of OSIE's training split that are held out. All runs start from "
            "weights that were trained under crops of 0.8 and more. Short runs: they compare crops, and show neither "
            "where a long training ends nor whether more subnets want the same."
        ),
    )


if __name__ == "__main__":
    main()
