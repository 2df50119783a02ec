"""Training of one network: a reference model, a standalone or pruned subnet, on truths or on what a larger one says.

One trainer for every module that takes photos (B, 3, H, W) in [-1, 1] and returns maps (B, H, W) in [0, 1], so that
rivals meet under the same recipe. Targets are human maps, object masks, or the maps of a teacher, which need no
labels. Sources: FastSal (hint pretraining, pseudo-labels), CSNet (dynamic weight decay), SalNAS (loss and recipe).
The state is saved after each epoch, and a resumed run continues to the same result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from supernet.baselines.fastsal import FastSal
from supernet.baselines.registry import ReferenceNet
from supernet.checkpoint import read_tensors, write_tensors
from supernet.data.cache import SMALLEST_CROP, Source, TrainingCache, batches, build_cache
from supernet.data.files import list_photos
from supernet.data.sample import Dataset
from supernet.distill import binary_loss, hint_loss, probability_loss
from supernet.errors import CheckpointError, DataError, SettingsError
from supernet.images import load_image, resize_maps, resize_photo, resize_photos
from supernet.losses import cc_loss, saliency_loss
from supernet.network import SaliencyNet
from supernet.processor import kept_memory, training_threads
from supernet.progress import StageProgress
from supernet.prune import STRENGTH, DynamicDecay, parameter_groups, watched_layers
from supernet.settings_checks import require_at_least, require_choices, require_crop, require_learning_rate
from supernet.training_state import optimizer_tensors, part, restore_optimizer

WARM_UP_STEPS = 20
CLIP = 1.0
MAP_SHARE = 3
"""Photos are so many times as high and wide as the maps of a loss."""
_LOGIT_LIMIT = 1e-4
_TINY = 1e-12

CHOICES: dict[str, tuple[str, ...]] = {
    "loss": ("saliency", "binary", "probability"),
    "decay": ("standard", "dynamic"),
    "optimizer": ("sgd", "adam"),
    "precision": ("fp32", "bf16"),
}
"""Settings that are one of some names."""


@dataclass(frozen=True)
class FinetuneConfig:
    """How one network is trained; refuses nonsense when built (SettingsError).

    epochs: passes over the photos, after `hint_epochs` in which only features are matched with the teacher's.
    loss: "saliency" as supernets are trained, KLD + (1 - CC) + (1 - σ(NSS)); "binary" cross-entropy, for masks and
        for pseudo-labels; "probability" for the map of a teacher taken as a distribution.
    encoder_rate: learning rate of pretrained layers relative to the others.
    decay: "dynamic" lets batch-norm scales decay with the output of their channels (CSNet), with `strength`.
    augment: mirror, crop and recolour photos; `smallest_crop` is the least share of their area that is left.
    """

    epochs: int = 10
    hint_epochs: int = 0
    batch_size: int = 10
    loss: str = "saliency"
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    encoder_rate: float = 0.3
    weight_decay: float = 1e-5
    decay: str = "standard"
    strength: float = STRENGTH
    precision: str = "fp32"
    augment: bool = True
    smallest_crop: float = SMALLEST_CROP
    seed: int = 0
    threads: int = field(default_factory=torch.get_num_threads)

    def __post_init__(self) -> None:
        require_choices(self, CHOICES)
        smallest = {"epochs": 1, "hint_epochs": 0, "batch_size": 2, "seed": 0, "threads": 1}
        require_at_least(self, smallest)
        require_learning_rate(self.learning_rate)
        require_crop(self.smallest_crop)


@dataclass(frozen=True)
class EpochReport:
    """Mean training loss of an epoch, and the mean CC with held-out maps (None without any)."""

    epoch: int
    phase: str
    seconds: float
    loss: float
    held_out_cc: float | None


@dataclass
class _Run:
    net: nn.Module
    heads: nn.ModuleList
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    history: list[EpochReport]


def finetune(
    net: nn.Module,
    training: Source,
    config: FinetuneConfig,
    *,
    held_out: TrainingCache | None = None,
    teacher: SaliencyNet | None = None,
    pretrained: Sequence[str] = (),
    state: Path | None = None,
    progress: StageProgress = lambda *_: None,
) -> list[EpochReport]:
    """Train `net` in place; it is left in evaluation mode.

    training    photos with what they should yield: truths, the maps of a teacher, or both mixed (see `mixed`)
    teacher     whose features are matched in hint epochs
    pretrained  beginnings of the names of parameters that learn at the encoder's rate
    state       file that is written after each epoch and continued from where it exists

    Raises SettingsError where what the configuration needs is missing, CheckpointError for a foreign state.
    """
    if len(training) < config.batch_size:
        raise SettingsError(
            f"{len(training)} photos are too few for a batch of {config.batch_size}.",
            field="batch_size",
            value=config.batch_size,
            remedy="Make batches smaller, or give more photos.",
        )
    if config.hint_epochs and teacher is None:
        raise SettingsError(
            "Hints need a teacher.",
            field="hint_epochs",
            value=config.hint_epochs,
            remedy="Name one, or use no hint epochs.",
        )
    with training_threads(config.threads), kept_memory:
        run = _start(net, teacher, config, pretrained)
        if state is not None and state.exists():
            _load_state(state, config, run)
        epochs = config.hint_epochs + config.epochs
        for epoch in range(len(run.history), epochs):
            hint = epoch < config.hint_epochs
            loss, seconds = _epoch(run, training, teacher if hint else None, config, epoch, progress)
            cc = None if held_out is None or hint else held_out_cc(net, held_out)
            run.history.append(EpochReport(epoch + 1, "hint" if hint else "map", seconds, loss, cc))
            if state is not None:
                _save_state(state, config, run)
    net.eval()
    return run.history


def _start(
    net: nn.Module, teacher: SaliencyNet | None, config: FinetuneConfig, pretrained: Sequence[str]
) -> _Run:
    torch.manual_seed(config.seed)
    heads = nn.ModuleList()
    if config.hint_epochs and teacher is not None:
        resolution = _resolution(net)
        with torch.no_grad():
            probe = torch.zeros(2, 3, *resolution)
            own, other = features(net.eval(), probe), features(teacher.eval(), probe)
        heads.extend(nn.Conv2d(a.shape[1], b.shape[1], 1) for a, b in zip(own, other, strict=True))
    return _Run(
        net, heads, _optimizer(net, heads, config, pretrained), np.random.default_rng(config.seed), []
    )


def _optimizer(
    net: nn.Module, heads: nn.Module, config: FinetuneConfig, pretrained: Sequence[str]
) -> torch.optim.Optimizer:
    if config.decay == "dynamic":
        undecayed = set(parameter_groups(net, watched_layers(net), 0.0)[1]["params"])
    else:
        undecayed = set()
    groups: dict[tuple[float, float], list[Tensor]] = {}
    named = [*net.named_parameters(), *((f"heads.{n}", p) for n, p in heads.named_parameters())]
    for name, parameter in named:
        factor = config.encoder_rate if name.startswith(tuple(pretrained)) else 1.0
        # CSNet decays everything; the recipe of SalNAS spares biases and batch norms.
        everything = config.optimizer == "adam"
        spared = parameter in undecayed or (parameter.dim() <= 1 and not everything)
        groups.setdefault((factor, 0.0 if spared else config.weight_decay), []).append(parameter)
    parameters = [{"params": p, "factor": f, "weight_decay": d} for (f, d), p in groups.items()]
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=0.9, nesterov=True)


def _epoch(
    run: _Run,
    training: Source,
    hinter: SaliencyNet | None,
    config: FinetuneConfig,
    epoch: int,
    progress: StageProgress,
) -> tuple[float, float]:
    """One pass; with a `hinter` its features are the targets. Returns the mean loss and the seconds."""
    started = time.time()
    steps = len(training) // config.batch_size
    epochs = config.hint_epochs + config.epochs
    run.net.train()
    losses = []
    layers = watched_layers(run.net) if config.decay == "dynamic" else {}
    with ExitStack() as stack:
        decay = stack.enter_context(DynamicDecay(layers)) if layers else None
        stream = batches(
            training,
            config.batch_size,
            run.rng,
            augment=config.augment,
            smallest_crop=config.smallest_crop,
            drop_last=True,
        )
        for step, (photos, maps, counts) in enumerate(stream):
            rate = _rate(config, epoch, steps, step)
            for group in run.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            run.optimizer.zero_grad()
            x = resize_photos(photos, _resolution(run.net)).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                if hinter is not None:
                    loss = _hints(run, hinter, x)
                else:
                    loss = _map_loss(logits_of(run.net, x), maps, counts, config.loss)
            total = loss.mean()
            if decay is not None and hinter is None:
                total = total + config.strength * decay.penalty()
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_value_(run.net.parameters(), CLIP)
            run.optimizer.step()
            losses.append(loss.detach().float().mean())
            progress(f"epoch {epoch + 1} of {epochs}", epoch * steps + step + 1, epochs * steps)
    return float(torch.stack(losses).double().mean()), time.time() - started


def _rate(config: FinetuneConfig, epoch: int, steps: int, step: int) -> float:
    """Linear warm-up, then a cosine to zero, in each of the two phases."""
    hint = epoch < config.hint_epochs
    length = (config.hint_epochs if hint else config.epochs) * steps
    position = (epoch - (0 if hint else config.hint_epochs)) * steps + step
    cosine = 0.5 * (1 + np.cos(np.pi * position / length))
    return config.learning_rate * min(1.0, (position + 1) / WARM_UP_STEPS) * float(cosine)


def _map_loss(logits: Tensor, maps: Tensor, counts: Tensor, loss: str) -> Tensor:
    """(B,) for logits of any size and maps (B, h, w) with maximum 1."""
    small = resize_maps(logits.float(), (maps.shape[1], maps.shape[2]))
    if loss == "saliency":
        return saliency_loss(torch.sigmoid(small), maps, counts)
    if loss == "binary":
        return binary_loss(small, maps.clamp(0, 1))
    return probability_loss(small, maps / maps.sum((1, 2), keepdim=True).clamp_min(_TINY))


def logits_of(net: nn.Module, photos: Tensor) -> Tensor:
    """(B, H, W) before the sigmoid, of a subnet or a reference model."""
    if isinstance(net, ReferenceNet):
        return net.logits(photos)
    return torch.logit(net(photos).float(), eps=_LOGIT_LIMIT)


def features(net: nn.Module, photos: Tensor) -> list[Tensor]:
    """Four feature maps at 1/2, 1/4, 1/8 and 1/16 of the photos: what hints compare.

    Of FastSal its adapted groups, of a subnet the stem and the stages that the decoder reads. Raises
    SettingsError for other networks.
    """
    if isinstance(net, ReferenceNet) and isinstance(net.net, FastSal):
        return net.net.hints(photos)
    if not isinstance(net, SaliencyNet):
        raise SettingsError(
            f"A {type(net).__name__} gives no hints.",
            field="hint_epochs",
            remedy="Leave them out, or train FastSal or a subnet.",
        )
    found = [net.stem(photos)]
    x = found[0]
    for number, stage in enumerate(net.stages[:5]):
        x = stage(x)
        if number in (1, 2, 4):
            found.append(x)
    return found


def _hints(run: _Run, hinter: SaliencyNet, x: Tensor) -> Tensor:
    """Hint loss on features scaled to a mean square of 1, so that no layer outweighs the others."""
    with torch.no_grad():
        targets = [t.float() for t in features(hinter, x)]
        targets = [t / t.square().mean().sqrt().clamp_min(1e-6) for t in targets]
    own = [head(f).float() for head, f in zip(run.heads, features(run.net, x), strict=True)]
    return hint_loss(own, targets)


@torch.no_grad()
def held_out_cc(net: nn.Module, held_out: TrainingCache) -> float:
    """Mean correlation with the maps of photos that do not train."""
    net.eval()
    found = []
    for photos, maps, _ in batches(held_out, 20, augment=False):
        predicted = net(resize_photos(photos, _resolution(net)))
        found.append(1 - cc_loss(resize_maps(predicted.float(), (maps.shape[1], maps.shape[2])), maps))
    return float(torch.cat(found).mean())


def _resolution(net: nn.Module) -> tuple[int, int]:
    return cast("SaliencyNet | ReferenceNet", net).resolution


# --- data -----------------------------------------------------------------------------------------------


def saliency_photos(dataset: Dataset, size: tuple[int, int]) -> TrainingCache:
    """A data set of human maps, decoded at `size` (H, W); its maps are a third as high and wide."""
    return build_cache(dataset, size, (size[0] // MAP_SHARE, size[1] // MAP_SHARE))


def mask_photos(dataset: Dataset, positions: Sequence[int], size: tuple[int, int]) -> TrainingCache:
    """Photos and object masks at `positions`, in memory, at `size` and half of it. Raises DataError without masks."""
    half = (size[0] // 2, size[1] // 2)
    cache = _blank(len(positions), size, half, tuple(dataset.names[i] for i in positions))
    for row, position in enumerate(positions):
        sample = dataset[position]
        if sample.mask is None:
            raise DataError(
                f"{sample.name} has no object mask.",
                field="data",
                value=sample.name,
                remedy="Train on fixation data with the saliency loss.",
            )
        cache.images[row] = _pixels(Image.fromarray(sample.image), size)
        mask = Image.fromarray(sample.mask.astype(np.float32))
        cache.maps[row] = np.asarray(mask.resize(half[::-1], Image.Resampling.BILINEAR))
    return cache


def folder_photos(folder: Path | str, size: tuple[int, int]) -> TrainingCache:
    """The unlabelled photos of a folder at `size`, in memory; their maps are flat. Raises DataError without any."""
    paths = list_photos(Path(folder))
    maps = (size[0] // MAP_SHARE, size[1] // MAP_SHARE)
    cache = _blank(len(paths), size, maps, tuple(path.name for path in paths))
    for row, path in enumerate(paths):
        cache.images[row] = _pixels(load_image(path), size)
    return replace(cache, maps=np.ones_like(cache.maps))


def _blank(n: int, size: tuple[int, int], maps: tuple[int, int], names: tuple[str, ...]) -> TrainingCache:
    return TrainingCache(
        np.zeros((n, 3, *size), np.uint8),
        np.zeros((n, *maps), np.float16),
        np.zeros((n, *maps), np.uint8),
        np.zeros(n, np.bool_),
        names,
    )


def _pixels(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(resize_photo(image, size)).transpose(2, 0, 1)


# --- a run between two epochs ---------------------------------------------------------------------------


def _identity(config: FinetuneConfig) -> str:
    return json.dumps({k: v for k, v in asdict(config).items() if k != "threads"}, sort_keys=True)


def _save_state(path: Path, config: FinetuneConfig, run: _Run) -> None:
    tensors = {f"net.{k}": v for k, v in run.net.state_dict().items()}
    tensors |= {f"heads.{k}": v for k, v in run.heads.state_dict().items()}
    tensors |= optimizer_tensors(run.optimizer)
    tensors["torch_rng"] = torch.get_rng_state()
    metadata = {
        "config": _identity(config),
        "rng": json.dumps(run.rng.bit_generator.state),
        "history": json.dumps([asdict(report) for report in run.history]),
    }
    write_tensors(path, {k: v.detach().clone() for k, v in tensors.items()}, metadata)


def _load_state(path: Path, config: FinetuneConfig, run: _Run) -> None:
    """Bring `run` to where the state was saved. Raises CheckpointError."""
    try:
        metadata, tensors = read_tensors(path)
        if metadata.get("config") != _identity(config):
            raise ValueError("it belongs to another configuration")
        run.net.load_state_dict(part(tensors, "net."))
        run.heads.load_state_dict(part(tensors, "heads."))
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"The training state {path} cannot be used: {str(error)[:200]}.",
            field="out",
            value=str(path),
            remedy="Delete it to start again, or repeat the settings it was started with.",
        ) from error
    restore_optimizer(run.optimizer, tensors)
    run.rng.bit_generator.state = json.loads(metadata["rng"])
    torch.set_rng_state(tensors["torch_rng"])
    run.history.extend(EpochReport(**report) for report in json.loads(metadata["history"]))
