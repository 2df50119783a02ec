"""FIWI (Shen and Zhao, 2014), and any set as the public SalNAS code wants it: three folders.

    stimuli/name.png
    fixations/name.png     bright where somebody looked; or name.mat with `fixLocs` (H, W)
    saliency/name.png      blurred

Names of fixations may end in `_fixPts`, those of maps in `_fixMap`. Two of three photos train (99 of 149).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from supernet.data.cat2000 import points_of_locations
from supernet.data.files import PHOTO_SUFFIXES, RecordedDataset, list_photos, partners, points_of_image
from supernet.data.sample import split_indices

STIMULI, POINTS, MAPS = "stimuli", "fixations", "saliency"
TRAIN_SHARES = {
    "fiwi": (99, 149),
    "mit1003": (803, 1003),
    "pascal_s": (650, 850),
    "osie": (500, 700),
    "dut_omron": (4168, 5168),
}
"""Photos that train, of how many, in the public code; two of three elsewhere."""


def is_fiwi(root: Path) -> bool:
    """Whether `root` has the three folders."""
    return all((root / folder).is_dir() for folder in (STIMULI, POINTS, MAPS))


def read_fiwi(root: Path, split: str, name: str = "fiwi") -> RecordedDataset:
    """Read photos, points and maps. Raises DataError for missing files."""
    everything = list_photos(root / STIMULI)
    part, whole = TRAIN_SHARES.get(name, (99, 149))
    order = split_indices(len(everything), len(everything) * part // whole, split)
    photos = tuple(everything[i] for i in order)
    sources = _beside(photos, root / POINTS, "image of points", "_fixPts")
    maps = _beside(photos, root / MAPS, "map", "_fixMap")
    return RecordedDataset(name, split, photos, sources, lambda index: _points(sources[index]), maps)


def _beside(photos: Sequence[Path], folder: Path, what: str, ending: str) -> tuple[Path, ...]:
    used = ending if any(folder.glob(f"*{ending}.*")) else ""
    return partners(photos, folder, what, suffixes=PHOTO_SUFFIXES | {".mat"}, ending=used)


def _points(path: Path) -> npt.NDArray[np.float32]:
    return points_of_locations(path) if path.suffix.lower() == ".mat" else points_of_image(path)
