"""SALICON (Jiang et al., 2015): mouse traces of many people on photos of COCO.

    stimuli/{train,val}/*.jpg        also named images
    fixations/{train,val}/*.mat      `gaze`: one structure a person with `fixations` (n, 2), x and y from 1
    fixations_{train,val}2014.json   instead of the folder: `images` and `annotations` as COCO has them, each
                                     with `fixations`, rows of row and column from 1
    saliency/{train,val}/*.png       also named maps

Its own two splits are kept. Without maps the density is made from the points.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.data.files import RecordedDataset, list_photos, partners
from supernet.data.matfile import read_mat
from supernet.data.sample import check_split
from supernet.errors import DataError

STIMULI = ("stimuli", "images")
MAPS = ("saliency", "maps")
FIXATIONS = "fixations"
PARTS = ("train", "val")

Points = npt.NDArray[np.float32]


def is_salicon(root: Path) -> bool:
    """Whether `root` has the layout of SALICON."""
    return _folder(root, STIMULI) is not None and (
        all((root / FIXATIONS / part).is_dir() for part in PARTS)
        or all(_annotations(root, part) is not None for part in PARTS)
    )


def read_salicon(root: Path, split: str, name: str = "salicon") -> RecordedDataset:
    """Read its own split; "all" is train followed by val. Raises DataError for missing files."""
    check_split(split)
    stimuli, saliency = _folder(root, STIMULI), _folder(root, MAPS)
    if stimuli is None:
        raise DataError(
            f"{root} lacks stimuli/ or images/.",
            field="data",
            value=str(root),
            remedy="Unpack the photos into images/train and images/val.",
        )
    photos: list[Path] = []
    maps: list[Path] = []
    sources: list[Path] = []
    recorded: dict[str, Points] = {}
    for part in PARTS if split == "all" else (split,):
        found = list_photos(stimuli / part)
        photos += found
        if saliency is not None:
            maps += partners(found, saliency / part, "map")
        table = _annotations(root, part)
        if (root / FIXATIONS / part).is_dir() or table is None:
            sources += partners(found, root / FIXATIONS / part, "file of fixations", suffixes={".mat"})
        else:
            sources += [table] * len(found)
            recorded |= _read_annotations(table)
    return RecordedDataset(
        name,
        split,
        tuple(photos),
        tuple(sources),
        lambda index: _points(photos[index], sources[index], recorded),
        tuple(maps) if saliency is not None else None,
    )


def _folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name / PARTS[0]).is_dir()), None)


def _annotations(root: Path, part: str) -> Path | None:
    names = (f"fixations_{part}2014.json", f"fixations_{part}.json")
    return next((root / name for name in names if (root / name).is_file()), None)


def _points(photo: Path, source: Path, recorded: dict[str, Points]) -> Points:
    if source.suffix == ".mat":
        return points_of_gaze(source)
    return recorded.get(photo.name, np.empty((0, 2), np.float32))


def points_of_gaze(path: Path) -> Points:
    """(n, 2): the fixations of all people in one of SALICON's files, from 0. Raises DataError."""
    gaze: Any = read_mat(path).get("gaze")
    people = gaze if isinstance(gaze, list) else [gaze]
    try:
        parts = [np.asarray(person["fixations"], np.float32).reshape(-1, 2) for person in people]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a file of SALICON: gaze with fixations (n, 2) is missing.",
            field="gaze",
            value=str(path),
            remedy="Download the fixations again.",
        ) from error
    return np.concatenate([np.empty((0, 2), np.float32), *parts]) - 1


def _read_annotations(path: Path) -> dict[str, Points]:
    """File name to fixations (n, 2), x and y from 0."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
        parts: dict[str, list[Points]] = {name: [] for name in names.values()}
        for entry in content["annotations"]:
            rows = np.asarray(entry["fixations"], np.float32).reshape(-1, 2)
            parts[names[entry["image_id"]]].append(rows[:, ::-1] - 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as SALICON's annotations: {type(error).__name__} {error}.",
            field="file",
            value=str(path),
            remedy="It needs images (id, file_name) and annotations (image_id, fixations).",
        ) from error
    return {name: np.concatenate([np.empty((0, 2), np.float32), *found]) for name, found in parts.items()}
