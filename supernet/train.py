"""Training of a supernet with the sandwich rule.

Every step runs the largest subnet, the smallest one and some random ones on the same photos and sums their
gradients (SalNAS paper, section 3). Part of the training split is held out: it selects and is reported during
training; validation photos are not touched. The state is saved whole after each epoch, and a resumed run continues
to the same result.

Batches are (B, 3, H, W) at the largest resolution of the space and brought down to that of each subnet.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from supernet.calibrate import fit_statistics
from supernet.checkpoint import save_supernet
from supernet.data.cache import TrainingCache, batches, build_cache, mix
from supernet.data.registry import open_dataset
from supernet.errors import CheckpointError, SettingsError
from supernet.files import atomic_path, write_atomic
from supernet.images import resize_maps, resize_photos
from supernet.losses import cc_loss, kld_loss, nss_loss, saliency_loss
from supernet.network import DROP_RATE, Supernet
from supernet.space import Arch, get_space
from supernet.warmstart import load_source, warm_start

WARM_UP_STEPS = 20
CLIP = 1.0
"""Largest gradient of a single weight."""


@dataclass(frozen=True)
class TrainConfig:
    """How a supernet is trained; refuses nonsense when built (SettingsError).

    data: names or folders of data sets, mixed in equal parts where there are several.
    out: the checkpoint, `….safetensors`; the state, a card and the history are written beside it.
    warm_start: path of MobileNetV2 weights, or None for random weights.
    full_resolution_epochs: the last epochs, in which every subnet sees photos of its own resolution; before
        them all see the smallest one, which costs less than half.
    encoder_rate: learning rate of the encoder relative to the decoder, which starts from random weights.
    frozen_epochs: the last epochs, in which batch norms use the statistics that are fitted before them and
        shipped: the weights learn to live with what a linear function of the genes cannot foresee.
    held_out: photos at the end of the training split that select instead of train.
    statistics_subnets, statistics_photos: what batch-norm statistics are fitted on at the end.
    """

    data: tuple[str, ...] = ("osie",)
    space: str = "salnas"
    out: Path = Path("results/supernets/salnas-osie.safetensors")
    warm_start: Path | None = None
    epochs: int = 20
    full_resolution_epochs: int = 5
    frozen_epochs: int = 2
    batch_size: int = 16
    random_subnets: int = 2
    learning_rate: float = 0.05
    encoder_rate: float = 0.3
    weight_decay: float = 1e-5
    held_out: int = 80
    statistics_subnets: int = 96
    statistics_photos: int = 32
    seed: int = 0
    threads: int = field(default_factory=torch.get_num_threads)
    device: str = "cpu"

    def __post_init__(self) -> None:
        get_space(self.space)
        if not self.data:
            raise SettingsError("No data to train on.", field="data", remedy="Name a data set, such as osie.")
        if Path(self.out).suffix != ".safetensors":
            raise SettingsError(
                f"The checkpoint {self.out} must end in .safetensors.", field="out", value=str(self.out)
            )
        limits = {
            "epochs": 1,
            "full_resolution_epochs": 0,
            "frozen_epochs": 0,
            "batch_size": 2,
            "random_subnets": 0,
            "held_out": 1,
            "statistics_subnets": 1,
            "statistics_photos": 2,
            "seed": 0,
            "threads": 1,
        }
        for name, smallest in limits.items():
            if getattr(self, name) < smallest:
                raise SettingsError(
                    f"{name} is {getattr(self, name)}.",
                    field=name,
                    value=getattr(self, name),
                    remedy=f"It is at least {smallest}.",
                )
        if not 0 < self.learning_rate < 10:
            raise SettingsError(
                f"learning_rate is {self.learning_rate}.",
                field="learning_rate",
                value=self.learning_rate,
                remedy="Choose a number above 0, such as 0.05.",
            )


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did: mean training loss, and held-out scores of the smallest and the largest subnet.

    Held-out scores use batch statistics before the frozen epochs and the smallest resolution before the
    full-resolution epochs.
    """

    epoch: int
    seconds: float
    learning_rate: float
    loss: float
    smallest_cc: float
    largest_cc: float
    smallest_loss: float
    largest_loss: float


Progress = Callable[[str, int, int], None]
"""Called with what is going on, steps done, steps in all."""


@dataclass
class _Run:
    """A training run between two epochs: everything that a saved state restores."""

    supernet: Supernet
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    history: list[EpochReport]


def train(config: TrainConfig, *, progress: Progress = lambda *_: None, resume: bool = True) -> Path:
    """Train a supernet as `config` says and return the path of its checkpoint.

    Continues from the state beside `config.out` where there is one of the same configuration and `resume`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    # Squeezing gates and faded channels make denormal numbers, which slow a CPU down several times.
    torch.set_flush_denormal(True)
    try:
        return _train(config, progress, resume)
    finally:
        # Both belong to the whole process, whose other work needs them as they were.
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def _train(config: TrainConfig, progress: Progress, resume: bool) -> Path:
    started = time.time()
    training, held_out = load_training_data(config)
    run = _load_state(config) if resume and _state_path(config).exists() else _start(config, training)
    steps = len(training) // config.batch_size
    for epoch in range(len(run.history), config.epochs):
        if epoch == config.epochs - config.frozen_epochs:
            _fit_statistics(config, run, training, progress)
        report = _epoch(config, run, training, held_out, epoch, steps, progress)
        run.history.append(report)
        _save_state(config, run)
    if not config.frozen_epochs:
        _fit_statistics(config, run, training, progress)
    save_supernet(config.out, run.supernet, provenance(config, run.history, training, time.time() - started))
    return config.out


def load_training_data(config: TrainConfig) -> tuple[Any, TrainingCache]:
    """The source of training batches, and the held-out end of the first set's training split."""
    space = get_space(config.space)
    image_size = max(space.resolutions)
    map_size = (image_size[0] // 3, image_size[1] // 3)  # divides both published resolutions
    caches = [build_cache(open_dataset(name, split="train"), image_size, map_size) for name in config.data]
    first = caches[0]
    kept = len(first) - config.held_out
    if kept < config.batch_size:
        raise SettingsError(
            f"Of {len(first)} photos, {config.held_out} are held out: too few are left for a batch.",
            field="held_out",
            value=config.held_out,
            remedy="Hold out fewer photos, or make batches smaller.",
        )
    caches[0] = slice_cache(first, 0, kept)
    source = mix(caches, [1.0] * len(caches)) if len(caches) > 1 else caches[0]
    return source, slice_cache(first, kept, len(first))


def slice_cache(cache: TrainingCache, start: int, end: int) -> TrainingCache:
    """The samples from `start` up to `end`."""
    return replace(
        cache,
        images=cache.images[start:end],
        maps=cache.maps[start:end],
        counts=cache.counts[start:end],
        has_fixations=cache.has_fixations[start:end],
        names=cache.names[start:end],
    )


def provenance(
    config: TrainConfig, history: list[EpochReport], training: Any, seconds: float
) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    settings["warm_start"] = config.warm_start.name if config.warm_start else None
    settings["out"] = config.out.name
    return {
        "config": settings,
        "command": command_of(config),
        "training_photos": len(training),
        "held_out": asdict(history[-1]) if history else None,
        "seconds": round(sum(report.seconds for report in history), 1),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "torch": torch.__version__,
    }


def command_of(config: TrainConfig) -> str:
    """The command line that trains with `config`."""
    words = ["salnas train", *(f"--data {name}" for name in config.data)]
    defaults = TrainConfig()
    for name in (
        "space",
        "epochs",
        "full_resolution_epochs",
        "frozen_epochs",
        "batch_size",
        "random_subnets",
        "statistics_subnets",
        "seed",
    ):
        if getattr(config, name) != getattr(defaults, name):
            words.append(f"--{name.replace('_', '-')} {getattr(config, name)}")
    if config.warm_start:
        words.append(f"--warm-start {config.warm_start.name}")
    return " ".join(words)


def _start(config: TrainConfig, training: Any) -> _Run:
    torch.manual_seed(config.seed)
    supernet = Supernet(get_space(config.space))
    if config.warm_start:
        warm_start(supernet, load_source(config.warm_start), torch.cat(_plain_photos(training, 64, config)))
    return _assemble(config, supernet)


def _assemble(config: TrainConfig, supernet: Supernet) -> _Run:
    supernet = supernet.to(config.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in supernet.named_parameters():
        factor = 1.0 if name.startswith("weights.decoder.") or not config.warm_start else config.encoder_rate
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    optimizer = torch.optim.SGD(
        [{"params": p, "factor": factor, "weight_decay": decay} for (factor, decay), p in groups.items()],
        lr=config.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    return _Run(supernet, optimizer, np.random.default_rng(config.seed), [])


def _plain_photos(training: Any, count: int, config: TrainConfig) -> list[Tensor]:
    """`count` training photos without augmentation, in batches, at the smallest resolution."""
    found: list[Tensor] = []
    for batch in batches(training, min(16, count), augment=False, device=config.device):
        found.append(batch.images)
        if sum(len(photos) for photos in found) >= count:
            break
    smallest = min(get_space(config.space).resolutions)
    return [resize_photos(photos, smallest) for photos in found]


def _fit_statistics(config: TrainConfig, run: _Run, training: Any, progress: Progress) -> None:
    """Fit the statistics to random subnets, the smallest and the largest; a fourth at their own resolution."""
    space = run.supernet.space
    rows = space.sample(np.random.default_rng(config.seed), config.statistics_subnets)
    rows[np.arange(len(rows)) % 4 > 0, 0] = 0
    rows = np.vstack([rows, 0 * space.sizes, space.sizes - 1])
    photos = _plain_photos(training, config.statistics_photos, config)
    fit_statistics(
        run.supernet, photos, rows, progress=lambda done, total: progress("statistics", done, total)
    )


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
    stream = batches(training, config.batch_size, run.rng, drop_last=True, device=config.device)
    for step, (photos, maps, counts) in enumerate(stream):
        rate = learning_rate(config, epoch * steps + step, config.epochs * steps)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        run.optimizer.zero_grad()
        for arch, drop_rate in _sandwich(run, config.random_subnets):
            size = arch.resolution if full else min(space.resolutions)
            x = resize_photos(photos, size).contiguous(memory_format=torch.channels_last)
            loss = saliency_loss(run.supernet(x, arch, drop_rate=drop_rate), maps, counts).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_value_(run.supernet.parameters(), CLIP)
        run.optimizer.step()
        progress(f"epoch {epoch + 1} of {config.epochs}", epoch * steps + step + 1, config.epochs * steps)
    small, large = (
        held_out_scores(run.supernet, arch, held_out, full_resolution=full, frozen=frozen)
        for arch in (space.smallest(), space.largest())
    )
    return EpochReport(
        epoch + 1, time.time() - started, rate, float(np.mean(losses)), small[0], large[0], small[1], large[1]
    )


def _sandwich(run: _Run, random_subnets: int) -> Iterator[tuple[Arch, float]]:
    """Largest (with dropout and drop-connect), random ones, smallest."""
    space = run.supernet.space
    yield space.largest(), DROP_RATE
    for row in space.sample(run.rng, random_subnets):
        yield space.decode(row), 0.0
    yield space.smallest(), 0.0


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up, then one cosine to zero."""
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


def _save_state(config: TrainConfig, run: _Run) -> None:
    """Weights, optimizer moments, generators and history, whole or not at all."""
    tensors = {f"supernet.{k}": v for k, v in run.supernet.state_dict().items()}
    for index, moments in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
    tensors["torch_rng"] = torch.get_rng_state()
    metadata = {
        "config": repr(config),
        "rng": json.dumps(run.rng.bit_generator.state),
        "history": json.dumps([asdict(report) for report in run.history]),
    }
    with atomic_path(_state_path(config)) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(asdict(run.history[0])))
    writer.writeheader()
    writer.writerows(asdict(report) for report in run.history)
    write_atomic(Path(config.out).with_suffix(".history.csv"), table.getvalue())


def _load_state(config: TrainConfig) -> _Run:
    path = _state_path(config)
    try:
        with safe_open(str(path), "pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The training state {path} cannot be read: {error}.",
            field="out",
            value=str(path),
            remedy="Delete it to start again.",
        ) from error
    if metadata.get("config") != repr(config):
        raise CheckpointError(
            f"The training state {path} belongs to another configuration.",
            field="out",
            value=str(path),
            remedy="Repeat the settings it was started with, delete it, or choose another --out.",
        )
    supernet = Supernet(get_space(config.space))
    weights = {k.removeprefix("supernet."): v for k, v in tensors.items() if k.startswith("supernet.")}
    supernet.load_state_dict(weights)
    run = _assemble(config, supernet)
    _restore_moments(run.optimizer, tensors)
    run.rng.bit_generator.state = json.loads(metadata["rng"])
    torch.set_rng_state(tensors["torch_rng"])
    run.history.extend(EpochReport(**report) for report in json.loads(metadata["history"]))
    return run


def _restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state = optimizer.state_dict()
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state["state"].setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(state)
