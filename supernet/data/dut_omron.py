"""DUT-OMRON as maps: `stimuli/{train,val}` beside `saliency/{train,val}`, files of equal stem.

The maps may be smaller than the photos but of the same shape; there are no points.
"""

from __future__ import annotations

from pathlib import Path

from supernet.data.files import MapDataset, list_photos, partners
from supernet.data.sample import check_split

STIMULI = "stimuli"
MAPS = "saliency"


def is_dut_omron(root: Path) -> bool:
    """Whether `root` has the layout of DUT-OMRON."""
    return all((root / kind / split).is_dir() for kind in (STIMULI, MAPS) for split in ("train", "val"))


def read_dut_omron(root: Path, split: str, name: str = "dut_omron") -> MapDataset:
    """Read the folders of a split; "all" is train followed by val. Raises DataError for missing files."""
    check_split(split)
    photos: list[Path] = []
    maps: list[Path] = []
    for part in ("train", "val") if split == "all" else (split,):
        found = list_photos(root / STIMULI / part)
        photos += found
        maps += partners(found, root / MAPS / part, "map")
    return MapDataset(name, split, tuple(photos), tuple(maps), any_scale=True)
