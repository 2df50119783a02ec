"""Tables of measured subnets: Parquet files that only grow, are always whole, and say where they come from.

A table has a column `id`, one column for each gene (its value, resolutions as `256x192`) and columns of
measurements. Its identity (what was measured, on what) is stored in the file and must be equal for all rows; each
addition leaves a line in its history. Rows are found again by `id`, so a collection goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from predictors.estimate import FloatArray
from supernet.errors import DataError
from supernet.files import atomic_path
from supernet.space import Rows, Space

_KEY = b"salnas"
FORMAT = "salnas-measurements-1"


@dataclass(frozen=True, eq=False)
class Table:
    """Measured subnets: one line each, the identity they share, and the history of additions."""

    frame: pd.DataFrame
    identity: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def ids(self) -> list[str]:
        """The ids of all subnets, in the order of the lines."""
        return [str(value) for value in self.frame["id"]]

    def rows(self, space: Space) -> Rows:
        """(n, d) genotypes; DataError where the table is of another space."""
        check_identity(self.identity, {"space_fingerprint": space.fingerprint}, "the space")
        return rows_of_ids(space, self.ids)

    def column(self, name: str) -> FloatArray:
        """(n,) a measurement; DataError where there is no such column."""
        if name not in self.frame:
            raise DataError(
                f"The table has no column {name!r}.",
                field=name,
                value=list(self.frame.columns)[:40],
                remedy="Measure again with this version.",
            )
        return self.frame[name].to_numpy(np.float64)


def rows_of_ids(space: Space, ids: Sequence[str]) -> Rows:
    """n ids → (n, d) genotypes; InvalidArch names an id that is none."""
    rows = [space.row_of_id(identity) for identity in ids]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(space.genes))


def gene_columns(space: Space, rows: Rows) -> dict[str, Any]:
    """`id` and the value of every gene, for people who read the table."""
    found: dict[str, Any] = {"id": space.ids(rows)}
    for j, gene in enumerate(space.genes):
        values = [f"{c[1]}x{c[0]}" if gene.name == "resolution" else c for c in gene.choices]
        found[gene.name] = [values[i] for i in rows[:, j]]
    return found


def read_table(path: Path | str) -> Table:
    """The table at `path`; DataError where it is missing, damaged or foreign."""
    try:
        with Path(path).open("rb") as stream:
            content = pq.read_table(stream)
        stored = json.loads((content.schema.metadata or {})[_KEY])
    except FileNotFoundError as error:
        raise _refused(
            path, f"There is no table at {path}.", "Measure subnets with `make predictors`."
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise _refused(
            path,
            f"{path} cannot be read as a table of measurements: {error}.",
            "Restore the file or measure again.",
        ) from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or "id" not in content.column_names:
        raise _refused(path, f"{path} is Parquet, but not a table of this program.", "Give another path.")
    return Table(content.to_pandas(), stored["identity"], tuple(stored["history"]))


def known_ids(path: Path | str, identity: Mapping[str, Any]) -> set[str]:
    """Ids that are measured already; none where there is no file. DataError where its identity differs."""
    if not Path(path).exists():
        return set()
    table = read_table(path)
    check_identity(table.identity, identity, str(path))
    return set(table.ids)


def append(path: Path | str, frame: pd.DataFrame, identity: Mapping[str, Any], command: str = "") -> Table:
    """Add the lines of `frame` whose ids are new to the table at `path`, which is made where there is none.

    Several processes may add at once. The file is replaced as a whole: whoever dies leaves it as it was.
    """
    with _locked(Path(path).parent):
        if Path(path).exists():
            old = read_table(path)
            check_identity(old.identity, identity, str(path))
            fresh = frame[~frame["id"].isin(old.ids)]
            merged = pd.concat([old.frame, fresh], ignore_index=True)
            table = Table(merged, old.identity, _extended(old.history, command, len(fresh)))
        else:
            table = Table(frame.reset_index(drop=True), dict(identity), _extended((), command, len(frame)))
        _write(path, table)
    return table


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """DataError unless every entry of `wanted` is in `found` with the same value."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise DataError(
                f"The measurements differ from {where} in {name}: {found.get(name)!r}, not {value!r}.",
                field=name,
                value=found.get(name),
                remedy="Measure into a new file, or remove the old one.",
            )


def _extended(
    history: tuple[Mapping[str, Any], ...], command: str, rows: int
) -> tuple[Mapping[str, Any], ...]:
    """One line per command and day, so that a thousand small additions do not make a thousand lines."""
    line = {"command": command, "date": datetime.now(UTC).date().isoformat()}
    others = tuple(old for old in history if {**old, **line} != old)
    before = sum(old["rows"] for old in history if old not in others)
    return (*others, {**line, "rows": before + rows})


def _write(path: Path | str, table: Table) -> None:
    content = pa.Table.from_pandas(table.frame, preserve_index=False)
    stored = {"format": FORMAT, "identity": dict(table.identity), "history": list(table.history)}
    metadata = {**(content.schema.metadata or {}), _KEY: json.dumps(stored).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(content.replace_schema_metadata(metadata), temporary, compression="zstd")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes that add to its tables; a dead holder lets go."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _refused(path: Path | str, message: str, remedy: str) -> DataError:
    return DataError(message, field="table", value=str(path), remedy=remedy)
