"""How a supernet is trained, as a value; the learning rate and the command line that it stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from supernet.data.cache import SMALLEST_CROP
from supernet.errors import SettingsError
from supernet.losses import LOSSES
from supernet.settings_checks import (
    require_at_least,
    require_choices,
    require_crop,
    require_data_weights,
    require_learning_rate,
)
from supernet.space import get_space
from supernet.teacher import DISTILLATIONS

WARM_UP_STEPS = 20

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "precision": ("fp32", "bf16"),
    "loss": tuple(LOSSES),
    "distillation": DISTILLATIONS,
    "schedule": ("cosine", "restarts"),
    "execution": ("sliced", "masked"),
}
"""Settings that are one of some names."""

FILES = ("warm_start", "start_from")
"""Settings that are paths, of which a checkpoint tells the name alone."""

_OTHERWISE = {"data", "data_weights", "teachers", "out", "threads", "device", "tensorboard", "energy_country"}
_OTHERWISE |= {"encoder_rate", "weight_decay", "statistics_photos", *FILES}
"""Settings that a command names in another way, that change no result, or that are no options of it."""


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
    alpha: the share of the truth in the targets of self-kd and of `teachers`, from 0 (teachers alone) to 1.
    teachers: trained networks, of supernets the largest subnet, which say what training photos yield
        (`pseudo_labels`): the mean of them is mixed with the truth. None of them: the truth alone.
    schedule: the learning rate in "cosine", one with a linear warm-up, or "restarts", cosines of `restart_epochs`
        one after the other, set once an epoch, as published.
    accumulate: batches whose gradients are averaged for one update.
    tensorboard: folder for the scalars of TensorBoard, which needs the package tensorboard.
    energy_country: ISO code of three letters; with it the energy is measured, which needs the package codecarbon.
    largest_every: the largest subnet, which costs as much as all others of a step, takes part in every so many;
        in none where 0.
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
    teachers: tuple[Path, ...] = ()
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
            "largest_every": 0,
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
        require_data_weights(self.data_weights, len(self.data))
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
        if self.teachers and self.distillation != "none":
            raise SettingsError(
                f"{self.teachers[0]} teaches, and {self.distillation} would too.",
                field="distillation",
                value=self.distillation,
                remedy="Leave --distillation or --teacher out.",
            )
        if self.distillation == "in-place" and self.largest_every != 1:
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


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """At `step` of `steps`: linear warm-up, then one cosine to zero; or cosines that start again, by epochs."""
    if config.schedule == "restarts":
        epoch = step * config.epochs // steps % config.restart_epochs
        return config.learning_rate * 0.5 * float(1 + np.cos(np.pi * epoch / config.restart_epochs))
    cosine = 0.5 * (1 + np.cos(np.pi * step / steps))
    return config.learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS) * float(cosine)


def command_of(config: TrainConfig) -> str:
    """The command line that trains with `config`."""
    words = ["salnas train", *(f"--data {name}" for name in config.data)]
    words += [f"--data-weight {weight:g}" for weight in config.data_weights]
    for setting in fields(config):
        value = getattr(config, setting.name)
        default = "auto" if setting.name == "precision" else setting.default
        if setting.name not in _OTHERWISE and value != default:
            words.append(f"--{setting.name.replace('_', '-')} {value}")
    for name in FILES:
        if path := getattr(config, name):
            words.append(f"--{name.replace('_', '-')} {path.name}")
    words += [f"--teacher {path.name}" for path in config.teachers]
    return " ".join(words)
