"""Data sets decoded once, for training.

Notation: N samples; photos (N, 3, H, W), maps and counts (N, h, w), B samples a batch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from supernet.data.density import eight_bits, fixation_counts
from supernet.data.sample import Dataset, Sample
from supernet.errors import DataError
from supernet.images import normalise, resize_photo

CACHE_VARIABLE = "SALNAS_CACHE"
_VERSION = 2
SMALLEST_CROP = 0.8
"""Least share of a photo's area that an augmented one shows."""

_ARRAYS = {"images": np.uint8, "maps": np.float16, "counts": np.uint8}
"""What each photo has, and how its numbers are kept."""

_CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP)
"""What file systems say that have room but cannot reserve it."""

_BRIGHTNESS = 0.1
_CONTRAST = 0.15


class Batch(NamedTuple):
    """images (B, 3, H, W) float32 in [-1, 1]; maps (B, h, w) float32, maximum about 1; counts (B, h, w)
    float32, fixations in each cell, all zero for photos that have a map but no points."""

    images: torch.Tensor
    maps: torch.Tensor
    counts: torch.Tensor


class Source(Protocol):
    """What batches are drawn from."""

    def __len__(self) -> int: ...

    def epoch(self, generator: np.random.Generator | None) -> npt.NDArray[np.int64]:
        """Positions of one pass; in order without a generator."""
        ...

    def take(
        self, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
        """Photos, maps and counts at `positions`."""
        ...


@dataclass(frozen=True, eq=False)
class TrainingCache:
    """A data set as compact arrays, memory-mapped.

    images         (N, 3, H, W) uint8
    maps           (N, h, w) float16, the maximum of each is 1
    counts         (N, h, w) uint8, fixations in each cell, zero without points
    has_fixations  (N,) bool
    names          of the photos, N of them
    """

    images: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.float16]
    counts: npt.NDArray[np.uint8]
    has_fixations: npt.NDArray[np.bool_]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, generator: np.random.Generator | None) -> npt.NDArray[np.int64]:
        order = np.arange(len(self), dtype=np.int64)
        return order if generator is None else generator.permutation(order)

    def take(
        self, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
        return self.images[positions], self.maps[positions], self.counts[positions]

    def part(self, start: int, end: int) -> TrainingCache:
        """The samples from `start` up to `end`."""
        names = (field.name for field in fields(self))
        return replace(self, **{name: getattr(self, name)[start:end] for name in names})


@dataclass(frozen=True, eq=False)
class Mixture:
    """Several caches of equal sizes as one; see `mix`."""

    caches: tuple[TrainingCache, ...]
    weights: tuple[float, ...]
    length: int

    def __len__(self) -> int:
        return self.length

    def epoch(self, generator: np.random.Generator | None) -> npt.NDArray[np.int64]:
        """`length` positions; a set of weight w supplies the share w of them.

        Within a set every sample comes once before any comes again. Without a generator: all samples
        of all sets in order, whatever the weights.
        """
        starts = np.cumsum([0, *(len(cache) for cache in self.caches)])
        if generator is None:
            return np.arange(starts[-1], dtype=np.int64)
        wanted = generator.multinomial(self.length, self.weights)
        parts = [
            start + _repeated_permutations(generator, len(cache), int(count))
            for cache, start, count in zip(self.caches, starts[:-1], wanted, strict=True)
        ]
        return generator.permutation(np.concatenate(parts))

    def take(
        self, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
        starts = np.cumsum([0, *(len(cache) for cache in self.caches)])
        owner = np.searchsorted(starts, positions, side="right") - 1
        first = self.caches[0]
        images = np.empty((len(positions), *first.images.shape[1:]), np.uint8)
        maps = np.empty((len(positions), *first.maps.shape[1:]), np.float16)
        counts = np.empty((len(positions), *first.counts.shape[1:]), np.uint8)
        for number, cache in enumerate(self.caches):
            mine = np.nonzero(owner == number)[0]
            images[mine], maps[mine], counts[mine] = cache.take(positions[mine] - starts[number])
        return images, maps, counts


def _repeated_permutations(generator: np.random.Generator, n: int, count: int) -> npt.NDArray[np.int64]:
    rounds = [generator.permutation(n) for _ in range(-(-count // n))]
    return np.concatenate([np.empty(0, np.int64), *rounds])[:count]


def mix(
    caches: Sequence[TrainingCache], weights: Sequence[float] | None = None, length: int | None = None
) -> Mixture:
    """Several caches as one source.

    `weights` are the shares of the samples drawn from each set, by default in proportion to their
    sizes; they need not sum to 1. `length` is the number of samples of an epoch, by default all sets
    together. Raises DataError for sizes that differ and for weights that make no sense.
    """
    shapes = {(cache.images.shape[1:], cache.maps.shape[1:]) for cache in caches}
    if len(shapes) != 1 or any(len(cache) == 0 for cache in caches):
        raise DataError(
            "Only caches with samples, of one photo size and one map size, can be mixed.",
            field="caches",
            value=sorted(map(str, shapes)),
            remedy="Build them with the same image_size and map_size.",
        )
    shares = np.asarray([len(c) for c in caches] if weights is None else weights, dtype=np.float64)
    if (
        shares.shape != (len(caches),)
        or not np.isfinite(shares).all()
        or shares.min() < 0
        or shares.sum() <= 0
    ):
        raise DataError(
            f"{len(caches)} caches cannot be mixed with the weights {weights}.",
            field="weights",
            value=weights,
            remedy="Give one weight of at least 0 for each cache, not all 0.",
        )
    total = sum(len(cache) for cache in caches)
    return Mixture(tuple(caches), tuple(shares / shares.sum()), length or total)


def cache_root() -> Path:
    """Where caches are kept: SALNAS_CACHE, else `~/.cache/salnas`."""
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "salnas"


def build_cache(
    dataset: Dataset,
    image_size: tuple[int, int],
    map_size: tuple[int, int],
    directory: Path | None = None,
    workers: int | None = None,
) -> TrainingCache:
    """Decode `dataset` to `image_size` (H, W) and `map_size` (h, w), or open what was decoded before.

    The folder's name holds a digest of the data and both sizes, so a changed data set is decoded
    anew. It is built aside and renamed when whole; two processes may build at once. Raises DataError, also where
    there is no room for it, before anything is decoded.
    """
    root = directory or cache_root()
    label = f"{dataset.split} {image_size} {map_size} v{_VERSION} {dataset.fingerprint()}"
    key = hashlib.blake2b(label.encode(), digest_size=8).hexdigest()
    target = root / f"{dataset.name}-{dataset.split}-{image_size[0]}x{image_size[1]}-{key}"
    if not target.is_dir():
        _build(dataset, image_size, map_size, target, workers or min(8, os.cpu_count() or 1))
    return _open(target)


def _build(
    dataset: Dataset, image_size: tuple[int, int], map_size: tuple[int, int], target: Path, workers: int
) -> None:
    n = len(dataset)
    shapes = {"images": (n, 3, *image_size), "maps": (n, *map_size), "counts": (n, *map_size)}
    size = sum(math.prod(shape) * np.dtype(_ARRAYS[name]).itemsize for name, shape in shapes.items())
    with _room(target.parent, size):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        with _room(target.parent, size):
            arrays = {name: _reserve(aside / f"{name}.npy", _ARRAYS[name], shapes[name]) for name in shapes}
        has_fixations = _decode(dataset, image_size, map_size, arrays, workers)
        with _room(target.parent, size):
            for array in arrays.values():
                array.flush()
            np.save(aside / "has_fixations.npy", has_fixations)
            (aside / "names.json").write_text(json.dumps(dataset.names), encoding="utf-8")
            _publish(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _room(root: Path, size: int) -> Iterator[None]:
    """What the system says against `size` bytes below `root`, as a DataError."""
    try:
        yield
    except OSError as error:
        megabytes = -(-size // 10**6)
        raise DataError(
            f"The decoded photos, {megabytes} MB, cannot be kept in {root}: {error.strerror or error}.",
            field="cache",
            value=str(root),
            remedy=f"Make room, or set {CACHE_VARIABLE} to a folder with {megabytes} MB free.",
        ) from error


def _reserve(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Zeros on disk, memory-mapped. The disk gives its room now: a write that finds none ends the process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as stream:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    return array


def _publish(aside: Path, target: Path) -> None:
    aside.chmod(0o755)
    try:
        aside.rename(target)
    except OSError:
        # Another process was faster; its result is the same.
        if not target.is_dir():
            raise


def _decode(
    dataset: Dataset,
    image_size: tuple[int, int],
    map_size: tuple[int, int],
    arrays: Mapping[str, npt.NDArray[Any]],
    workers: int,
) -> npt.NDArray[np.bool_]:
    """Fill `arrays`, zeros so far; (N,) bool, which photos have fixations."""
    has_fixations = np.zeros(len(dataset), dtype=bool)

    def decode(index: int) -> None:
        sample = dataset[index]
        photo = resize_photo(Image.fromarray(sample.image), image_size)
        arrays["images"][index] = np.asarray(photo).transpose(2, 0, 1)
        arrays["maps"][index] = _small_map(sample, map_size)
        if sample.fixations is not None:
            binned = fixation_counts(sample.fixations, sample.size, map_size)
            arrays["counts"][index] = np.minimum(binned, 255)
            has_fixations[index] = True

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(decode, range(len(dataset))):
            pass
    return has_fixations


def _small_map(sample: Sample, size: tuple[int, int]) -> npt.NDArray[np.float16]:
    if sample.density is None:
        raise DataError(
            f"{sample.name} has no saliency map.",
            field="data",
            value=sample.name,
            remedy="Data sets of object masks cannot train a saliency network.",
        )
    height, width = size
    # Rounded as the truths of an evaluation are, then kept finer than that.
    grey = Image.fromarray(eight_bits(sample.density).astype(np.float32))
    values = np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    return (values / max(float(values.max()), 1e-12)).astype(np.float16)


def _open(folder: Path) -> TrainingCache:
    try:
        images, maps, counts = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
        has_fixations = np.load(folder / "has_fixations.npy")
        names = tuple(json.loads((folder / "names.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The cache {folder} is damaged: {error}.",
            field="cache",
            value=str(folder),
            remedy="Delete the folder; it will be built again.",
        ) from error
    return TrainingCache(images, maps, counts, has_fixations, names)


def batches(
    source: Source,
    batch_size: int,
    generator: np.random.Generator | None = None,
    augment: bool = True,
    *,
    smallest_crop: float = SMALLEST_CROP,
    device: torch.device | str = "cpu",
    drop_last: bool = False,
) -> Iterator[Batch]:
    """One epoch of batches on `device`, shuffled where a generator is given, else in order.

    With `augment` (which needs the generator) photo, map and points are mirrored and cropped together, to
    `smallest_crop` of the area or more, and the photo alone changes a little in brightness and contrast. With
    `drop_last` a last, smaller batch is left out. While a batch is worked on, a thread reads the next one and, where
    that is a GPU, copies it there; it ends with the iterator. Raises DataError for a batch size under 1 or
    augmentation without a generator.
    """
    if batch_size < 1 or (augment and generator is None):
        raise DataError(
            "Batches need a size of at least 1, and augmented ones a generator.",
            field="batch_size",
            value=batch_size,
            remedy="Pass numpy.random.default_rng(seed), or augment=False.",
        )
    order = source.epoch(generator)
    end = len(order) - len(order) % batch_size if drop_last else len(order)
    parts = (order[start : start + batch_size] for start in range(0, end, batch_size))
    for images, maps, counts in _read_ahead(source, parts, torch.device(device)):
        batch = Batch(normalise(images), maps.float(), counts.float())
        # Drawn here and not ahead: between two batches their user draws from the same generator.
        yield _augment(batch, generator, smallest_crop) if augment and generator is not None else batch


def _read_ahead(
    source: Source, parts: Iterable[npt.NDArray[np.int64]], device: torch.device
) -> Iterator[list[torch.Tensor]]:
    """What `source` has at each of `parts`, on `device`; the next one is read while one is worked on."""
    reader = ThreadPoolExecutor(1, "batches")
    try:
        ahead: Future[list[torch.Tensor]] | None = None
        for positions in parts:
            current, ahead = ahead, reader.submit(_read, source, positions, device)
            if current:
                yield current.result()
        if ahead:
            yield ahead.result()
    finally:
        reader.shutdown(cancel_futures=True)


def _read(source: Source, positions: npt.NDArray[np.int64], device: torch.device) -> list[torch.Tensor]:
    tensors = [torch.from_numpy(part) for part in source.take(positions)]
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    # Only a copy from pinned memory does not wait for the kernels before it.
    return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]


def _augment(batch: Batch, generator: np.random.Generator, smallest_crop: float) -> Batch:
    window = torch.from_numpy(_random_windows(generator, len(batch.images), smallest_crop)).to(
        batch.images.device
    )
    window = _keep_what_is_seen(window, batch)
    return Batch(
        _recolour(_look_through(batch.images, window), generator),
        _look_through(batch.maps[:, None], window)[:, 0],
        _move_points(batch.counts, window),
    )


def _random_windows(generator: np.random.Generator, n: int, smallest_crop: float) -> npt.NDArray[np.float32]:
    """(n, 4) float32: signed half width, half height, centre x, centre y, in units where the photo is
    [-1, 1] on both axes. A negative half width mirrors."""
    half = np.sqrt(generator.uniform(smallest_crop, 1.0, n))
    centre = generator.uniform(-1.0, 1.0, (n, 2)) * (1 - half)[:, None]
    mirror = np.where(generator.random(n) < 0.5, -1.0, 1.0)
    return np.column_stack([half * mirror, half, centre]).astype(np.float32)


def _keep_what_is_seen(window: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Give up the crop where it would lose every fixation or the whole map."""
    lost = _look_through(batch.maps[:, None], window).amax(dim=(1, 2, 3)) <= 0
    had_points = batch.counts.sum(dim=(1, 2)) > 0
    lost |= had_points & (_move_points(batch.counts, window).sum(dim=(1, 2)) == 0)
    whole = torch.tensor([1.0, 1.0, 0.0, 0.0], device=window.device)
    return torch.where(lost[:, None], whole, window)


def _look_through(planes: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Enlarge the window of (B, C, H, W) to the full size."""
    theta = window.new_zeros((len(window), 2, 3))
    theta[:, 0, 0], theta[:, 1, 1] = window[:, 0], window[:, 1]
    theta[:, :, 2] = window[:, 2:]
    grid = functional.affine_grid(theta, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _move_points(counts: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """(B, h, w): each count goes to the cell where the centre of its own comes to lie."""
    height, width = counts.shape[1:]
    image, row, column = counts.nonzero(as_tuple=True)
    view = window[image]
    x = ((column + 0.5) * 2 / width - 1 - view[:, 2]) / view[:, 0]
    y = ((row + 0.5) * 2 / height - 1 - view[:, 3]) / view[:, 1]
    seen = (x.abs() < 1) & (y.abs() < 1)
    to_column = ((x[seen] + 1) * width / 2).long().clamp_(0, width - 1)
    to_row = ((y[seen] + 1) * height / 2).long().clamp_(0, height - 1)
    moved = torch.zeros_like(counts)
    values = counts[image, row, column][seen]
    return moved.index_put_((image[seen], to_row, to_column), values, accumulate=True)


def _recolour(images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Change contrast about each photo's mean, and brightness, within the range of pixels."""
    n = len(images)
    contrast = torch.from_numpy(1 + generator.uniform(-_CONTRAST, _CONTRAST, (n, 1, 1, 1))).to(images)
    brightness = torch.from_numpy(generator.uniform(-_BRIGHTNESS, _BRIGHTNESS, (n, 1, 1, 1))).to(images)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean + 2 * brightness).clamp_(-1.0, 1.0)
