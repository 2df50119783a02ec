"""CAT2000 (Borji and Itti, 2015): photos of twenty categories, each in a folder of its own.

    Stimuli/<category>/001.jpg
    FIXATIONLOCS/<category>/001.mat     `fixLocs` (H, W), 1 where somebody looked
    FIXATIONMAPS/<category>/001.jpg     blurred; where they are missing the density is made from the points

`trainSet/` may stand above them. Four of five photos of each category train, as in the public SalNAS code:
the same positions in every category.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from supernet.data.files import RecordedDataset, list_photos, partners
from supernet.data.matfile import read_mat
from supernet.data.sample import split_indices
from supernet.errors import DataError

STIMULI, POINTS, MAPS = "Stimuli", "FIXATIONLOCS", "FIXATIONMAPS"


def is_cat2000(root: Path) -> bool:
    """Whether `root` has the layout of CAT2000."""
    inner = _inner(root)
    return (inner / STIMULI).is_dir() and (inner / POINTS).is_dir()


def read_cat2000(root: Path, split: str, name: str = "cat2000") -> RecordedDataset:
    """Read the categories in the order of their names. Raises DataError for missing files."""
    inner = _inner(root)
    with_maps = (inner / MAPS).is_dir()
    photos: list[Path] = []
    sources: list[Path] = []
    maps: list[Path] = []
    for category in sorted(path for path in (inner / STIMULI).iterdir() if path.is_dir()):
        found = list_photos(category)
        chosen = [found[i] for i in split_indices(len(found), len(found) * 4 // 5, split)]
        photos += chosen
        sources += partners(chosen, inner / POINTS / category.name, "file of fixations", suffixes={".mat"})
        if with_maps:
            maps += partners(chosen, inner / MAPS / category.name, "map")
    if not photos:
        raise DataError(
            f"{inner / STIMULI} holds no categories.",
            field="data",
            value=str(root),
            remedy="Unpack trainSet.zip there: Stimuli/Action/001.jpg and so on.",
        )
    return RecordedDataset(
        name,
        split,
        tuple(photos),
        tuple(sources),
        lambda index: points_of_locations(sources[index]),
        tuple(maps) if with_maps else None,
    )


def _inner(root: Path) -> Path:
    return root / "trainSet" if (root / "trainSet").is_dir() else root


def points_of_locations(path: Path) -> npt.NDArray[np.float32]:
    """(n, 2): x and y of the pixels above 0 in `fixLocs` (H, W). Raises DataError."""
    locations = read_mat(path).get("fixLocs")
    if not isinstance(locations, np.ndarray) or locations.ndim != 2:
        raise DataError(
            f"{path} lacks the array fixLocs (H, W).",
            field="fixLocs",
            value=str(path),
            remedy="Download the fixations again.",
        )
    y, x = np.nonzero(locations > 0)
    return np.column_stack([x, y]).astype(np.float32)
