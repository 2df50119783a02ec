"""FastSal's ablation (Table V of its paper) with one of our subnets as the teacher: hints × teacher × truth.

Five trainings of one student from ImageNet weights on the first photos of OSIE's training part, scored on its
validation part. Small: the scale stands in the table's note. A run that was interrupted continues.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import ROOT, publish
from service.settings import Settings
from service.supernets import find_supernet
from supernet.checkpoint import file_fingerprint
from supernet.data.cache import TrainingCache
from supernet.data.registry import open_dataset
from supernet.evaluate import build_evaluation_set, evaluate_net
from supernet.finetune import FinetuneConfig, finetune
from supernet.network import SaliencyNet
from supernet.processor import chosen_precision
from supernet.pseudo_labels import mixed, taught
from supernet.workshop import Job, settle, starting_net, subnet_of, training_photos

VARIANTS = ((0, "teacher"), (1, "teacher"), (0, "truth"), (0, "both"), (1, "both"))
"""Rows of the paper's table: with hints or not, and what the maps are learned from."""
PAPER = {
    (0, "teacher"): (1.7749, 0.8603),
    (1, "teacher"): (1.7789, 0.8604),
    (0, "truth"): (1.7861, 0.8604),
    (0, "both"): (1.8004, 0.8697),
    (1, "both"): (1.8129, 0.8717),
}
"""(NSS, CC) of FastSal (C) taught by SalGAN on SALICON 2017 validation."""


def main() -> None:
    """Train, score and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="fastsal-a", help="fastsal-a, or the slower fastsal-c")
    parser.add_argument("--teacher", default="max", help="subnet of the default supernet")
    parser.add_argument("--photos", type=int, default=200, help="training photos")
    parser.add_argument("--epochs", type=int, default=4, help="passes that learn maps")
    parser.add_argument("--hint-epochs", type=int, default=2, help="passes before them that match features")
    parser.add_argument("--resolution", type=int, nargs=2, default=(128, 160), help="height and width")
    parser.add_argument("--limit", type=int, help="validation photos; all by default")
    parser.add_argument("--fresh", action="store_true", help="forget trainings that were interrupted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings.from_environment()
    supernet = find_supernet(settings.results, settings.supernet).path
    folder = ROOT / "var" / "bench-distill" / f"{file_fingerprint(supernet)}-{options.student}"
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    height, width = options.resolution
    job = Job(
        options.student,
        folder / "student.safetensors",
        start="imagenet",
        limit=options.photos,
        resolution=(height, width),
    )
    teacher = subnet_of(supernet, options.teacher)
    truth, _ = training_photos(job, starting_net(job)[0])
    assert isinstance(truth, TrainingCache)
    from_teacher = taught(teacher, truth)
    photos = build_evaluation_set(
        open_dataset("osie", split="val"), options.limit, resolutions=[(height, width), teacher.resolution]
    )
    rows = []
    for hint, targets in VARIANTS:
        torch.manual_seed(0)
        net, pretrained = starting_net(job)
        settle(net, truth)
        training = {"truth": truth, "teacher": from_teacher, "both": mixed(truth, from_teacher)}[targets]
        config = FinetuneConfig(
            epochs=options.epochs,
            hint_epochs=hint * options.hint_epochs,
            loss="binary",
            optimizer="adam",
            learning_rate=1e-3,
            precision=chosen_precision("auto"),
            threads=1,
        )
        state = folder / f"{hint}-{targets}-{options.photos}-{height}x{width}.state"
        history = finetune(net, training, config, teacher=teacher, pretrained=pretrained, state=state)
        scores = evaluate_net(net, photos).to_json()
        rows.append(_row(hint, targets, scores, sum(r.seconds for r in history)))
        print(rows[-1], flush=True)
    rows.append(_teacher_row(teacher, photos))
    note = (
        f"Student: {options.student} from ImageNet weights at {width}x{height}, {options.photos} photos, "
        f"{options.epochs} epochs of maps ({options.hint_epochs} of hints before them), Adam, one seed. Teacher: "
        f"{options.teacher} of {settings.supernet}. Scores: OSIE validation, {len(photos)} photos. The paper's "
        "figures (FastSal C, SalGAN, SALICON 2017) stand beside for the order of the rows. Rows with "
        "hints had that many epochs more. At this scale and with one seed, differences of about 0.01 CC mean nothing."
    )
    publish(
        "distill",
        "Distillation, as in FastSal's Table V",
        pd.DataFrame(rows),
        command=" ".join(["python benchmarks/bench_distill.py", *sys.argv[1:]]),
        note=note,
    )


def _row(hint: int, targets: str, scores: dict[str, Any], seconds: float) -> dict[str, Any]:
    nss, cc = PAPER[hint, targets]
    return {
        "hints": "yes" if hint else "no",
        "teacher": "no" if targets == "truth" else "yes",
        "truth": "no" if targets == "teacher" else "yes",
        "CC": scores["cc"],
        "NSS": scores["nss"],
        "seconds": seconds,
        "paper CC": cc,
        "paper NSS": nss,
    }


def _teacher_row(teacher: SaliencyNet, photos: Any) -> dict[str, Any]:
    nan = float("nan")
    scores = evaluate_net(teacher, photos).to_json()
    row = {"hints": "–", "teacher": "itself", "truth": "–", "CC": scores["cc"], "NSS": scores["nss"]}
    return row | {"seconds": nan, "paper CC": nan, "paper NSS": nan}


if __name__ == "__main__":
    main()
