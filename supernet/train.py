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
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from supernet.checkpoint import file_fingerprint, load_supernet, read_tensors, save_supernet, write_tensors
from supernet.data.cache import TrainingCache, batches
from supernet.errors import CheckpointError, SettingsError
from supernet.files import write_atomic
from supernet.images import resize_maps, resize_photos
from supernet.losses import cc_loss, kld_loss, nss_loss, saliency_loss
from supernet.masked import masked_forward
from supernet.monitor import Board, EnergyMeter
from supernet.network import DROP_RATE, Supernet
from supernet.processor import kept_memory, training_threads
from supernet.progress import StageProgress
from supernet.refit import fit_shipped_statistics, fit_shipped_temperature
from supernet.space import Arch, get_space
from supernet.teacher import Teacher, as_target, make_teacher, teacher_photos
from supernet.train_config import FILES, TrainConfig, command_of, learning_rate
from supernet.train_data import load_training_data, plain_photos
from supernet.training_state import optimizer_tensors, part, restore_optimizer
from supernet.warmstart import begin_with_truths, load_source, warm_start

CLIP = 1.0
"""Largest gradient of a single weight."""


_OBSERVERS = ("tensorboard", "energy_country")
"""Settings that a result does not depend on."""


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


@dataclass
class _Run:
    """A training run between two epochs: everything that a saved state restores."""

    supernet: Supernet
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    history: list[EpochReport]
    teacher: Teacher


def train(config: TrainConfig, *, progress: StageProgress = lambda *_: None, resume: bool = True) -> Path:
    """Train a supernet as `config` says and return the path of its checkpoint.

    Continues from the state beside `config.out` where there is one of the same configuration and `resume`. Raises
    CheckpointError, DataError and SettingsError.
    """
    with training_threads(config.threads), kept_memory:
        return _train(config, progress, resume)


def _train(config: TrainConfig, progress: StageProgress, resume: bool) -> Path:
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


def provenance(
    config: TrainConfig, history: list[EpochReport], training: Any, seconds: float
) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    for name in FILES:
        settings[name] = getattr(config, name).name if getattr(config, name) else None
    settings["teachers"] = [path.name for path in config.teachers]
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
        # The weights are on the CPU until `_assemble`, and so is the source.
        photos = torch.cat(plain_photos(training, 64, replace(config, device="cpu")))
        warm_start(supernet, load_source(config.warm_start), photos)
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


def _epoch(
    config: TrainConfig,
    run: _Run,
    training: Any,
    held_out: TrainingCache,
    epoch: int,
    steps: int,
    progress: StageProgress,
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
        every = config.largest_every
        with_largest = every > 0 and (epoch * steps + step) % every == 0
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
    _write_history(Path(config.out).with_suffix(".history.csv"), run.history)


def _write_history(path: Path, history: list[EpochReport]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(asdict(history[0])))
    writer.writeheader()
    writer.writerows(asdict(report) for report in history)
    try:
        write_atomic(path, table.getvalue())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error}.",
            field="out",
            value=str(path),
            remedy="Make room on the disk or choose another place; what was saved before is whole.",
        ) from error


def _identity(config: TrainConfig) -> str:
    """Everything that a result depends on, as JSON."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    settings["teachers"] = [file_fingerprint(path) for path in config.teachers]
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
