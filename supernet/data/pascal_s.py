"""PASCAL-S (Li et al., 2014): `salObj.zip` as it unpacks.

    datasets/imgs/pascal/1.jpg
    datasets/fixations/pascalFix.mat        `fixCell`, a cell a photo with rows of y, x and person, from 1
    datasets/algmaps/pascal/humanFix/1.png  blurred; where they are missing the density is made from the points

`datasets/` may be left out. The published file is of MATLAB 7.3 and needs h5py. 650 of 850 photos train, as in
the public SalNAS code, which sorts the names as text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from supernet.data.files import RecordedDataset, list_photos, partners
from supernet.data.matfile import read_mat
from supernet.data.sample import split_indices
from supernet.errors import DataError

STIMULI = Path("imgs", "pascal")
POINTS = Path("fixations", "pascalFix.mat")
MAPS = Path("algmaps", "pascal", "humanFix")


def is_pascal_s(root: Path) -> bool:
    """Whether `root` has the layout of PASCAL-S."""
    return (_inner(root) / STIMULI).is_dir() and (_inner(root) / POINTS).is_file()


def read_pascal_s(root: Path, split: str, name: str = "pascal_s") -> RecordedDataset:
    """Read photos, points and maps. Raises DataError for missing files."""
    inner = _inner(root)
    everything = list_photos(inner / STIMULI)
    cells = _read_cells(inner / POINTS)
    photos = tuple(everything[i] for i in split_indices(len(everything), len(everything) * 650 // 850, split))
    for photo in photos:
        if not photo.stem.isdecimal() or not 1 <= int(photo.stem) <= len(cells):
            raise DataError(
                f"{photo.name} has no place among the {len(cells)} photos of {inner / POINTS}.",
                field="photo",
                value=photo.name,
                remedy="Photos are named 1.jpg, 2.jpg and so on, after their cell.",
            )
    maps = partners(photos, inner / MAPS, "map") if (inner / MAPS).is_dir() else None
    return RecordedDataset(
        name,
        split,
        photos,
        (inner / POINTS,) * len(photos),
        lambda index: cells[int(photos[index].stem) - 1],
        maps,
    )


def _inner(root: Path) -> Path:
    return root / "datasets" if (root / "datasets").is_dir() else root


def _read_cells(path: Path) -> list[npt.NDArray[np.float32]]:
    """For each photo its fixations (n, 2), x and y from 0."""
    cells = read_mat(path).get("fixCell")
    found = []
    for number, cell in enumerate(cells if isinstance(cells, list) else [], start=1):
        rows = np.asarray(cell, np.float32)
        if rows.size and (rows.ndim != 2 or rows.shape[1] < 2):
            raise DataError(
                f"Cell {number} of {path} is no table of y, x and person.",
                field="fixCell",
                value=number,
                remedy="Download salObj.zip again.",
            )
        found.append(rows[:, 1::-1] - 1 if rows.size else np.empty((0, 2), np.float32))
    if not found:
        raise DataError(
            f"{path} lacks the cells fixCell.",
            field="fixCell",
            value=str(path),
            remedy="Download salObj.zip again.",
        )
    return found
