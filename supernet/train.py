"""Training of a supernet with the sandwich rule.

Every step runs the largest subnet, the smallest one and some random ones on the same photos and sums their
gradients (SalNAS paper, section 3). What they learn from besides the truth is a choice of `supernet.teacher`. Part
of the training split is held out: it selects and is reported during training; validation photos are not touched.
The state is saved whole after each epoch, and a resumed run continues to the same result.

Batches are (B, 3, H, W) at the largest resolution of the space and brought down to that of each subnet.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from supernet.average import average_supernets
from supernet.calibrate import MeasuredStatistics, fit_statistics, measure_statistics, on_more_photos
from supernet.checkpoint import file_fingerprint, load_supernet, read_tensors, save_supernet, write_tensors
from supernet.data.cache import SMALLEST_CROP, Mixture, TrainingCache, batches, build_cache, mix
from supernet.data.registry import open_dataset
from supernet.data.sample import Dataset
from supernet.errors import CheckpointError, SettingsError
from supernet.files import write_atomic
from supernet.foreign import import_public
from supernet.images import resize_maps, resize_photos
from supernet.losses import LOSSES, cc_loss, kld_loss, nss_loss, saliency_loss
from supernet.masked import masked_forward
from supernet.monitor import Board, EnergyMeter
from supernet.network import DROP_RATE, Supernet
from supernet.processor import kept_memory, training_threads
from supernet.pseudo_labels import mixed, supernet_labels
from supernet.sampling import covering_rows
from supernet.settings_checks import require_at_least, require_choices, require_crop, require_learning_rate
from supernet.space import Arch, Rows, get_space
from supernet.teacher import DISTILLATIONS, Teacher, as_target, make_teacher, teacher_photos
from supernet.temperature import fit_temperature
from supernet.training_state import optimizer_tensors, part, restore_optimizer
from supernet.warmstart import begin_with_truths, load_source, warm_start

WARM_UP_STEPS = 20
CLIP = 1.0
"""Largest gradient of a single weight."""

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "precision": ("fp32", "bf16"),
    "loss": tuple(LOSSES),
    "distillation": DISTILLATIONS,
    "schedule": ("cosine", "restarts"),
    "execution": ("sliced", "masked"),
}
"""Settings that are one of some names."""

_FILES = ("warm_start", "start_from", "teacher")
"""Settings that are paths, of which a checkpoint tells the name alone."""

_MORE_PHOTOS = 6
"""Times as many photos some subnets are measured on, to correct the statistics of all."""

_ONE_OF = 15
"""Of so many subnets one is."""

_TEMPERED = 14
"""Subnets that the temperature of all is fitted to."""

_OBSERVERS = ("tensorboard", "energy_country")
"""Settings that a result does not depend on."""


@dataclass(frozen=True)
class TrainConfig:
    """How a supernet is trained; refuses nonsense when built (SettingsError).

    data: names or folders of data sets, mixed where there are several.
    data_weights: the share of each set in an epoch, which need not sum to 1; equal where empty.
    epoch_photos: how many photos an epoch is, drawn anew for each; as many as there are where None.
    out: the checkpoint, `….safetensors`; the state, a card and the history are written beside it.
    warm_start: path of MobileNetV2 weights, or None for random weights.
    start_from: a supernet to train further, instead of a warm start.
    full_resolution_epochs: the last epochs, in which every subnet sees photos of its own resolution; before
        them all see the smallest one, which costs less than half.
    smallest_crop: the least share of a photo's area that augmentation leaves; 1 leaves photos whole.
    encoder_rate: learning rate of the encoder relative to the decoder, which starts from random weights.
    loss: what is minimised, a combination of `losses.LOSSES`.
    distillation: what subnets learn from, one of `teacher.DISTILLATIONS`.
    alpha: the share of the truth in the targets of self-kd and of a `teacher`, from 0 (the teacher alone) to 1.
    teacher: a trained supernet, whose largest subnet says what training photos yield (`pseudo_labels`), mixed with
        the truth, or None for the truth alone.
    schedule: the learning rate in "cosine", one with a linear warm-up, or "restarts", cosines of `restart_epochs`
        one after the other, set once an epoch, as published.
    accumulate: batches whose gradients are averaged for one update.
    tensorboard: folder for the scalars of TensorBoard, which needs the package tensorboard.
    energy_country: ISO code of three letters; with it the energy is measured, which needs the package codecarbon.
    largest_every: the largest subnet, which costs as much as all others of a step, takes part in every so many.
    optimizer: "sgd" with momentum, as published, or "adamw".
    execution: "sliced" computes a subnet at its own size; "masked" at the size of the largest (`supernet.masked`),
        which meets few shapes and suits a GPU.
    precision: "fp32", or "bf16" for the matrix products of forward and backward passes.
    frozen_epochs: the last epochs, in which batch norms use the statistics that are fitted before them and
        shipped: the weights learn to live with what a linear function of the genes cannot foresee.
    held_out: photos at the end of the training split that select instead of train.
    statistics_subnets, statistics_photos: what batch-norm statistics are fitted on at the end.
    """

    data: tuple[str, ...] = ("osie",)
    data_weights: tuple[float, ...] = ()
    epoch_photos: int | None = None
    space: str = "salnas"
    out: Path = Path("results/supernets/salnas-osie.safetensors")
    warm_start: Path | None = None
    start_from: Path | None = None
    epochs: int = 20
    full_resolution_epochs: int = 5
    frozen_epochs: int = 2
    batch_size: int = 16
    smallest_crop: float = SMALLEST_CROP
    random_subnets: int = 2
    largest_every: int = 1
    loss: str = "cc+kld+nss"
    distillation: str = "none"
    alpha: float = 0.5
    teacher: Path | None = None
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    schedule: str = "cosine"
    restart_epochs: int = 10
    accumulate: int = 1
    execution: str = "sliced"
    precision: str = "fp32"
    encoder_rate: float = 0.3
    weight_decay: float = 1e-5
    held_out: int = 80
    statistics_subnets: int = 720
    statistics_photos: int = 48
    seed: int = 0
    threads: int = field(default_factory=torch.get_num_threads)
    device: str = "cpu"
    tensorboard: Path | None = None
    energy_country: str | None = None

    def __post_init__(self) -> None:
        get_space(self.space)
        if not self.data:
            raise SettingsError("No data to train on.", field="data", remedy="Name a data set, such as osie.")
        if Path(self.out).suffix != ".safetensors":
            raise SettingsError(
                f"The checkpoint {self.out} must end in .safetensors.",
                field="out",
                value=str(self.out),
                remedy="Name it so.",
            )
        limits = {
            "epochs": 1,
            "full_resolution_epochs": 0,
            "frozen_epochs": 0,
            "batch_size": 2,
            "random_subnets": 0,
            "largest_every": 1,
            "restart_epochs": 1,
            "accumulate": 1,
            "held_out": 1,
            "statistics_subnets": 1,
            "statistics_photos": 2,
            "seed": 0,
            "threads": 1,
        }
        require_at_least(self, limits)
        if self.epoch_photos is not None and self.epoch_photos < self.batch_size:
            raise SettingsError(
                f"An epoch of {self.epoch_photos} photos is less than a batch of {self.batch_size}.",
                field="epoch_photos",
                value=self.epoch_photos,
                remedy="Make epochs longer, or batches smaller.",
            )
        if self.data_weights and len(self.data_weights) != len(self.data):
            raise SettingsError(
                f"{len(self.data_weights)} weights are given for {len(self.data)} data sets.",
                field="data_weights",
                value=self.data_weights,
                remedy="Give one weight for each set, or none.",
            )
        if self.warm_start and self.start_from:
            raise SettingsError(
                "A run starts from a supernet or from a warm start, not from both.",
                field="start_from",
                value=str(self.start_from),
                remedy="Leave --warm-start out to train that supernet further.",
            )
        require_choices(self, CHOICES)
        if not 0 <= self.alpha <= 1:
            raise SettingsError(
                f"alpha is {self.alpha}.",
                field="alpha",
                value=self.alpha,
                remedy="It is a share from 0 to 1, such as 0.5.",
            )
        if self.teacher and self.distillation != "none":
            raise SettingsError(
                f"The supernet {self.teacher} teaches, and {self.distillation} would too.",
                field="distillation",
                value=self.distillation,
                remedy="Leave --distillation or --teacher out.",
            )
        if self.distillation == "in-place" and self.largest_every > 1:
            raise SettingsError(
                "In-place distillation needs the largest subnet in every step.",
                field="largest_every",
                value=self.largest_every,
                remedy="Leave --largest-every out.",
            )
        if self.energy_country is not None and not re.fullmatch("[A-Z]{3}", self.energy_country):
            raise SettingsError(
                f"energy_country is {self.energy_country!r}.",
                field="energy_country",
                value=self.energy_country,
                remedy="Give an ISO code of three letters, such as THA.",
            )
        require_learning_rate(self.learning_rate)
        require_crop(self.smallest_crop)


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did: mean training loss, and held-out scores of the smallest and the largest subnet.

    Held-out scores use batch statistics before the frozen epochs and the smallest resolution before the
    full-resolution epochs. `energy_kwh` is None where it was not measured.
    """

    epoch: int
    seconds: float
    learning_rate: float
    loss: float
    smallest_cc: float
    largest_cc: float
    smallest_loss: float
    largest_loss: float
    energy_kwh: float | None = None


Progress = Callable[[str, int, int], None]
"""Called with what is going on, steps done, steps in all."""


@dataclass
class _Run:
    """A training run between two epochs: everything that a saved state restores."""

    supernet: Supernet
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    history: list[EpochReport]
    teacher: Teacher


def train(config: TrainConfig, *, progress: Progress = lambda *_: None, resume: bool = True) -> Path:
    """Train a supernet as `config` says and return the path of its checkpoint.

    Continues from the state beside `config.out` where there is one of the same configuration and `resume`.
    """
    with training_threads(config.threads), kept_memory:
        return _train(config, progress, resume)


def _train(config: TrainConfig, progress: Progress, resume: bool) -> Path:
    started = time.time()
    board, meter = Board(config.tensorboard), EnergyMeter(config.energy_country)
    training, held_out = load_training_data(config, progress)
    identity = _identity(config)
    resumes = resume and _state_path(config).exists()
    run = _load_state(config, identity) if resumes else _start(config, training)
    steps = len(training) // config.batch_size
    for epoch in range(len(run.history), config.epochs):
        if epoch == config.epochs - config.frozen_epochs:
            fit_shipped_statistics(run.supernet, training, config, progress)
        meter.start()
        report = _epoch(config, run, training, held_out, epoch, steps, progress)
        report = replace(report, energy_kwh=meter.stop())
        run.history.append(report)
        run.teacher.end_epoch(run.supernet, report.largest_loss)
        _save_state(config, run, identity)
        board.add({k: v for k, v in asdict(report).items() if k != "epoch" and v is not None}, epoch + 1)
    board.close()
    meter.close()
    if not config.frozen_epochs:
        fit_shipped_statistics(run.supernet, training, config, progress)
    found = fit_shipped_temperature(run.supernet, held_out, config, progress)
    about = provenance(config, run.history, training, time.time() - started)
    save_supernet(config.out, run.supernet, {**about, "temperature": found})
    return config.out


def load_training_data(
    config: TrainConfig, progress: Progress = lambda *_: None
) -> tuple[Any, TrainingCache]:
    """The source of training batches, and the held-out end of the first set's training split, with its truths."""
    space = get_space(config.space)
    image_size = max(space.resolutions)
    map_size = (image_size[0] // 3, image_size[1] // 3)  # divides both published resolutions
    datasets = [open_dataset(name, split="train") for name in config.data]
    caches = [build_cache(dataset, image_size, map_size) for dataset in datasets]
    first = caches[0]
    kept = len(first) - config.held_out
    if kept < config.batch_size:
        raise SettingsError(
            f"Of {len(first)} photos, {config.held_out} are held out: too few are left for a batch.",
            field="held_out",
            value=config.held_out,
            remedy="Hold out fewer photos, or make batches smaller.",
        )
    if config.teacher:
        caches = [_with_labels(config, *pair, progress) for pair in zip(datasets, caches, strict=True)]
    caches[0] = caches[0].part(0, kept)
    weights = config.data_weights or [1.0] * len(caches)
    is_mixed = len(caches) > 1 or config.epoch_photos
    source = mix(caches, weights, config.epoch_photos) if is_mixed else caches[0]
    return source, first.part(kept, len(first))


def _with_labels(
    config: TrainConfig, dataset: Dataset, photos: TrainingCache, progress: Progress
) -> TrainingCache:
    assert config.teacher is not None
    labels = supernet_labels(
        config.teacher,
        dataset,
        photos,
        precision=config.precision,
        device=config.device,
        progress=progress,
    )
    return mixed(photos, labels, config.alpha)


def provenance(
    config: TrainConfig, history: list[EpochReport], training: Any, seconds: float
) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    for name in _FILES:
        settings[name] = getattr(config, name).name if getattr(config, name) else None
    settings["out"] = config.out.name
    return {
        "config": settings,
        "command": command_of(config),
        "training_photos": len(training.epoch(None)),
        "held_out": asdict(history[-1]) if history else None,
        "seconds": round(sum(report.seconds for report in history), 1),
        "energy_kwh": energy_of(history),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "torch": torch.__version__,
    }


def energy_of(history: list[EpochReport]) -> float | None:
    """Kilowatt-hours of all epochs, or None where one of them was not measured."""
    taken = [report.energy_kwh for report in history if report.energy_kwh is not None]
    return round(sum(taken), 6) if taken and len(taken) == len(history) else None


def command_of(config: TrainConfig) -> str:
    """The command line that trains with `config`."""
    words = ["salnas train", *(f"--data {name}" for name in config.data)]
    words += [f"--data-weight {weight:g}" for weight in config.data_weights]
    defaults = TrainConfig()
    for name in (
        "space",
        "epoch_photos",
        "epochs",
        "full_resolution_epochs",
        "frozen_epochs",
        "batch_size",
        "random_subnets",
        "largest_every",
        "loss",
        "distillation",
        "alpha",
        "optimizer",
        "learning_rate",
        "schedule",
        "restart_epochs",
        "accumulate",
        "execution",
        "precision",
        "statistics_subnets",
        "seed",
    ):
        if getattr(config, name) != getattr(defaults, name):
            words.append(f"--{name.replace('_', '-')} {getattr(config, name)}")
    for name in _FILES:
        if path := getattr(config, name):
            words.append(f"--{name.replace('_', '-')} {path.name}")
    return " ".join(words)


def _start(config: TrainConfig, training: Any) -> _Run:
    torch.manual_seed(config.seed)
    if config.start_from:
        supernet, _ = load_supernet(config.start_from)
        if supernet.space.name != config.space:
            raise SettingsError(
                f"{config.start_from} holds the space {supernet.space.name}, not {config.space}.",
                field="start_from",
                value=str(config.start_from),
                remedy=f"Pass --space {supernet.space.name}.",
            )
        return _assemble(config, supernet)
    supernet = Supernet(get_space(config.space))
    if config.warm_start:
        warm_start(supernet, load_source(config.warm_start), torch.cat(plain_photos(training, 64, config)))
    begin_with_truths(supernet.weights, training)
    return _assemble(config, supernet)


def _assemble(config: TrainConfig, supernet: Supernet) -> _Run:
    supernet = supernet.to(config.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in supernet.named_parameters():
        new = name.startswith("weights.decoder.") or not (config.warm_start or config.start_from)
        factor = 1.0 if new else config.encoder_rate
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    parameters = [
        {"params": p, "factor": factor, "weight_decay": decay} for (factor, decay), p in groups.items()
    ]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate)
    else:
        optimizer = torch.optim.SGD(parameters, lr=config.learning_rate, momentum=0.9, nesterov=True)
    teacher = make_teacher(
        config.distillation,
        supernet,
        optimizer,
        alpha=config.alpha,
        epochs=config.epochs,
        clip=CLIP,
        loss=config.loss,
    )
    return _Run(supernet, optimizer, np.random.default_rng(config.seed), [], teacher)


def plain_photos(training: Any, count: int, config: TrainConfig) -> list[Tensor]:
    """`count` training photos without augmentation, in batches, as large as they are trained on.

    Of several data sets they are drawn in the shares that an epoch has: a supernet that was trained on all of them
    does not fit the statistics of one.
    """
    drawn = None
    if isinstance(training, Mixture):
        drawn, training = np.random.default_rng(config.seed), replace(training, length=count)
    found: list[Tensor] = []
    for batch in batches(training, min(16, count), drawn, augment=False, device=config.device):
        found.append(batch.images)
        if sum(len(photos) for photos in found) >= count:
            break
    return found


def fit_shipped_statistics(
    supernet: Supernet, training: Any, config: TrainConfig, progress: Progress = lambda *_: None
) -> None:
    """Fit the statistics to `statistics_subnets` that cover the space, the smallest and the largest among them.

    All are measured on `statistics_photos`; the first of them, on more, tell what few photos are like.
    """
    count, photos = max(config.statistics_subnets, 2), config.statistics_photos
    rows = covering_rows(supernet.space, np.random.default_rng(config.seed), count)
    first = rows[: max(len(rows) // _ONE_OF, 2)]
    work = len(rows) + _MORE_PHOTOS * len(first)

    def measure(some: Rows, photos: int, before: int, each: int) -> MeasuredStatistics:
        return measure_statistics(
            supernet,
            plain_photos(training, photos, config),
            some,
            lambda done, _: progress("statistics", before + each * done, work),
            precision=config.precision,
        )

    few = measure(rows, photos, 0, 1)
    more = measure(first, _MORE_PHOTOS * photos, len(rows), _MORE_PHOTOS)
    fit_statistics(supernet, on_more_photos(supernet, few, more))


def fit_shipped_temperature(
    supernet: Supernet, held_out: TrainingCache, config: TrainConfig, progress: Progress = lambda *_: None
) -> float:
    """`fit_temperature` over some subnets that cover the space, on the photos that training holds out."""
    rows = covering_rows(supernet.space, np.random.default_rng(config.seed), _TEMPERED)
    return fit_temperature(
        supernet, rows, held_out, config.loss, lambda done, total: progress("temperature", done, total)
    )


def refit_statistics(
    paths: Sequence[Path],
    out: Path,
    data: Sequence[str] = ("osie",),
    *,
    data_weights: Sequence[float] = (),
    shares: Sequence[float] = (1.0,),
    subnets: int = TrainConfig.statistics_subnets,
    photos: int = TrainConfig.statistics_photos,
    seed: int = 0,
    precision: str = "fp32",
    progress: Progress = lambda *_: None,
) -> Path:
    """Write the supernet at `paths` with statistics that are fitted anew on training photos of `data`,
    in the shares `data_weights`, and with a temperature fitted on those held out, to `out`.

    One supernet keeps its weights; of several the weights are averaged, with `shares`. The photos that the training
    of the first held out are held out again. Raises CheckpointError, DataError and SettingsError.
    """
    alone = len(paths) == 1 and list(shares) == [1.0]
    supernet, origin = load_supernet(paths[0]) if alone else average_supernets(paths, shares)
    held_out = origin.get("config", {}).get("held_out", TrainConfig.held_out)
    config = TrainConfig(
        data=tuple(data),
        data_weights=tuple(data_weights),
        space=supernet.space.name,
        held_out=held_out,
        batch_size=2,
        statistics_subnets=subnets,
        statistics_photos=photos,
        seed=seed,
        precision=precision,
        out=out,
    )
    training, held_out = load_training_data(config)
    fit_shipped_statistics(supernet, training, config, progress)
    fitted = {
        "temperature": fit_shipped_temperature(supernet, held_out, config, progress),
        "data": list(data),
        "data_weights": list(data_weights),
        "subnets": subnets,
        "photos": photos,
        "more_photos": _MORE_PHOTOS * photos,
        "precision": precision,
        "seed": seed,
    }
    save_supernet(out, supernet, {**origin, "statistics": fitted})
    return out


def import_checkpoint(
    path: Path, out: Path, data: str = "osie", *, subnets: int = 96, seed: int = 0
) -> tuple[Path, bool]:
    """A public AlphaNet or SalNAS checkpoint as a supernet of ours at `out`, and whether it has a decoder.

    Its batch-norm statistics are fitted on training photos of `data`. Raises CheckpointError and DataError.
    """
    torch.manual_seed(seed)
    supernet, with_decoder = import_public(path, get_space("salnas"))
    config = TrainConfig(data=(data,), held_out=1, statistics_subnets=subnets, seed=seed, out=out)
    training, _ = load_training_data(config)
    fit_shipped_statistics(supernet, training, config)
    origin = "SalNAS" if with_decoder else "AlphaNet, its decoder random"
    save_supernet(out, supernet, {"imported": path.name, "origin": origin, "statistics_from": data})
    return out, with_decoder


def _epoch(
    config: TrainConfig,
    run: _Run,
    training: Any,
    held_out: TrainingCache,
    epoch: int,
    steps: int,
    progress: Progress,
) -> EpochReport:
    started = time.time()
    space = run.supernet.space
    full = epoch >= config.epochs - config.full_resolution_epochs
    frozen = epoch >= config.epochs - config.frozen_epochs
    losses = []
    run.supernet.train(not frozen)
    stream = batches(
        training,
        config.batch_size,
        run.rng,
        smallest_crop=config.smallest_crop,
        drop_last=True,
        device=config.device,
    )
    for step, (photos, maps, counts) in enumerate(stream):
        rate = learning_rate(config, epoch * steps + step, config.epochs * steps)
        if step % config.accumulate == 0:
            run.optimizer.zero_grad()
            # The last group of an epoch may be smaller.
            in_group = min(config.accumulate, steps - step)
        seen = teacher_photos(photos, run.supernet, full_resolution=full)
        run.teacher.learn(seen, maps, counts, rate)
        target = run.teacher.target(seen, maps, epoch)
        with_largest = (epoch * steps + step) % config.largest_every == 0
        for arch, drop_rate in _sandwich(run, config.random_subnets, with_largest):
            size = arch.resolution if full else min(space.resolutions)
            x = resize_photos(photos, size).contiguous(memory_format=torch.channels_last)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                if config.execution == "masked":
                    predicted = masked_forward(run.supernet, x, arch, drop_rate=drop_rate)
                else:
                    predicted = run.supernet(x, arch, drop_rate=drop_rate)
            loss = saliency_loss(predicted, target, counts, config.loss).mean()
            (loss / in_group).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            if config.distillation == "in-place" and arch == space.largest():
                target = as_target(predicted, (maps.shape[1], maps.shape[2]))
        if (step + 1) % config.accumulate == 0 or step + 1 == steps:
            _update(run, rate)
        progress(f"epoch {epoch + 1} of {config.epochs}", epoch * steps + step + 1, config.epochs * steps)
    small, large = (
        held_out_scores(run.supernet, arch, held_out, full_resolution=full, frozen=frozen)
        for arch in (space.smallest(), space.largest())
    )
    return EpochReport(
        epoch + 1,
        time.time() - started,
        rate,
        float(torch.stack(losses).double().mean()),
        small[0],
        large[0],
        small[1],
        large[1],
    )


def _update(run: _Run, rate: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    torch.nn.utils.clip_grad_value_(run.supernet.parameters(), CLIP)
    run.optimizer.step()


def _sandwich(run: _Run, random_subnets: int, with_largest: bool) -> Iterator[tuple[Arch, float]]:
    """Largest (with dropout and drop-connect), random ones, smallest."""
    space = run.supernet.space
    if with_largest:
        yield space.largest(), DROP_RATE
    for row in space.sample(run.rng, random_subnets):
        yield space.decode(row), 0.0
    yield space.smallest(), 0.0


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """At `step` of `steps`: linear warm-up, then one cosine to zero; or cosines that start again, by epochs."""
    if config.schedule == "restarts":
        epoch = step * config.epochs // steps % config.restart_epochs
        return config.learning_rate * 0.5 * float(1 + np.cos(np.pi * epoch / config.restart_epochs))
    cosine = 0.5 * (1 + np.cos(np.pi * step / steps))
    return config.learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS) * float(cosine)


@torch.no_grad()
def held_out_scores(
    supernet: Supernet, arch: Arch, held_out: TrainingCache, *, full_resolution: bool, frozen: bool
) -> tuple[float, float]:
    """(mean CC, mean training loss) of a subnet over held-out photos, with batch or (`frozen`) fitted statistics."""
    supernet.train(not frozen)
    size = arch.resolution if full_resolution else min(supernet.space.resolutions)
    device = next(supernet.parameters()).device
    correlations, losses = [], []
    for photos, maps, counts in batches(held_out, 20, augment=False, device=device):
        x = resize_photos(photos, size).contiguous(memory_format=torch.channels_last)
        predicted = resize_maps(supernet(x, arch), (maps.shape[1], maps.shape[2]))
        cc = cc_loss(predicted, maps)
        correlations.append(1 - cc)
        losses.append(cc + kld_loss(predicted, maps) + nss_loss(predicted, counts))
    return float(torch.cat(correlations).mean()), float(torch.cat(losses).mean())


def _state_path(config: TrainConfig) -> Path:
    return Path(config.out).with_suffix(".state")


def _save_state(config: TrainConfig, run: _Run, identity: str) -> None:
    """Weights, optimizer moments, generators and history, whole or not at all."""
    tensors = {f"supernet.{k}": v for k, v in run.supernet.state_dict().items()}
    tensors |= optimizer_tensors(run.optimizer)
    tensors |= {f"teacher.{k}": v for k, v in run.teacher.tensors().items()}
    tensors["torch_rng"] = torch.get_rng_state()
    if config.device.startswith("cuda"):
        tensors["cuda_rng"] = torch.cuda.get_rng_state(config.device)
    metadata = {
        "config": identity,
        "rng": json.dumps(run.rng.bit_generator.state),
        "history": json.dumps([asdict(report) for report in run.history]),
    }
    # Copies, because a teacher that took over the student's weights may share memory with them.
    write_tensors(_state_path(config), {k: v.detach().cpu().clone() for k, v in tensors.items()}, metadata)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(asdict(run.history[0])))
    writer.writeheader()
    writer.writerows(asdict(report) for report in run.history)
    write_atomic(Path(config.out).with_suffix(".history.csv"), table.getvalue())


def _identity(config: TrainConfig) -> str:
    """Everything that a result depends on, as JSON."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    if config.teacher:
        settings["teacher"] = file_fingerprint(config.teacher)
    return json.dumps({k: v for k, v in settings.items() if k not in _OBSERVERS}, sort_keys=True)


def _load_state(config: TrainConfig, identity: str) -> _Run:
    path = _state_path(config)
    try:
        metadata, tensors = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The training state {path} cannot be read: {error}.",
            field="out",
            value=str(path),
            remedy="Delete it to start again.",
        ) from error
    if metadata.get("config") != identity:
        raise CheckpointError(
            f"The training state {path} belongs to another configuration.",
            field="out",
            value=str(path),
            remedy="Repeat the settings it was started with, delete it, or choose another --out.",
        )
    supernet = Supernet(get_space(config.space))
    supernet.load_state_dict(part(tensors, "supernet."))
    run = _assemble(config, supernet)
    restore_optimizer(run.optimizer, tensors)
    run.teacher.restore(part(tensors, "teacher."))
    run.rng.bit_generator.state = json.loads(metadata["rng"])
    torch.set_rng_state(tensors["torch_rng"])
    if "cuda_rng" in tensors:
        torch.cuda.set_rng_state(tensors["cuda_rng"], config.device)
    run.history.extend(EpochReport(**report) for report in json.loads(metadata["history"]))
    return run
