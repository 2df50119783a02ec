"""What subnets lose by batch-norm statistics that are fitted to genes instead of measured for each one.

Drawn subnets are scored on the photos that are held out of training: with the statistics that ship, recalibrated on
two sets of training photos, on both and more of them, and on demand on the first made as small as the smallest
resolution. All are drawn in the shares in which the statistics that ship were fitted. How well the first two
recalibrations agree is the noise of the measurement: `noise-ceiling` has it for every metric, and the report on
predictors quotes it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import ROOT, about_this_machine, publish
from predictors.collect import LastPhotos
from supernet.calibrate import recalibrate
from supernet.checkpoint import file_fingerprint, load_supernet
from supernet.data.registry import open_dataset
from supernet.evaluate import build_evaluation_set, evaluate_net
from supernet.images import resize_photos
from supernet.metric_names import METRICS
from supernet.metrics import Scores
from supernet.network import extract
from supernet.onnx_net import OnnxNet
from supernet.progress import shown_progress
from supernet.sampling import covering_rows
from supernet.train_config import TrainConfig
from supernet.train_data import load_training_data, plain_photos

BATCH = 16
"""Photos of a batch that `plain_photos` returns."""


def main() -> None:
    """Score subnets of the shipped supernet, and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--supernet", type=Path, default=ROOT / "results" / "supernets" / "salnas-osie.safetensors"
    )
    parser.add_argument("--subnets", type=int, default=16, help="drawn subnets")
    parser.add_argument("--photos", type=int, default=48, help="photos of a recalibration")
    parser.add_argument("--more", type=int, default=192, help="photos of the one on more; 0 for none")
    parser.add_argument("--seed", type=int, default=5, help="of the subnets and the photos that are drawn")
    parser.add_argument("--small", action="store_true", help="recalibrate on small photos too")
    args = parser.parse_args()
    supernet, origin = load_supernet(args.supernet)
    space = supernet.space
    config = as_fitted(origin.get("statistics", {}), args.seed)
    held_out = LastPhotos(open_dataset(config.data[0], split="train"), config.held_out)
    photos = build_evaluation_set(held_out, resolutions=space.resolutions)
    training, _ = load_training_data(config)
    found = plain_photos(training, max(args.more, 2 * args.photos), config)
    each = args.photos // BATCH
    sets = {"recalibrated": found[-each:], "on other photos": found[-2 * each : -each]}
    if args.more:
        sets[f"on {sum(map(len, found))} photos"] = found
    if args.small:
        sets["on photos that were small"] = [resize_photos(p, min(space.resolutions)) for p in found[-each:]]
    rows = covering_rows(space, np.random.default_rng(args.seed), args.subnets)
    lines: list[dict[str, Any]] = []
    scores: dict[str, list[Scores]] = {name: [] for name in ("fitted", *sets)}
    with shown_progress("Scoring subnets") as advance:
        for number, arch in enumerate(space.decode_many(rows), 1):
            net = extract(supernet, arch)
            nets = {"fitted": net} | {name: recalibrate(net, batch) for name, batch in sets.items()}
            for name, one in nets.items():
                scores[name].append(evaluate_net(OnnxNet(one), photos, 2))
            height, width = arch.resolution
            cc = {name: found[-1].cc for name, found in scores.items()}
            lines.append({"subnet": space.id_of(arch), "resolution": f"{width}x{height}", **cc})
            advance(number, len(rows))
    mean = {name: float(np.mean([one.cc for one in found])) for name, found in scores.items()}
    command = " ".join(["python benchmarks/bench_statistics.py", *sys.argv[1:]])
    publish(
        "statistics",
        "CC on held-out photos: fitted statistics beside measured ones",
        pd.DataFrame([*lines, {"subnet": "mean", "resolution": "", **mean}]),
        command=command,
    )
    publish(
        "noise-ceiling",
        f"Kendall's τ between two evaluations of {len(rows)} subnets",
        pd.DataFrame([agreement(metric, *list(scores.values())[:3]) for metric in METRICS]),
        command=command,
        about=about_this_machine()
        | {"supernet_fingerprint": file_fingerprint(args.supernet), "subnets": len(rows)},
        note="`recalibrated twice`: batch-norm statistics measured on one set of training photos or on another.",
    )


def as_fitted(statistics: dict[str, Any], seed: int) -> TrainConfig:
    """What draws photos as they were drawn for `statistics`, the provenance of those that ship."""
    data = statistics.get("data", "osie")
    names = (data,) if isinstance(data, str) else tuple(data)
    return TrainConfig(
        data=names, data_weights=tuple(statistics.get("data_weights", ())), batch_size=2, seed=seed
    )


def agreement(
    metric: str, fitted: list[Scores], first: list[Scores], second: list[Scores]
) -> dict[str, float | str]:
    """How alike the same subnets are ranked with fitted statistics, and with those of two sets of photos."""
    a, b, c = ([getattr(one, metric) for one in found] for found in (fitted, first, second))
    return {
        "metric": metric,
        "recalibrated twice": float(kendalltau(b, c).statistic),
        "fitted and recalibrated": float(kendalltau(a, b).statistic),
    }


if __name__ == "__main__":
    main()
