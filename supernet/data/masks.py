"""ECSSD and its like: `stimuli/` beside `masks/`, files of equal stem and size.

Such sets only test; "val" and "all" are both every photo.
"""

from __future__ import annotations

from pathlib import Path

from supernet.data.files import MaskDataset, list_photos, partners
from supernet.data.sample import check_split
from supernet.errors import DataError

STIMULI = "stimuli"
MASKS = "masks"


def is_masks(root: Path) -> bool:
    """Whether `root` has the layout of photos and object masks."""
    return (root / STIMULI).is_dir() and (root / MASKS).is_dir()


def read_masks(root: Path, split: str, name: str = "ecssd") -> MaskDataset:
    """Read photos and masks. Raises DataError for missing files and for the split "train"."""
    check_split(split)
    if split == "train":
        raise DataError(
            f"{name} holds object masks and is a test set only.",
            field="split",
            value=split,
            remedy='Use the split "all".',
        )
    photos = list_photos(root / STIMULI)
    return MaskDataset(name, split, tuple(photos), partners(photos, root / MASKS, "mask"))
