"""The tables of the SalNAS paper about training, each variant with several seeds, next to the reported figures.

Self-KD against its rivals (Table 6), its α, combinations of losses (Table 4), warm restarts (Table 3), and transfer
to another set (Tables 7 and 8). Two scales: `gpu` trains the space salnas as published; `cpu` trains a tiny space on
a few photographs for minutes, which shows that everything runs and how far seeds spread, and decides nothing.

Every training is kept as soon as it is done; the same command again continues, and `--seconds` ends it early.
Validation photos are scored once at the end of a training and select nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import OUT, ROOT, publish
from supernet.calibrate import recalibrate
from supernet.checkpoint import load_supernet
from supernet.data.cache import batches
from supernet.data.folder import write_folder
from supernet.data.registry import data_root, open_dataset
from supernet.data.sample import Dataset, Sample
from supernet.evaluate import MAP_SIZE, build_evaluation_set, evaluate_net
from supernet.files import write_atomic
from supernet.losses import LOSSES
from supernet.network import extract
from supernet.processor import chosen_precision
from supernet.teacher import DISTILLATIONS
from supernet.train import train
from supernet.train_config import TrainConfig
from supernet.train_data import load_training_data

SMALL = 160
"""Longest side of the photos of the small sets."""
METRICS = ("cc", "kld", "nss", "sim", "auc")
SETS = ("osie", "mit1003", "dut_omron", "crowd")
"""Sets that are at hand; the paper's Tables 7 and 8 have the first three."""
REPORTED = {
    ("Self-KD and rivals", "none"): 0.9087,
    ("Self-KD and rivals", "pkd"): 0.9090,
    ("Self-KD and rivals", "ps-kd"): 0.9088,
    ("Self-KD and rivals", "self-kd"): 0.9117,
    ("loss", "cc+kld"): 0.9080,
    ("loss", "cc+kld+sim"): 0.9083,
    ("loss", "cc+kld+nss"): 0.9079,
    ("loss", "cc+kld+auc"): 0.9082,
    ("restarts", "10 epochs, T0 10"): 0.9080,
    ("restarts", "20 epochs, T0 20"): 0.9067,
    ("restarts", "30 epochs, T0 30"): 0.9073,
    ("restarts", "20 epochs, T0 10"): 0.9082,
    ("restarts", "30 epochs, T0 15"): 0.9078,
    ("restarts", "30 epochs, T0 10"): 0.9082,
    ("transfer", "osie, after another set"): 0.852,
    ("transfer", "mit1003, after another set"): 0.794,
    ("transfer", "dut_omron, after another set"): 0.796,
}
"""CC of the largest subnet in the paper: on SALICON's validation photos, for transfer on the set that is named."""


@dataclass(frozen=True)
class Scale:
    """How large the trainings are. `unit` is what the paper's ten epochs are here."""

    base: TrainConfig
    unit: int
    sets: dict[str, str]
    map_size: tuple[int, int]


@dataclass(frozen=True)
class Variant:
    """A row of a table; `after` is a training whose supernet this one starts from."""

    table: str
    name: str
    config: TrainConfig
    after: TrainConfig | None = None


def scale_of(name: str, device: str, weights: Path | None, work: Path) -> Scale:
    """The settings of a scale."""
    if name == "gpu":
        base = TrainConfig(
            data=("salicon",) if (data_root() / "salicon").is_dir() else ("osie",),
            warm_start=weights,
            epochs=20,
            full_resolution_epochs=20,
            frozen_epochs=0,
            batch_size=64,
            learning_rate=0.1,
            schedule="restarts",
            restart_epochs=10,
            precision=chosen_precision("auto", device),
            statistics_subnets=8,
            execution="masked",
            device=device,
        )
        return Scale(base, 10, {name: name for name in SETS}, MAP_SIZE)
    small = {name: str(small_set(name, work)) for name in SETS}
    base = TrainConfig(
        data=(small["osie"],),
        space="tiny",
        epochs=2,
        full_resolution_epochs=2,
        frozen_epochs=0,
        batch_size=8,
        random_subnets=0,
        held_out=16,
        schedule="restarts",
        restart_epochs=1,
        statistics_subnets=1,
        threads=1,
        device=device,
    )
    return Scale(base, 1, small, (96, 96))


def small_set(name: str, work: Path, photos: int = 120) -> Path:
    """The first training photos of a set, small, as a folder of their own; four of five of them train."""
    folder = work / "data" / name
    if not folder.is_dir():
        dataset = open_dataset(name, split="train")
        aside = folder.with_name(f".{name}")
        write_folder(Part(dataset, photos), aside)
        aside.rename(folder)
    return folder


@dataclass(frozen=True)
class Part:
    """The first photos of a set, made small."""

    whole: Dataset
    photos: int

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def split(self) -> str:
        return self.whole.split

    @property
    def names(self) -> tuple[str, ...]:
        return self.whole.names[: self.photos]

    def __len__(self) -> int:
        return self.photos

    def __getitem__(self, index: int, /) -> Sample:
        sample = self.whole[index]
        image = Image.fromarray(sample.image)
        image.thumbnail((SMALL, SMALL))
        points, density = sample.fixations, sample.density
        if points is not None:
            points = points * np.float32(image.width / sample.size[1])
        if density is not None:
            density = np.asarray(Image.fromarray(density).resize(image.size, Image.Resampling.BOX))
        return replace(sample, image=np.asarray(image), fixations=points, density=density)

    def fingerprint(self) -> str:
        return self.whole.fingerprint()


def variants(scale: Scale) -> Iterator[Variant]:
    """All rows, without seeds."""
    base = scale.base
    for name in DISTILLATIONS:
        yield Variant("Self-KD and rivals", name, replace(base, distillation=name))
    for name in LOSSES:
        yield Variant("loss", name, replace(base, loss=name))
    for alpha in np.arange(1, 10) / 10:
        config = replace(base, distillation="self-kd", alpha=float(alpha))
        yield Variant("α of Self-KD", f"{alpha:.1f}", config)
    for epochs, first in ((10, 10), (20, 20), (30, 30), (20, 10), (30, 15), (30, 10)):
        config = replace(
            base, epochs=epochs * scale.unit // 10, restart_epochs=max(1, first * scale.unit // 10)
        )
        config = replace(config, full_resolution_epochs=config.epochs)
        yield Variant("restarts", f"{epochs} epochs, T0 {first}", config)
    for name in SETS:
        before = replace(base, data=(scale.sets["osie" if name == "crowd" else "crowd"],))
        target = replace(base, data=(scale.sets[name],))
        yield Variant("transfer", f"{name} alone", target)
        further = replace(target, warm_start=None, start_from=Path("after"))
        yield Variant("transfer", f"{name}, after another set", further, before)


def run(variant: Variant, seed: int, scale: Scale, work: Path) -> dict[str, float]:
    """Train and score one variant, or read what was found before."""
    config = replace(variant.config, seed=seed)
    if variant.after is not None:
        first = _trained(replace(variant.after, seed=seed), work)
        config = replace(config, start_from=first)
    kept = _place(config, work).with_suffix(".json")
    if kept.is_file():
        found: dict[str, float] = json.loads(kept.read_text())
        return found
    is_new = not _place(config, work).is_file()
    started = time.monotonic()
    checkpoint = _trained(config, work)
    # Trained before as the start of another: how long it took was not kept.
    seconds = time.monotonic() - started if is_new else float("nan")
    supernet, _ = load_supernet(checkpoint)
    source, _ = load_training_data(config)
    photos = [batch.images for _, batch in zip(range(4), batches(source, 16, augment=False), strict=False)]
    net = recalibrate(extract(supernet, supernet.space.largest()), photos).to(config.device)
    dataset = open_dataset(config.data[0], split="val")
    truth = build_evaluation_set(
        dataset, resolutions=[supernet.space.largest().resolution], map_size=scale.map_size
    )
    scores = evaluate_net(net, truth)
    found = {name: getattr(scores, name) for name in METRICS} | {"seconds": seconds}
    write_atomic(kept, json.dumps(found))
    return found


def _trained(config: TrainConfig, work: Path) -> Path:
    out = _place(config, work)
    return out if out.is_file() else train(replace(config, out=out))


def _place(config: TrainConfig, work: Path) -> Path:
    """Named after the settings that differ from the defaults, so that new settings change no name."""
    plain = {field.name: getattr(TrainConfig(), field.name) for field in fields(config)}
    own = {name: getattr(config, name) for name in plain if name not in ("out", "threads", "device")}
    settings = {name: value for name, value in own.items() if value != plain[name]}
    if config.start_from:
        settings["start_from"] = config.start_from.stem
    return work / f"{hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}.safetensors"


def table_of(found: dict[tuple[str, str], list[dict[str, float]]]) -> pd.DataFrame:
    """One line a variant: mean CC, its spread over seeds, other metrics, the reported CC."""
    rows: list[dict[str, Any]] = []
    for (table, name), runs in found.items():
        values = {metric: np.array([run[metric] for run in runs]) for metric in (*METRICS, "seconds")}
        row: dict[str, Any] = {"table": table, "variant": name, "seeds": len(runs), "CC": values["cc"].mean()}
        row["± CC"] = float(values["cc"].std(ddof=1)) if len(runs) > 1 else float("nan")
        row |= {metric.upper(): float(values[metric].mean()) for metric in METRICS[1:]}
        row["reported CC"] = REPORTED.get((table, name), float("nan"))
        row["seconds"] = float(values["seconds"].mean())
        rows.append(row)
    return pd.DataFrame(rows)


def plot_alpha(frame: pd.DataFrame, path: Path) -> None:
    """CC over α with the spread over seeds."""
    from matplotlib import pyplot

    part = frame[frame["table"] == "α of Self-KD"]
    rivals = frame[frame["table"] == "Self-KD and rivals"].set_index("variant")
    figure, axes = pyplot.subplots(figsize=(6, 3.4), layout="constrained")
    axes.errorbar(
        part["variant"].astype(float), part["CC"], yerr=part["± CC"], fmt="o-", capsize=3, label="Self-KD"
    )
    for number, name in enumerate(
        name for name in ("none", "ps-kd", "pkd", "in-place") if name in rivals.index
    ):
        axes.axhline(float(rivals["CC"].to_dict()[name]), ls="--", lw=1, color=f"C{number + 1}", label=name)
    axes.set(xlabel="α, the share of the truth", ylabel="CC of the largest subnet, validation")
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Train what is missing, then publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, help="MobileNetV2, for --scale gpu.")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="Begin no training after so many."
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "paper")
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.scale == "cpu" else torch.get_num_threads())
    work = arguments.work / arguments.scale
    scale = scale_of(arguments.scale, arguments.device, arguments.weights, work)
    started = time.monotonic()
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    left_out = 0
    for variant in variants(scale):
        for seed in range(arguments.seeds):
            if time.monotonic() - started > arguments.seconds:
                left_out += 1
                continue
            done = found.setdefault((variant.table, variant.name), [])
            done.append(run(variant, seed, scale, work))
            print(f"{variant.table}: {variant.name}, seed {seed}, CC {done[-1]['cc']:.4f}", flush=True)
    frame = table_of({key: runs for key, runs in found.items() if runs})
    base = scale.base
    note = (
        f"Space {base.space}, {base.epochs} epochs where nothing else is said, batch {base.batch_size}, data "
        f"{Path(base.data[0]).name}; T0 and epochs of the restarts are the paper's times {scale.unit / 10:g}. "
        "Reported are figures of the space salnas on SALICON from ImageNet weights, for transfer on the named set "
        "after SALICON; here the other set is crowd, and for crowd osie."
    )
    if arguments.scale == "cpu":
        note += (
            " At this scale (a tiny space, no random subnets, 80 photographs of 64x64, random weights, twenty"
            " updates, maps compared at 96x96) the figures show that every variant trains and how far seeds spread."
            " They say nothing about the paper: differences below twice the spread are noise, and CC is far from"
            " where distillation could matter. `make paper PAPER_ARGS='--scale gpu --device cuda'` trains the"
            " published settings."
        )
    if left_out:
        note += f" {left_out} trainings are left: the same command goes on with them."
    publish(
        f"paper-{arguments.scale}",
        f"The paper's tables about training, scale {arguments.scale}",
        frame,
        command=f"python benchmarks/paper.py --scale {arguments.scale} --seeds {arguments.seeds}",
        note=note,
    )
    if (frame["table"] == "α of Self-KD").any():
        plot_alpha(frame, OUT / f"paper-{arguments.scale}-alpha.png")


if __name__ == "__main__":
    main()
