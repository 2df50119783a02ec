"""Data sets by name, or by the layout of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from supernet.data.dut_omron import is_dut_omron, read_dut_omron
from supernet.data.fixation_csv import find_table, read_fixation_csv
from supernet.data.folder import is_folder, read_folder
from supernet.data.masks import is_masks, read_masks
from supernet.data.osie import is_osie, read_osie
from supernet.data.sample import Dataset, check_split
from supernet.data.synthetic import synthetic
from supernet.errors import DataError

DATA_VARIABLE = "SALNAS_DATA"

Reader = Callable[[Path, str, str], Dataset]

#: Each layout with the test that recognises it, the most specific first.
LAYOUTS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (is_osie, read_osie),
    (is_dut_omron, read_dut_omron),
    (is_masks, read_masks),
    (is_folder, read_folder),
    (lambda root: find_table(root) is not None, read_fixation_csv),
)

NAMED: dict[str, Reader] = {
    "osie": read_osie,
    "mit1003": read_fixation_csv,
    "crowd": read_fixation_csv,
    "dut_omron": read_dut_omron,
    "ecssd": read_masks,
}


def list_datasets() -> tuple[str, ...]:
    """Names that `open_dataset` knows; "synthetic" needs no files."""
    return (*NAMED, "synthetic")


def data_root() -> Path:
    """Where the named sets lie: SALNAS_DATA, else `../shared/data` beside the checkout."""
    configured = os.environ.get(DATA_VARIABLE)
    if configured:
        return Path(configured).expanduser()
    return Path(__file__).resolve().parents[3] / "shared" / "data"


def open_dataset(name_or_dir: str | Path, root: Path | None = None, split: str = "train") -> Dataset:
    """Open a named data set, or a folder whose layout is recognised.

    `split` is train, val or all. A name wins over a folder of the same name; write `./osie` to mean
    the folder. `root` replaces `data_root()` for names. Files are read when a sample is asked for;
    what is missing altogether is told here. Raises DataError with a remedy.
    """
    check_split(split)
    text = str(name_or_dir)
    if text == "synthetic":
        return synthetic(split=split)
    if isinstance(name_or_dir, str) and text in NAMED:
        return NAMED[text](_named_folder(text, root), split, text)
    folder = Path(name_or_dir).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"There is no data set or folder named {text!r}.",
            field="data",
            value=text,
            remedy=f"Use one of {', '.join(list_datasets())}, or the path of a folder.",
        )
    for recognises, read in LAYOUTS:
        if recognises(folder):
            return read(folder, split, folder.resolve().name)
    raise DataError(
        f"The layout of {folder} is not known.",
        field="data",
        value=text,
        remedy="It needs stimuli/ beside maps/, masks/, fixations.csv or fixations.mat.",
    )


def _named_folder(name: str, root: Path | None) -> Path:
    folder = (root or data_root()) / name
    if not folder.is_dir():
        raise DataError(
            f"The data set {name} is not at {folder}.",
            field="data",
            value=name,
            remedy=f"Set {DATA_VARIABLE} to the folder that holds {name}/, or give the folder's path.",
        )
    return folder
