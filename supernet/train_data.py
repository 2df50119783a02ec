"""The photos that a supernet is trained on, and those that training holds out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from supernet.data.cache import Mixture, TrainingCache, batches, build_cache, mix
from supernet.data.registry import open_dataset
from supernet.data.sample import Dataset
from supernet.errors import SettingsError
from supernet.progress import StageProgress
from supernet.pseudo_labels import mean_labels, mixed
from supernet.space import get_space
from supernet.train_config import TrainConfig


def load_training_data(
    config: TrainConfig, progress: StageProgress = lambda *_: None
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
    if config.teachers:
        caches = [_with_labels(config, *pair, progress) for pair in zip(datasets, caches, strict=True)]
    caches[0] = caches[0].part(0, kept)
    weights = config.data_weights or [1.0] * len(caches)
    is_mixed = len(caches) > 1 or config.epoch_photos
    source = mix(caches, weights, config.epoch_photos) if is_mixed else caches[0]
    return source, first.part(kept, len(first))


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


def _with_labels(
    config: TrainConfig, dataset: Dataset, photos: TrainingCache, progress: StageProgress
) -> TrainingCache:
    labels = mean_labels(
        config.teachers,
        dataset,
        photos,
        precision=config.precision,
        device=config.device,
        progress=progress,
    )
    return mixed(photos, labels, config.alpha)
