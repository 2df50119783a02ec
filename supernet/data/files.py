"""Data sets that lie in files: photos with points, photos with maps, photos with masks.

The readers of the formats (osie, fixation_csv, dut_omron, folder, masks) only find and parse files;
what they return is one of the three classes here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from supernet.data.density import default_sigma, density_map, fixation_counts, inside
from supernet.data.sample import Sample
from supernet.errors import DataError, ImageError
from supernet.images import load_image

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def list_photos(folder: Path) -> list[Path]:
    """The photos of a folder, sorted by name. Raises DataError where there are none."""
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}.",
            field="data",
            value=str(folder),
            remedy="Check the path; photos belong into a folder named stimuli.",
        )
    photos = [
        p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith(".")
    ]
    if not photos:
        raise DataError(
            f"{folder} holds no photos.",
            field="data",
            value=str(folder),
            remedy=f"Put files ending in {', '.join(sorted(PHOTO_SUFFIXES))} there.",
        )
    return sorted(photos, key=lambda p: p.name)


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8. Raises DataError that names the file."""
    try:
        return np.array(load_image(path), dtype=np.uint8)
    except ImageError as error:
        raise _unreadable(path, error) from error


def read_grey(path: Path) -> npt.NDArray[np.float32]:
    """(H, W) float32 in [0, 255]. Raises DataError that names the file."""
    try:
        return np.array(load_image(path).convert("L"), dtype=np.float32)
    except ImageError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: ImageError) -> DataError:
    return DataError(error.message, field="file", value=str(path), remedy=error.remedy)


def _digest(parts: Iterable[bytes | Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = _read_bytes(part) if isinstance(part, Path) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.",
            field="file",
            value=str(path),
            remedy="Check that it exists and may be read.",
        ) from error


@dataclass(frozen=True, eq=False)
class FixationDataset:
    """Photos with fixated points; the density is made from the points.

    `fixations` has one (n, 2) array per photo, in pixels of the photo; points beside it are dropped.
    With `binary`, a pixel fixated twice counts once, as in the public code for OSIE.
    """

    name: str
    split: str
    photos: tuple[Path, ...]
    fixations: tuple[npt.NDArray[np.float32], ...]
    binary: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.photos)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_photo(self.photos[index])
        size = (image.shape[0], image.shape[1])
        points = inside(self.fixations[index], size)
        if len(points) == 0:
            raise DataError(
                f"No fixation lies on {self.photos[index]}.",
                field="fixations",
                value=self.photos[index].name,
                remedy="Coordinates are pixels of the stored photo; check them, or leave the photo out.",
            )
        counts = fixation_counts(points, size)
        density = density_map(np.minimum(counts, 1) if self.binary else counts, default_sigma(size))
        return Sample(self.photos[index].name, image, density, points)

    def fingerprint(self) -> str:
        parts: list[bytes | Path] = [f"fixations {self.name} {self.binary}".encode()]
        for photo, points in zip(self.photos, self.fixations, strict=True):
            parts += [photo.name.encode(), photo, np.ascontiguousarray(points).tobytes()]
        return _digest(parts)


@dataclass(frozen=True, eq=False)
class MapDataset:
    """Photos with ready saliency maps. Unless `any_scale`, a map must have its photo's size."""

    name: str
    split: str
    photos: tuple[Path, ...]
    maps: tuple[Path, ...]
    any_scale: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.photos)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_photo(self.photos[index])
        grey = read_grey(self.maps[index])
        _check_map(self.maps[index], grey.shape, image.shape[:2], self.any_scale)
        if grey.max() <= 0:
            raise DataError(
                f"The map {self.maps[index]} is black.",
                field="map",
                value=self.maps[index].name,
                remedy="A saliency map needs at least one pixel above 0; leave the photo out.",
            )
        height, width = image.shape[:2]
        if grey.shape != (height, width):
            resized = Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
            grey = np.array(resized, dtype=np.float32)
        return Sample(self.photos[index].name, image, grey / grey.max())

    def fingerprint(self) -> str:
        parts: list[bytes | Path] = [f"maps {self.name}".encode()]
        for photo, path in zip(self.photos, self.maps, strict=True):
            parts += [photo.name.encode(), photo, path]
        return _digest(parts)


def _check_map(path: Path, found: tuple[int, ...], photo: tuple[int, ...], any_scale: bool) -> None:
    same_aspect = abs(found[0] * photo[1] - found[1] * photo[0]) <= max(*found, *photo)
    if tuple(found) != tuple(photo) and not (any_scale and same_aspect):
        raise DataError(
            f"The map {path} is {found[1]}x{found[0]}, its photo {photo[1]}x{photo[0]}.",
            field="map",
            value=path.name,
            remedy="Save the map in the size of its photo.",
        )


@dataclass(frozen=True, eq=False)
class MaskDataset:
    """Photos with a mask of the salient object; a mask pixel counts from 128 of 255."""

    name: str
    split: str
    photos: tuple[Path, ...]
    masks: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.photos)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_photo(self.photos[index])
        grey = read_grey(self.masks[index])
        _check_map(self.masks[index], grey.shape, image.shape[:2], any_scale=False)
        return Sample(self.photos[index].name, image, mask=grey >= 128)

    def fingerprint(self) -> str:
        parts: list[bytes | Path] = [f"masks {self.name}".encode()]
        for photo, path in zip(self.photos, self.masks, strict=True):
            parts += [photo.name.encode(), photo, path]
        return _digest(parts)


def partners(photos: Sequence[Path], folder: Path, what: str) -> tuple[Path, ...]:
    """For each photo the file of the same stem in `folder`. Raises DataError naming the first missing."""
    found = {path.stem: path for path in list_photos(folder)}
    for photo in photos:
        if photo.stem not in found:
            raise DataError(
                f"{folder} holds no {what} for {photo.name}.",
                field=what,
                value=photo.name,
                remedy=f"Add {folder / (photo.stem + '.png')}, or remove the photo.",
            )
    return tuple(found[photo.stem] for photo in photos)
