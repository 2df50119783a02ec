"""A user's own photos: `stimuli/` beside `maps/`, grey images of equal stem and size.

Where points were recorded instead, `fixations.csv` takes the place of `maps/` (see fixation_csv).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from supernet.data.files import MapDataset, list_photos, partners
from supernet.data.sample import Dataset, split_indices
from supernet.errors import DataError
from supernet.files import atomic_path

STIMULI = "stimuli"
MAPS = "maps"


def is_folder(root: Path) -> bool:
    """Whether `root` has the layout of photos and maps."""
    return (root / STIMULI).is_dir() and (root / MAPS).is_dir()


def read_folder(root: Path, split: str, name: str) -> MapDataset:
    """Read photos and maps; four of five photos train. Raises DataError for missing files."""
    photos = list_photos(root / STIMULI)
    maps = partners(photos, root / MAPS, "map")
    order = split_indices(len(photos), len(photos) * 4 // 5, split)
    return MapDataset(name, split, tuple(photos[i] for i in order), tuple(maps[i] for i in order))


def write_folder(dataset: Dataset, root: Path) -> None:
    """Write a data set as photos with maps, or with `fixations.csv` where it has points.

    Photos become PNG files. Raises DataError for masks, which this layout cannot hold.
    """
    rows = ["image,x_px,y_px"]
    for index in range(len(dataset)):
        sample = dataset[index]
        stem = Path(sample.name).stem
        with atomic_path(root / STIMULI / f"{stem}.png") as temporary:
            Image.fromarray(sample.image).save(temporary)
        if sample.fixations is not None:
            rows += [f"{stem}.png,{x:.2f},{y:.2f}" for x, y in sample.fixations]
        elif sample.density is not None:
            with atomic_path(root / MAPS / f"{stem}.png") as temporary:
                Image.fromarray(np.rint(sample.density * 255).astype(np.uint8)).save(temporary)
        else:
            raise DataError(
                f"{sample.name} has neither fixations nor a map.",
                field="data",
                value=sample.name,
                remedy="Only saliency data can be written in this layout.",
            )
    if len(rows) > 1:
        with atomic_path(root / "fixations.csv") as temporary:
            temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
