"""Pseudo-labels: the maps of a teacher as what photos should yield.

They need no viewers, and are less noisy than the maps of a few. A student learns from them on photos that its
teacher was not trained on to the last detail; human maps mixed in correct where the teacher is wrong. Source: Hu and
McGuinness, "FastSal", ICPR 2020, section III.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from supernet.baselines.registry import ReferenceNet
from supernet.checkpoint import file_fingerprint, load_supernet, read_tensors, write_tensors
from supernet.data.cache import TrainingCache, cache_root
from supernet.data.sample import Dataset
from supernet.errors import CheckpointError, DataError
from supernet.fixed import is_network, load_net
from supernet.images import normalise, resize_photos
from supernet.network import SaliencyNet, extract
from supernet.progress import StageProgress
from supernet.teacher import as_target

_AT_ONCE = 8
_FAINTEST = 1e-6


@torch.inference_mode()
def taught(
    teacher: SaliencyNet | ReferenceNet,
    photos: TrainingCache,
    *,
    mirrored: bool = False,
    precision: str = "fp32",
    progress: StageProgress = lambda *_: None,
) -> TrainingCache:
    """The same photos with the maps of `teacher`, maximum 1, and no fixations.

    `mirrored`: the mean of what it says of a photo and of its mirror image, which is better than either.
    """
    teacher.eval()
    device = next(teacher.parameters()).device
    size = (photos.maps.shape[1], photos.maps.shape[2])
    maps = np.empty((len(photos), *size), np.float16)
    for start in range(0, len(photos), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(photos))
        images, _, _ = photos.take(np.arange(start, stop))
        x = resize_photos(normalise(torch.from_numpy(images).to(device)), teacher.resolution)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            predicted: Tensor = teacher(x).float()
            if mirrored:
                predicted = (predicted + teacher(x.flip(-1)).float().flip(-1)) / 2
        maps[start:stop] = as_target(predicted, size).cpu().numpy()
        progress("teacher", stop, len(photos))
    return replace(photos, maps=maps, counts=np.zeros_like(photos.counts))


def mixed(truth: TrainingCache, from_teacher: TrainingCache, alpha: float = 0.5) -> TrainingCache:
    """Maps of which `alpha`, from 0 to 1, is the truth and the rest the teacher's; fixations stay the truth.

    A cross-entropy is linear in its target: that against the mean is half the sum of those against both (FastSal,
    equation 2).
    """
    maps = alpha * truth.maps.astype(np.float32) + (1 - alpha) * from_teacher.maps.astype(np.float32)
    return replace(truth, maps=maps.astype(np.float16))


def mean_labels(
    teachers: Sequence[Path],
    dataset: Dataset,
    photos: TrainingCache,
    *,
    precision: str = "fp32",
    device: str = "cpu",
    progress: StageProgress = lambda *_: None,
) -> TrainingCache:
    """`photos`, the cache of `dataset`, with the mean of what several teachers say, maximum 1: see `labels_of`."""
    total = np.zeros(photos.maps.shape, np.float32)
    for teacher in teachers:
        labels = labels_of(teacher, dataset, photos, precision=precision, device=device, progress=progress)
        total += labels.maps
    total /= total.max(axis=(1, 2), keepdims=True).clip(_FAINTEST)
    return replace(photos, maps=total.astype(np.float16), counts=np.zeros_like(photos.counts))


def labels_of(
    teacher: Path,
    dataset: Dataset,
    photos: TrainingCache,
    *,
    precision: str = "fp32",
    device: str = "cpu",
    progress: StageProgress = lambda *_: None,
) -> TrainingCache:
    """`photos`, the cache of `dataset`, with the maps of a trained network's file, of their mirror images too.

    Of a supernet's file the largest subnet teaches. Labels are kept beside the caches: whoever comes with the same
    file and photos reads them. Raises CheckpointError, and DataError where what was kept is damaged.
    """
    if not teacher.is_file():
        raise CheckpointError(
            f"There is no teacher at {teacher}.",
            field="teacher",
            value=str(teacher),
            remedy="Give a .safetensors file of a supernet, or of a network that `salnas finetune` wrote.",
        )
    shapes = f"{photos.images.shape} {photos.maps.shape}"
    origin = f"{file_fingerprint(teacher)} {precision} {shapes} {dataset.fingerprint()}"
    key = hashlib.blake2b(origin.encode(), digest_size=8).hexdigest()
    kept = cache_root() / f"{dataset.name}-{dataset.split}-labels-{key}.safetensors"
    if not kept.exists():
        net = _network_of(teacher).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = taught(net, photos, mirrored=True, precision=precision, progress=progress)
        write_tensors(kept, {"maps": torch.from_numpy(found.maps)}, {"origin": origin})
    return replace(photos, maps=_kept_maps(kept), counts=np.zeros_like(photos.counts))


def _network_of(path: Path) -> SaliencyNet | ReferenceNet:
    if is_network(path):
        return load_net(path)[0]
    loaded, _ = load_supernet(path)
    return extract(loaded, loaded.space.largest())


def _kept_maps(path: Path) -> npt.NDArray[np.float16]:
    try:
        maps: npt.NDArray[np.float16] = read_tensors(path)[1]["maps"].numpy()
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(
            f"The labels {path} are damaged: {error}.",
            field="cache",
            value=str(path),
            remedy="Delete the file; they will be computed again.",
        ) from error
    return maps
