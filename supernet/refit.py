"""What a supernet gets when its weights are done: batch-norm statistics for every subnet, and a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from supernet.average import average_supernets
from supernet.calibrate import MeasuredStatistics, fit_statistics, measure_statistics, on_more_photos
from supernet.checkpoint import load_supernet, save_supernet
from supernet.data.cache import Source, TrainingCache
from supernet.foreign import import_public
from supernet.network import Supernet
from supernet.progress import StageProgress
from supernet.sampling import covering_rows
from supernet.space import Rows, get_space
from supernet.temperature import fit_temperature
from supernet.train_config import TrainConfig
from supernet.train_data import load_training_data, plain_photos

_MORE_PHOTOS = 6
"""Times as many photos some subnets are measured on, to correct the statistics of all."""

_ONE_OF = 15
"""Of so many subnets one is."""

_TEMPERED = 14
"""Subnets that the temperature of all is fitted to."""


def fit_shipped_statistics(
    supernet: Supernet, training: Source, config: TrainConfig, progress: StageProgress = lambda *_: None
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
    supernet: Supernet,
    held_out: TrainingCache,
    config: TrainConfig,
    progress: StageProgress = lambda *_: None,
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
    progress: StageProgress = lambda *_: None,
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
