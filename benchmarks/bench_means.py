"""What means of trainings are worth: CC of three subnets on the photos that are held out of training.

`--mean "0.6 late 0.2 last-1 0.2 last-2"` names files of var/ with their shares, as scripts/train-supernet.sh does;
a name alone is that file. Every subnet is recalibrated on training photos, for the statistics of a mean are not
fitted yet when its shares are chosen. Differences are to the first mean, photo by photo, with their standard error.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_statistics import as_fitted
from benchmarks.report import ROOT, publish
from predictors.collect import LastPhotos
from supernet.average import average_supernets
from supernet.calibrate import recalibrate
from supernet.card import middle
from supernet.checkpoint import load_supernet
from supernet.data.registry import open_dataset
from supernet.evaluate import EvaluationSet, build_evaluation_set, score_net
from supernet.network import Supernet, extract
from supernet.onnx_net import OnnxNet
from supernet.progress import shown_progress
from supernet.train_data import load_training_data, plain_photos

SHIPPED = ROOT / "results" / "supernets" / "salnas-osie.safetensors"
SUBNETS = ("smallest", "middle", "largest")


def main() -> None:
    """Score the means that are asked for, and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mean", action="append", help='such as "0.5 a 0.5 b"; repeat it; default: what ships'
    )
    parser.add_argument("--photos", type=int, default=288, help="training photos of a recalibration")
    parser.add_argument("--seed", type=int, default=11, help="of the photos that are drawn")
    args = parser.parse_args()
    means = args.mean or [str(SHIPPED)]
    supernet, origin = load_supernet(SHIPPED)
    config = as_fitted(origin.get("statistics", {}), args.seed)
    held_out = LastPhotos(open_dataset(config.data[0], split="train"), config.held_out)
    photos = build_evaluation_set(held_out, resolutions=supernet.space.resolutions)
    training = plain_photos(load_training_data(config)[0], args.photos, config)
    found = []
    with shown_progress("Scoring means") as advance:
        for number, mean in enumerate(means, 1):
            found.append(scores(parse_mean(mean), training, photos))
            advance(number, len(means))
    publish(
        "means",
        "CC on held-out photos: means of trainings, recalibrated",
        pd.DataFrame(
            [
                {"mean": mean.removeprefix(f"{SHIPPED.parent}/"), **line(one, found[0])}
                for mean, one in zip(means, found, strict=True)
            ]
        ),
        command=shlex.join(["python", "benchmarks/bench_means.py", *sys.argv[1:]]),
        note="In brackets the difference to the first line, photo by photo, and its standard error.",
    )


def parse_mean(words: str) -> Supernet:
    """`"0.6 late 0.4 last"`, or one name alone → the supernet of these files."""
    parts = words.split()
    shares, names = (
        ([1.0], parts) if len(parts) == 1 else ([float(share) for share in parts[::2]], parts[1::2])
    )
    paths = [Path(name) if Path(name).exists() else ROOT / "var" / f"{name}.safetensors" for name in names]
    return average_supernets(paths, shares)[0]


def scores(supernet: Supernet, training: Sequence[Tensor], photos: EvaluationSet) -> dict[str, np.ndarray]:
    """CC of the smallest, the middle and the largest subnet, recalibrated, for each photo (N,)."""
    space = supernet.space
    archs = dict(zip(SUBNETS, (space.smallest(), middle(space), space.largest()), strict=True))
    return {
        name: score_net(OnnxNet(recalibrate(extract(supernet, arch), training)), photos, 2)["cc"].numpy()
        for name, arch in archs.items()
    }


def line(found: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> dict[str, str]:
    """Each subnet's mean, and how far it is from the first one's."""
    cells = {}
    for name, cc in found.items():
        apart = cc - first[name]
        error = apart.std(ddof=1) / np.sqrt(len(apart))
        cells[name] = f"{cc.mean():.4f}" + (
            f" ({apart.mean():+.4f} ± {error:.4f})" if found is not first else ""
        )
    return cells


if __name__ == "__main__":
    main()
