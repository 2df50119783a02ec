"""Predictions as files: where overlay and raw map of each photo go, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.errors import ImageError, SettingsError
from supernet.files import atomic_path

if TYPE_CHECKING:
    from PIL import Image

OVERLAYS = (".png", ".jpg", ".jpeg", ".webp")
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
RAW_MAPS = (".npy", ".png")


@dataclass(frozen=True)
class Target:
    """A photo and the files that its prediction becomes."""

    image: Path
    overlay: Path
    raw: Path

    def to_json(self, saliency: NDArray[np.float32]) -> dict[str, Any]:
        """Plain data: the files, the map's size [height, width], and the most salient pixel [x, y]."""
        y, x = np.unravel_index(int(saliency.argmax()), saliency.shape)
        return {
            "image": str(self.image),
            "overlay": str(self.overlay),
            "map": str(self.raw),
            "size": list(saliency.shape),
            "peak": [int(x), int(y)],
        }


def plan_outputs(images: Sequence[Path], out: Path, raw: Path | None = None) -> list[Target]:
    """Decide which files are written, before any work is done.

    `out` is the overlay of a single photo, or a folder (one that exists, or a name without a suffix) for any
    number. The raw map goes beside the overlay as .npy unless `raw` names a file for it. Raises SettingsError
    for a suffix that is not known, several photos for one file, and a photo that would be overwritten.
    """
    is_folder = out.is_dir() or not out.suffix
    if not is_folder and len(images) > 1:
        raise _refused("out", out, f"{len(images)} photos do not fit into one file.", "Name a folder.")
    if raw is not None and (is_folder or len(images) > 1):
        raise _refused(
            "raw", raw, "A file for the raw map goes with one photo and one overlay.", "Leave it out."
        )
    _check_suffix("out", out, () if is_folder else OVERLAYS)
    if raw is not None:
        _check_suffix("raw", raw, RAW_MAPS)
    targets = [
        Target(image, *_in_folder(out, image))
        if is_folder
        else Target(image, out, raw or out.with_suffix(".npy"))
        for image in images
    ]
    _check_distinct(images, targets)
    return targets


def expand_folders(images: Sequence[Path]) -> list[Path]:
    """Each folder replaced by its photos, by name. Raises ImageError for a folder without any."""
    found: list[Path] = []
    for image in images:
        found += _photos_in(image, "image") if image.is_dir() else [image]
    return found


def load_folder(folder: Path, most: int = 64) -> list[Image.Image]:
    """The first photos of a folder, by name. Raises ImageError where it holds none or one is damaged."""
    from supernet.images import load_image

    return [load_image(path) for path in _photos_in(folder, "photos")[:most]]


def _photos_in(folder: Path, field: str) -> list[Path]:
    photos = sorted(path for path in folder.glob("*") if path.suffix.lower() in PHOTOS)
    if not photos:
        raise ImageError(
            f"There is no photo in {folder}.",
            field=field,
            value=str(folder),
            remedy=f"Name a folder with files that end in {', '.join(PHOTOS)}.",
        )
    return photos


def write_prediction(target: Target, photo: Image.Image, saliency: NDArray[np.float32]) -> None:
    """Write overlay and raw map (H, W), each whole or not at all."""
    from PIL import Image

    from supernet.images import overlay

    with atomic_path(target.overlay) as temporary:
        overlay(photo, saliency).save(temporary)
    with atomic_path(target.raw) as temporary:
        if target.raw.suffix.lower() == ".npy":
            np.save(temporary, saliency)
        else:
            Image.fromarray(np.rint(saliency * 65535).astype(np.uint16)).save(temporary)


def write_mask(target: Target, saliency: NDArray[np.float32]) -> Path:
    """Write a map (H, W) in [0, 1] as 8-bit grey beside the overlay, `….mask.png`; returns its path."""
    from PIL import Image

    path = target.overlay.with_suffix(".mask.png")
    with atomic_path(path) as temporary:
        Image.fromarray(np.rint(saliency * 255).astype(np.uint8)).save(temporary)
    return path


def _in_folder(folder: Path, image: Path) -> tuple[Path, Path]:
    return folder / f"{image.stem}.png", folder / f"{image.stem}.npy"


def _check_suffix(field: str, path: Path, known: tuple[str, ...]) -> None:
    if known and path.suffix.lower() not in known:
        raise _refused(
            field, path, f"{path.name} has a suffix that is not known.", f"Use {' or '.join(known)}."
        )


def _check_distinct(images: Sequence[Path], targets: Sequence[Target]) -> None:
    taken = {image.resolve() for image in images}
    for target in targets:
        for path in (target.overlay, target.raw):
            if path.resolve() in taken:
                raise _refused(
                    "out", path, f"{path} would be written twice, or over a photo.", "Name another folder."
                )
            taken.add(path.resolve())


def _refused(field: str, path: Path, message: str, remedy: str) -> SettingsError:
    return SettingsError(message, field=field, value=str(path), remedy=remedy)
