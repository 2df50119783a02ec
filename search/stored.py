"""Fronts on disk under any of their forms: the folder of a search, or a table of one as CSV or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.front import Front
from search.problem import Objective
from search.record import Manifest, Record, load_manifest, load_record
from supernet.errors import CheckpointError, InvalidConstraint, SalnasError

TABLES = (".csv", ".parquet")
USUAL = ("accuracy", "latency_ms")
"""Objectives of a table that says nothing of them."""


@dataclass(frozen=True)
class SavedFront:
    """A front that was read back, and the manifest of its search where there is one."""

    path: Path
    front: Front
    manifest: Manifest | None

    @property
    def request(self) -> Mapping[str, Any]:
        """What its search was asked for, empty where that is unknown."""
        return {} if self.manifest is None else self.manifest.provenance.get("request", {})


def open_front(path: Path | str, objectives: Sequence[str] = ()) -> SavedFront:
    """Read a front. `objectives`, as users write them, are looked at instead of those it was searched for.

    A table beside the manifest of a search has its objectives; any other is taken to be over accuracy and
    latency_ms. Raises CheckpointError (nothing there, a search that has not finished, a file that is no front) and
    InvalidConstraint (an objective that it has no numbers of).
    """
    place = Path(path)
    if place.suffix in TABLES and not place.is_dir():
        found = _table(place)
        manifest = _manifest_beside(place)
    else:
        record = load_record(place)
        found, manifest = require_front(record).table, record.manifest
    wanted = tuple(Objective.parse(text) for text in objectives or USUAL)
    if not objectives and manifest is not None:
        wanted = manifest.objectives
    _require_numbers(place, found, wanted)
    return SavedFront(place, Front(found, wanted), manifest)


def require_front(record: Record | SavedFront) -> Front:
    """Its front; CheckpointError where the search has not finished."""
    if record.front is None:
        place = record.directory if isinstance(record, Record) else record.path
        raise CheckpointError(
            f"The search in {place} has not finished.",
            field="directory",
            value=str(place),
            remedy="Continue it with `salnas search --resume --out …` and the options it was started with.",
        )
    return record.front


def open_fronts(paths: Sequence[Path], objectives: Sequence[str] = ()) -> dict[str, SavedFront]:
    """Several fronts by name: that of the folder or file where these differ, else the whole path."""
    stored = [open_front(path, objectives) for path in paths]
    short = [_name(one.path.absolute()) for one in stored]
    names = short if len(set(short)) == len(short) and all(short) else [str(one.path) for one in stored]
    if len(set(names)) < len(names):
        raise InvalidConstraint(
            "The same front is named twice.", field="front", value=names, remedy="Name each of them once."
        )
    return dict(zip(names, stored, strict=True))


def _name(path: Path) -> str:
    """Of a folder its name; of a table that too where it is the front of the search there, else the table's."""
    if path.suffix not in TABLES:
        return path.name
    return path.parent.name if path.stem == "front" else path.stem


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}.",
            field="front",
            value=str(path),
            remedy="Give the folder of a search, or its front as CSV or Parquet.",
        ) from error
    if "id" not in table.columns or not len(table):
        raise CheckpointError(
            f"{path} is no front: it has no subnets by id.",
            field="front",
            value=str(path),
            remedy="Give the folder of a search, or its front as CSV or Parquet.",
        )
    return table


def _manifest_beside(path: Path) -> Manifest | None:
    try:
        return load_manifest(path.parent)
    except SalnasError:
        return None


def _require_numbers(path: Path, table: pd.DataFrame, objectives: Sequence[Objective]) -> None:
    numbers = [str(name) for name in table.select_dtypes("number").columns]
    for objective in objectives:
        if objective.name not in numbers or not np.isfinite(table[objective.name]).all():
            raise InvalidConstraint(
                f"{path} has no numbers of {objective.name}.",
                field="objectives",
                value=objective.name,
                remedy=f"Choose among {', '.join(numbers)}.",
            )
