"""Data sets by name, or by the layout of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from supernet.data.cat2000 import is_cat2000, read_cat2000
from supernet.data.dut_omron import is_dut_omron, read_dut_omron
from supernet.data.dut_omron_points import is_dut_omron_points, read_dut_omron_points
from supernet.data.fiwi import is_fiwi, read_fiwi
from supernet.data.fixation_csv import find_table, read_fixation_csv
from supernet.data.folder import is_folder, read_folder
from supernet.data.masks import is_masks, read_masks
from supernet.data.mit1003 import is_mit1003, read_mit1003
from supernet.data.osie import is_osie, read_osie
from supernet.data.pascal_s import is_pascal_s, read_pascal_s
from supernet.data.salicon import is_salicon, read_salicon
from supernet.data.sample import Dataset, check_split
from supernet.data.synthetic import synthetic
from supernet.errors import DataError

DATA_VARIABLE = "SALNAS_DATA"

Reader = Callable[[Path, str, str], Dataset]

#: Each layout by name, with the test that recognises it, the most specific first.
LAYOUTS: tuple[tuple[str, Callable[[Path], bool], Reader], ...] = (
    ("OSIE", is_osie, read_osie),
    ("MIT1003", is_mit1003, read_mit1003),
    ("PASCAL-S", is_pascal_s, read_pascal_s),
    ("DUT-OMRON", is_dut_omron_points, read_dut_omron_points),
    ("SALICON", is_salicon, read_salicon),
    ("DUT-OMRON as maps", is_dut_omron, read_dut_omron),
    ("CAT2000", is_cat2000, read_cat2000),
    ("photos with object masks", is_masks, read_masks),
    ("FIWI", is_fiwi, read_fiwi),
    ("photos with maps", is_folder, read_folder),
    ("photos with a table of fixations", lambda root: find_table(root) is not None, read_fixation_csv),
)

#: The sets that have a name, with the reader that says what is missing where no layout is recognised.
NAMED: dict[str, Reader] = {
    "osie": read_osie,
    "mit1003": read_fixation_csv,
    "crowd": read_fixation_csv,
    "dut_omron": read_dut_omron,
    "ecssd": read_masks,
    "salicon": read_salicon,
    "cat2000": read_cat2000,
    "pascal_s": read_pascal_s,
    "fiwi": read_fiwi,
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
        folder = _named_folder(text, root)
        layout = find_layout(folder)
        return (layout[1] if layout else NAMED[text])(folder, split, text)
    folder = Path(name_or_dir).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"There is no data set or folder named {text!r}.",
            field="data",
            value=text,
            remedy=f"Use one of {', '.join(list_datasets())}, or the path of a folder.",
        )
    layout = find_layout(folder)
    if layout:
        return layout[1](folder, split, folder.resolve().name)
    raise DataError(
        f"The layout of {folder} is not known.",
        field="data",
        value=text,
        remedy="It needs stimuli/ beside maps/, masks/, fixations.csv or fixations.mat.",
    )


def find_layout(folder: Path) -> tuple[str, Reader] | None:
    """What the layout of a folder is called, and its reader; None where it is not known."""
    return next(((name, read) for name, recognises, read in LAYOUTS if recognises(folder)), None)


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
