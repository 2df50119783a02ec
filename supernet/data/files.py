"""Data sets that lie in files: photos with points, photos with maps, photos with masks.

The readers of the formats (osie, fixation_csv, dut_omron, folder, masks) only find and parse files;
what they return is one of the classes here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
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
class PhotoFiles:
    """What the sets have in common: photos, known by the names of their files."""

    name: str
    split: str
    photos: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.photos)

    def __len__(self) -> int:
        return len(self.photos)


@dataclass(frozen=True, eq=False)
class FixationDataset(PhotoFiles):
    """Photos with fixated points; the density is made from the points.

    `fixations` has one (n, 2) array per photo, in pixels of the photo; points beside it are dropped.
    With `binary`, a pixel fixated twice counts once, as in the public code for OSIE.
    """

    fixations: tuple[npt.NDArray[np.float32], ...]
    binary: bool = False

    def __getitem__(self, index: int, /) -> Sample:
        image = read_photo(self.photos[index])
        size = (image.shape[0], image.shape[1])
        points = inside(self.fixations[index], size)
        _check_points(self.photos[index], points)
        counts = fixation_counts(points, size)
        density = density_map(np.minimum(counts, 1) if self.binary else counts, default_sigma(size))
        return Sample(self.photos[index].name, image, density, points)

    def points_of(self, index: int) -> npt.NDArray[np.float32]:
        """(n, 2) as they were recorded, those beside the photo too."""
        return self.fixations[index]

    def fingerprint(self) -> str:
        parts: list[bytes | Path] = [f"fixations {self.name} {self.binary}".encode()]
        for photo, points in zip(self.photos, self.fixations, strict=True):
            parts += [photo.name.encode(), photo, np.ascontiguousarray(points).tobytes()]
        return _digest(parts)


@dataclass(frozen=True, eq=False)
class RecordedDataset(PhotoFiles):
    """Photos with points that are read when asked for, and with ready maps where `maps` names them.

    `sources` are the files that `read_points` reads, one for each photo or one for all; it gets the position
    of a photo and returns (n, 2), x and y in pixels. A map must have the shape of its photo, not its size.
    """

    sources: tuple[Path, ...]
    read_points: Callable[[int], npt.NDArray[np.float32]]
    maps: tuple[Path, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """File names; with their folders where names come up again, as in the categories of CAT2000."""
        names = super().names
        if len(set(names)) == len(names):
            return names
        return tuple(f"{path.parent.name}/{path.name}" for path in self.photos)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_photo(self.photos[index])
        size = (image.shape[0], image.shape[1])
        self._check_grid(index, size)
        points = inside(self.points_of(index), size)
        if self.maps is not None:
            return Sample(self.names[index], image, read_map(self.maps[index], size, any_scale=True), points)
        _check_points(self.photos[index], points)
        density = density_map(fixation_counts(points, size), default_sigma(size))
        return Sample(self.names[index], image, density, points)

    def _check_grid(self, index: int, size: tuple[int, int]) -> None:
        """An image of points has a pixel for each of the photo."""
        path = self.sources[index] if len(self.sources) == len(self.photos) else None
        if path is None or path.suffix.lower() not in PHOTO_SUFFIXES:
            return
        height, width = read_grey(path).shape
        if (height, width) != size:
            raise DataError(
                f"The image of fixations {path} is {width}x{height}, its photo {size[1]}x{size[0]}.",
                field="file",
                value=str(path),
                remedy="Save it in the size of its photo: a pixel of it is a pixel of the photo.",
            )

    def points_of(self, index: int) -> npt.NDArray[np.float32]:
        """(n, 2) as they were recorded, those beside the photo too."""
        return np.asarray(self.read_points(index), dtype=np.float32).reshape(-1, 2)

    def fingerprint(self) -> str:
        parts: list[bytes | Path] = [f"recorded {self.name} {self.split}".encode()]
        for name, photo in zip(self.names, self.photos, strict=True):
            parts += [name.encode(), photo]
        return _digest([*parts, *dict.fromkeys(self.sources), *(self.maps or ())])


def _check_points(photo: Path, points: npt.NDArray[np.float32]) -> None:
    if len(points) == 0:
        raise DataError(
            f"No fixation lies on {photo}.",
            field="fixations",
            value=photo.name,
            remedy="Coordinates are pixels of the stored photo; check them, or leave the photo out.",
        )


@dataclass(frozen=True, eq=False)
class MapDataset(PhotoFiles):
    """Photos with ready saliency maps. Unless `any_scale`, a map must have its photo's size."""

    maps: tuple[Path, ...]
    any_scale: bool = False

    def __getitem__(self, index: int, /) -> Sample:
        image = read_photo(self.photos[index])
        size = (image.shape[0], image.shape[1])
        return Sample(self.photos[index].name, image, read_map(self.maps[index], size, self.any_scale))

    def fingerprint(self) -> str:
        parts: list[bytes | Path] = [f"maps {self.name}".encode()]
        for photo, path in zip(self.photos, self.maps, strict=True):
            parts += [photo.name.encode(), photo, path]
        return _digest(parts)


def read_map(path: Path, size: tuple[int, int], any_scale: bool) -> npt.NDArray[np.float32]:
    """(H, W) float32 with maximum 1 for a photo of `size`. Raises DataError that names the file."""
    grey = read_grey(path)
    _check_map(path, grey.shape, size, any_scale)
    if grey.max() <= 0:
        raise DataError(
            f"The map {path} is black.",
            field="map",
            value=path.name,
            remedy="A saliency map needs at least one pixel above 0; leave the photo out.",
        )
    if grey.shape != size:
        resized = Image.fromarray(grey).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        grey = np.array(resized, dtype=np.float32)
    density: npt.NDArray[np.float32] = grey / grey.max()
    return density


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
class MaskDataset(PhotoFiles):
    """Photos with a mask of the salient object; a mask pixel counts from 128 of 255."""

    masks: tuple[Path, ...]

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


def partners(
    photos: Sequence[Path],
    folder: Path,
    what: str,
    *,
    suffixes: Iterable[str] = PHOTO_SUFFIXES,
    ending: str = "",
) -> tuple[Path, ...]:
    """For each photo the file of the same stem, and `ending` after it, in `folder`.

    Raises DataError naming the first three that are missing.
    """
    wanted = frozenset(suffixes)
    listed = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.stem: path for path in listed if path.suffix.lower() in wanted}
    missing = [photo.name for photo in photos if photo.stem + ending not in found]
    if missing:
        others = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        suffix = ".png" if ".png" in wanted else min(wanted)
        raise DataError(
            f"{folder} holds no {what} for {', '.join(missing[:3])}{others}.",
            field=what,
            value=missing[0],
            remedy=f"Add {folder / (Path(missing[0]).stem + ending + suffix)}, or remove the photo.",
        )
    return tuple(found[photo.stem + ending] for photo in photos)


def points_of_image(path: Path, threshold: float = 128) -> npt.NDArray[np.float32]:
    """(n, 2): the bright pixels of an image of fixations, x and y. Raises DataError that names the file."""
    y, x = np.nonzero(read_grey(path) >= threshold)
    return np.column_stack([x, y]).astype(np.float32)
