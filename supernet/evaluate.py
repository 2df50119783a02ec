"""Networks on data sets.

The protocol is that of the public SalNAS code, for every set: the ground truth is made at the size of
the photo (see data.density), rounded to 8 bits and resized to 384x384, fixations are binned to the
same grid, the prediction is resized to it and smoothed by an 11x11 Gaussian of sigma 10.5 pixels.
Metrics are taken per image, then averaged over images.

Notation: N photos; resolutions and sizes are (H, W); maps are (N, H, W).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from supernet.data.density import eight_bits, fixation_counts
from supernet.data.sample import Dataset, Sample
from supernet.errors import DataError
from supernet.images import normalise, resize_maps, resize_photo, smooth_maps
from supernet.metric_names import METRICS
from supernet.metrics import Scores, mae, max_f_measure, mean_scores, score_batch

MAP_SIZE = (384, 384)
#: Both resolutions of the SalNAS space.
RESOLUTIONS: tuple[tuple[int, int], ...] = ((192, 256), (288, 384))
# Metrics are bound by memory: on a CPU two maps at a time stay in its cache.
_SCORED_AT_ONCE = 2

#: (B, 3, H, W) float32 in [-1, 1] -> (B, h, w), higher = more salient.
Predictor = Callable[[torch.Tensor], torch.Tensor]
#: Called with the number of photos done and of all photos.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Photos and truths in memory, so that many subnets are measured without decoding again.

    names     of the photos, N of them
    photos    resolution -> (N, 3, H, W) uint8
    truths    (N, h, w) uint8, where people look
    fixations (N, h, w) uint8, the number of fixations in each cell; all zero where only maps exist
    """

    names: tuple[str, ...]
    photos: dict[tuple[int, int], torch.Tensor]
    truths: torch.Tensor
    fixations: torch.Tensor

    def __len__(self) -> int:
        return len(self.names)

    @property
    def map_size(self) -> tuple[int, int]:
        """(h, w) at which maps are compared."""
        return self.truths.shape[1], self.truths.shape[2]

    def images(self, resolution: tuple[int, int], start: int, stop: int) -> torch.Tensor:
        """The network's input for photos start to stop: (B, 3, H, W) float32. Raises DataError."""
        if resolution not in self.photos:
            raise DataError(
                f"The evaluation set holds no photos of {resolution[1]}x{resolution[0]}.",
                field="resolution",
                value=list(resolution),
                remedy="Build it with this resolution among `resolutions`.",
            )
        return normalise(self.photos[resolution][start:stop])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one network on one data set, and what they are the means of.

    names    of the photos, N of them
    columns  metric -> (N,) float64; NaN where it is undefined
    """

    dataset: str
    split: str
    scores: Scores
    names: tuple[str, ...]
    columns: dict[str, npt.NDArray[np.float64]]

    def to_csv(self) -> str:
        """One line per photo: its name and each metric, empty where undefined."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image", *self.columns])
        for i, name in enumerate(self.names):
            values = [float(column[i]) for column in self.columns.values()]
            writer.writerow([name, *("" if math.isnan(v) else f"{v:.6f}" for v in values)])
        return stream.getvalue()


@dataclass(frozen=True)
class MaskScores:
    """Object segmentation: max F-measure (higher better) and mean absolute error (lower better)."""

    max_f: float
    mae: float
    n: int


def build_evaluation_set(
    dataset: Dataset,
    limit: int | None = None,
    *,
    resolutions: Sequence[tuple[int, int]] = RESOLUTIONS,
    map_size: tuple[int, int] = MAP_SIZE,
) -> EvaluationSet:
    """Decode the first `limit` photos of `dataset`, in the order of its split, or all of them.

    Raises DataError for files that cannot be used, masks, and an empty set.
    """
    n = _number(dataset, limit)
    return _prepare([dataset[i] for i in range(n)], resolutions, map_size)


def evaluate_net(
    net: nn.Module, evaluation_set: EvaluationSet, batch_size: int = 8, *, smooth: bool = True
) -> Scores:
    """Mean scores of a network with an attribute `resolution` = (H, W), on the device where it lies."""
    return mean_scores(score_net(net, evaluation_set, batch_size, smooth=smooth))


def score_net(
    net: nn.Module, evaluation_set: EvaluationSet, batch_size: int = 8, *, smooth: bool = True
) -> dict[str, torch.Tensor]:
    """As `evaluate_net`, per image: metric -> (N,) float64 on the CPU.

    The network predicts in evaluation mode and is left in the mode it came in.
    """
    with _predicting(net) as (predict, resolution, device):
        return _score(predict, evaluation_set, resolution, device, batch_size, smooth)


def evaluate(
    predict: Predictor | nn.Module,
    dataset: Dataset,
    *,
    resolution: tuple[int, int] | None = None,
    batch_size: int = 8,
    smooth: bool = True,
    map_size: tuple[int, int] = MAP_SIZE,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores of a network, or of any function, on a data set, read photo by photo.

    A module with an attribute `resolution` = (H, W) needs nothing else; for a plain function say the
    `resolution` of its input. The function gets (B, 3, H, W) float32 in [-1, 1] on the CPU, B at most
    `batch_size`, and returns (B, h, w) of any size. `limit` takes the first photos of the split.
    Raises DataError for masks (see `evaluate_masks`), for an empty set and for a missing resolution.
    """
    n = _number(dataset, limit)
    parts: list[dict[str, torch.Tensor]] = []
    with _predicting(predict, resolution) as (function, size, device):
        for start in range(0, n, batch_size):
            samples = [dataset[i] for i in range(start, min(start + batch_size, n))]
            part = _prepare(samples, [size], map_size)
            parts.append(_score(function, part, size, device, batch_size, smooth))
            if progress is not None:
                progress(min(start + batch_size, n), n)
    table = {name: torch.cat([part[name] for part in parts]) for name in METRICS}
    columns = {name: column.numpy() for name, column in table.items()}
    return Evaluation(dataset.name, dataset.split, mean_scores(table), dataset.names[:n], columns)


def evaluate_masks(
    predict: Callable[[npt.NDArray[np.uint8]], torch.Tensor],
    dataset: Dataset,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> MaskScores:
    """Max F-measure and MAE of object maps. `predict` takes a photo (H, W, 3) uint8 and returns (H, W)
    in [0, 1]; it is rounded to 8 bits, as maps are when they are saved. Raises DataError without masks."""
    n = _number(dataset, limit)
    maps: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    errors: list[float] = []
    for i in range(n):
        sample = dataset[i]
        if sample.mask is None:
            raise DataError(
                f"{dataset.name} has no object masks.",
                field="data",
                value=dataset.name,
                remedy="Evaluate fixation data with `evaluate`.",
            )
        maps.append((predict(sample.image) * 255).round().clamp(0, 255).byte().cpu())
        masks.append(torch.from_numpy(sample.mask))
        errors.append(float(mae(maps[-1][None].double() / 255, masks[-1][None])))
        if progress is not None:
            progress(i + 1, n)
    return MaskScores(max_f_measure(maps, masks), float(np.mean(errors)), n)


def _number(dataset: Dataset, limit: int | None) -> int:
    n = len(dataset) if limit is None else min(limit, len(dataset))
    if n < 1:
        raise DataError(
            f"There is no photo to evaluate in {dataset.name} ({dataset.split}).",
            field="limit",
            value=limit,
            remedy="Choose another split, or a limit of at least 1.",
        )
    return n


def _prepare(
    samples: Sequence[Sample], resolutions: Sequence[tuple[int, int]], map_size: tuple[int, int]
) -> EvaluationSet:
    photos = {size: np.empty((len(samples), 3, *size), np.uint8) for size in resolutions}
    truths = np.empty((len(samples), *map_size), np.uint8)
    fixations = np.zeros((len(samples), *map_size), np.uint8)
    for i, sample in enumerate(samples):
        if sample.density is None:
            raise DataError(
                f"{sample.name} has no saliency map.",
                field="data",
                value=sample.name,
                remedy="Evaluate object masks with `evaluate_masks`.",
            )
        image = Image.fromarray(sample.image)
        for size, array in photos.items():
            array[i] = np.asarray(resize_photo(image, size)).transpose(2, 0, 1)
        truths[i] = np.asarray(resize_photo(Image.fromarray(eight_bits(sample.density)), map_size))
        if sample.fixations is not None:
            fixations[i] = np.minimum(fixation_counts(sample.fixations, sample.size, map_size), 255)
    return EvaluationSet(
        tuple(sample.name for sample in samples),
        {size: torch.from_numpy(array) for size, array in photos.items()},
        torch.from_numpy(truths),
        torch.from_numpy(fixations),
    )


@contextmanager
def _predicting(
    predict: Predictor | nn.Module, resolution: tuple[int, int] | None = None
) -> Iterator[tuple[Predictor, tuple[int, int], torch.device]]:
    """The function, the resolution of its input and its device; a module is in evaluation mode."""
    size = resolution or getattr(predict, "resolution", None)
    if size is None:
        raise DataError(
            "The resolution of the network's input is not known.",
            field="resolution",
            value=None,
            remedy="Pass resolution=(height, width).",
        )
    found = (int(size[0]), int(size[1]))
    if not isinstance(predict, nn.Module):
        yield predict, found, torch.device("cpu")
        return
    parameter = next(predict.parameters(), None)
    was_training = predict.training
    predict.eval()
    try:
        yield predict, found, torch.device("cpu") if parameter is None else parameter.device
    finally:
        predict.train(was_training)


@torch.inference_mode()
def _score(
    predict: Predictor,
    evaluation_set: EvaluationSet,
    resolution: tuple[int, int],
    device: torch.device,
    batch_size: int,
    smooth: bool,
) -> dict[str, torch.Tensor]:
    parts: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(evaluation_set), batch_size):
        stop = min(start + batch_size, len(evaluation_set))
        maps = predict(evaluation_set.images(resolution, start, stop).to(device))
        _check_prediction(maps, stop - start)
        maps = resize_maps(maps.float(), evaluation_set.map_size)
        if smooth:
            maps = smooth_maps(maps)
        truths = evaluation_set.truths[start:stop].to(maps.device)
        fixations = evaluation_set.fixations[start:stop].to(maps.device)
        at_once = _SCORED_AT_ONCE if maps.device.type == "cpu" else stop - start
        for i in range(0, len(maps), at_once):
            piece = slice(i, i + at_once)
            parts.append(score_batch(maps[piece], truths[piece], fixations[piece]))
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in METRICS}


def _check_prediction(maps: torch.Tensor, n: int) -> None:
    if maps.ndim != 3 or len(maps) != n:
        raise DataError(
            f"The network answered {n} photos with the shape {tuple(maps.shape)}.",
            field="prediction",
            value=list(maps.shape),
            remedy="It must return (B, h, w).",
        )
