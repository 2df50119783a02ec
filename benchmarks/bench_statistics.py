"""What subnets lose by batch-norm statistics that are fitted to genes instead of measured for each one.

Drawn subnets are scored on the photos that are held out of training: with the statistics that ship, recalibrated on
two sets of training photos, and on the first of them made as small as the smallest resolution. How well the two
recalibrations agree is the noise of the measurement.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import OUT, ROOT, publish
from predictors.collect import LastPhotos
from supernet.calibrate import recalibrate
from supernet.checkpoint import load_supernet
from supernet.data.cache import batches
from supernet.data.registry import open_dataset
from supernet.evaluate import build_evaluation_set, evaluate_net
from supernet.images import resize_photos
from supernet.network import extract
from supernet.onnx_net import OnnxNet
from supernet.progress import shown_progress
from supernet.sampling import covering_rows
from supernet.train import TrainConfig, load_training_data

BATCH = 16


def main() -> None:
    """Score subnets of the shipped supernet, and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--supernet", type=Path, default=ROOT / "results" / "supernets" / "salnas-osie.safetensors"
    )
    parser.add_argument("--data", default="osie", help="data set, by name or folder")
    parser.add_argument("--subnets", type=int, default=16, help="drawn subnets")
    parser.add_argument("--photos", type=int, default=48, help="photos of each recalibration")
    parser.add_argument("--seed", type=int, default=5, help="of the subnets that are drawn")
    args = parser.parse_args()
    supernet, _ = load_supernet(args.supernet)
    space = supernet.space
    config = TrainConfig(data=(args.data,))
    held_out = LastPhotos(open_dataset(args.data, split="train"), config.held_out)
    photos = build_evaluation_set(held_out, resolutions=space.resolutions)
    training, _ = load_training_data(config)
    found = [batch.images for batch in batches(training, BATCH, augment=False)]
    each = args.photos // BATCH
    sets = {
        "recalibrated": found[-each:],
        "on other photos": found[-2 * each : -each],
        "on photos that were small": [resize_photos(p, min(space.resolutions)) for p in found[-each:]],
    }
    rows = covering_rows(space, np.random.default_rng(args.seed), args.subnets)
    lines = []
    with shown_progress("Scoring subnets") as advance:
        for number, arch in enumerate(space.decode_many(rows), 1):
            net = extract(supernet, arch)
            nets = {"fitted": net} | {name: recalibrate(net, batch) for name, batch in sets.items()}
            with torch.no_grad():
                scores = {name: evaluate_net(OnnxNet(one), photos, 2).cc for name, one in nets.items()}
            height, width = arch.resolution
            lines.append({"subnet": space.id_of(arch), "resolution": f"{width}x{height}", **scores})
            advance(number, len(rows))
    frame = pd.DataFrame(lines)
    names = ["fitted", *sets]
    mean = {"subnet": "mean", "resolution": "", **{name: float(frame[name].mean()) for name in names}}
    noise = kendalltau(frame[names[1]], frame[names[2]]).statistic
    fitted = kendalltau(frame[names[0]], frame[names[1]]).statistic
    publish(
        "statistics",
        "CC on held-out photos: fitted statistics beside measured ones",
        pd.concat([frame, pd.DataFrame([mean])], ignore_index=True),
        command=" ".join(["python benchmarks/bench_statistics.py", *sys.argv[1:]]),
        note=f"Kendall's τ of the two recalibrations: {noise:.2f}; of fitted and recalibrated ones: {fitted:.2f}.",
    )
    print(
        f"τ of two recalibrations {noise:.2f}, of fitted and recalibrated {fitted:.2f}; in {OUT / 'statistics.md'}"
    )


if __name__ == "__main__":
    main()
