"""OSIE (Xu et al., 2014): `fixations.mat` beside a folder `stimuli`.

The file is the original one: a cell for each photo with `img` (its name) and `subjects`, each with
`fix_x`, `fix_y` and `fix_duration`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.data.files import FixationDataset
from supernet.data.matfile import read_mat
from supernet.data.sample import split_indices
from supernet.errors import DataError

FIXATIONS = "fixations.mat"
STIMULI = "stimuli"


def is_osie(root: Path) -> bool:
    """Whether `root` has the layout of OSIE."""
    return (root / FIXATIONS).is_file() and (root / STIMULI).is_dir()


def read_osie(root: Path, split: str, name: str = "osie") -> FixationDataset:
    """Read a folder in OSIE's layout; five of seven photos train (500 of the original 700).

    Raises DataError that names the missing file or the broken key.
    """
    fixations = _read_mat(root / FIXATIONS)
    names = sorted(fixations)
    order = split_indices(len(names), len(names) * 5 // 7, split)
    photos = tuple(root / STIMULI / names[i] for i in order)
    for photo in photos:
        if not photo.is_file():
            raise DataError(
                f"{root / FIXATIONS} speaks of {photo.name}, which {photo.parent} does not hold.",
                field="stimuli",
                value=photo.name,
                remedy="Unpack the data set again.",
            )
    return FixationDataset(name, split, photos, tuple(fixations[p.name] for p in photos), binary=True)


def _read_mat(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """File name to fixations (n, 2), all viewers one after the other."""
    content = read_mat(path)
    entries = _as_list(_get(content, "fixations", path))
    return {_file_name(entry, path): _points(entry, path) for entry in entries}


def _file_name(entry: Any, path: Path) -> str:
    # Only the last part: a file from elsewhere must not lead out of the folder of stimuli.
    return Path(str(_get(entry, "img", path)).replace("\\", "/")).name


def _points(entry: Any, path: Path) -> npt.NDArray[np.float32]:
    parts = [np.empty((0, 2), np.float32)]
    for subject in _as_list(_get(entry, "subjects", path)):
        x, y = (_coordinates(subject, key, path) for key in ("fix_x", "fix_y"))
        if x.shape != y.shape:
            raise DataError(
                f"{path} has {x.size} x and {y.size} y coordinates for one viewer of {entry['img']}.",
                field="fix_x",
                value=[x.size, y.size],
                remedy="Download the data set again.",
            )
        parts.append(np.stack([x, y], axis=1))
    return np.concatenate(parts)


def _coordinates(subject: Any, key: str, path: Path) -> npt.NDArray[np.float32]:
    """(n,) pixels."""
    try:
        values = np.asarray(_get(subject, key, path), dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise _not_numbers(key, path) from error
    if (values.size and max(values.shape, default=1) != values.size) or not np.isfinite(values).all():
        raise _not_numbers(key, path)
    return values.ravel()


def _not_numbers(key: str, path: Path) -> DataError:
    return DataError(
        f"{path} has a {key} that is not a row of finite numbers.",
        field=key,
        value=str(path),
        remedy="Download the data set again.",
    )


def _as_list(value: Any) -> list[Any]:
    # A structure of one element stands for itself.
    return value if isinstance(value, list) else [value]


def _get(entry: Any, key: str, path: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(
            f"{path} lacks the key {key!r}.",
            field=key,
            value=str(path),
            remedy="It must be OSIE's fixations.mat: cells with img and subjects (fix_x, fix_y).",
        )
    return entry[key]
