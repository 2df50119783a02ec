"""DUT-OMRON (Yang et al., 2013) as it is published.

    DUT-OMRON-image/name.jpg
    DUT-OMRON-eye-fixations/mat/name.mat    `s`: a first row with the size, then x, y, person from 0

4168 of 5168 photos train, as in the public SalNAS code; the paper's 100 validation photos are a misprint.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from supernet.data.files import RecordedDataset, list_photos, partners
from supernet.data.matfile import read_mat
from supernet.data.sample import split_indices
from supernet.errors import DataError

STIMULI = "DUT-OMRON-image"
POINTS = Path("DUT-OMRON-eye-fixations", "mat")


def is_dut_omron_points(root: Path) -> bool:
    """Whether `root` has the layout of DUT-OMRON as published."""
    return (root / STIMULI).is_dir() and (root / POINTS).is_dir()


def read_dut_omron_points(root: Path, split: str, name: str = "dut_omron") -> RecordedDataset:
    """Read photos and points. Raises DataError for missing files."""
    everything = list_photos(root / STIMULI)
    order = split_indices(len(everything), len(everything) * 4168 // 5168, split)
    photos = tuple(everything[i] for i in order)
    sources = partners(photos, root / POINTS, "file of fixations", suffixes={".mat"})
    return RecordedDataset(name, split, photos, sources, lambda index: points_of_rows(sources[index]))


def points_of_rows(path: Path) -> npt.NDArray[np.float32]:
    """(n, 2): x and y below the first row of `s`. Raises DataError."""
    rows = read_mat(path).get("s")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] < 2 or len(rows) < 1:
        raise DataError(
            f"{path} lacks the table s of x, y and person.",
            field="s",
            value=str(path),
            remedy="Download the fixations again.",
        )
    return rows[1:, :2].astype(np.float32)
