"""Photos in `stimuli` and all fixations in one table, `fixations.csv` or `fixations.csv.gz`.

Columns `image`, `x_px`, `y_px` are needed, in pixels of the stored photo; others (subject,
duration_ms) are passed over. MIT1003 (Judd et al., 2009) and Saliency in Crowd (Jiang et al., 2014)
come in this form, and a user's own eye-tracking data can.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from array import array
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from supernet.data.files import FixationDataset
from supernet.data.sample import split_indices
from supernet.errors import DataError

STIMULI = "stimuli"
TABLES = ("fixations.csv.gz", "fixations.csv")

#: Share of the photos that train, for the sets that have published numbers; else four of five.
TRAIN_SHARES = {"mit1003": Fraction(803, 1003), "crowd": Fraction(400, 500)}
DEFAULT_TRAIN_SHARE = Fraction(4, 5)


def find_table(root: Path) -> Path | None:
    """The table of fixations in `root`, or None."""
    return next((root / name for name in TABLES if (root / name).is_file()), None)


def read_fixation_csv(root: Path, split: str, name: str) -> FixationDataset:
    """Read a folder with a table of fixations. Raises DataError naming the file and line at fault."""
    table = find_table(root)
    if table is None or not (root / STIMULI).is_dir():
        raise DataError(
            f"{root} lacks {STIMULI}/ or {TABLES[0]}.",
            field="data",
            value=str(root),
            remedy="Both are needed: the photos, and a table with the columns image, x_px and y_px.",
        )
    fixations = read_points(root)
    names = sorted(fixations)
    n_train = int(len(names) * TRAIN_SHARES.get(name, DEFAULT_TRAIN_SHARE))
    photos = tuple(root / STIMULI / names[i] for i in split_indices(len(names), n_train, split))
    if absent := [photo.name for photo in photos if not photo.is_file()]:
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DataError(
            f"{table} speaks of {absent[0]}{others}, which {root / STIMULI} does not hold.",
            field="image",
            value=absent[0],
            remedy="Add the photo, or remove its rows.",
        )
    return FixationDataset(name, split, photos, tuple(fixations[p.name] for p in photos))


def read_points(root: Path) -> dict[str, npt.NDArray[np.float32]]:
    """File name to fixations (n, 2), of the table in `root`. Raises DataError naming the line at fault."""
    path = find_table(root) or root / TABLES[0]
    points: dict[str, array[float]] = {}
    rows = csv.reader(_read_text(path).splitlines())
    image, x, y = _columns(next(rows, []), path)
    try:
        for row in rows:
            if row:
                points.setdefault(row[image], array("f")).extend((float(row[x]), float(row[y])))
    except (ValueError, IndexError, csv.Error) as error:
        raise DataError(
            f"{path}, line {rows.line_num}: {error}.",
            field="fixations",
            value=rows.line_num,
            remedy="Each row needs an image and two numbers, x_px and y_px.",
        ) from error
    if not points:
        raise DataError(
            f"{path} has no rows.", field="fixations", value=str(path), remedy="Add fixations to the table."
        )
    return {name: _as_points(name, values, path) for name, values in points.items()}


def _as_points(name: str, values: array[float], path: Path) -> npt.NDArray[np.float32]:
    points = np.frombuffer(values, dtype=np.float32).reshape(-1, 2)
    if Path(name).name != name or not np.isfinite(points).all():
        raise DataError(
            f"{path} has a fixation that is not finite, or a path instead of a name, for {name!r}.",
            field="fixations",
            value=name,
            remedy="Use file names without folders and plain numbers.",
        )
    return points


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}.",
            field="file",
            value=str(path),
            remedy="The file may be truncated; get it again.",
        ) from error


def _columns(header: list[str], path: Path) -> tuple[int, int, int]:
    missing = [column for column in ("image", "x_px", "y_px") if column not in header]
    if missing:
        raise DataError(
            f"{path} lacks the column {missing[0]!r}.",
            field=missing[0],
            value=header,
            remedy="The first line must name image, x_px and y_px.",
        )
    return header.index("image"), header.index("x_px"), header.index("y_px")
