from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predictors.tables import append, gene_columns, known_ids, read_table, rows_of_ids
from supernet.errors import DataError, InvalidArch
from supernet.space import Space, get_space

IDENTITY = {"kind": "test", "space_fingerprint": get_space("tiny").fingerprint, "photos": [1, 2]}


def frame_of(space: Space, ranks: list[int], value: float = 1.0) -> pd.DataFrame:
    rows = space.rows_of_indices(np.array(ranks, dtype=np.int64))
    return pd.DataFrame({**gene_columns(space, rows), "cc": [value] * len(ranks)})


def test_rows_and_columns_come_back(tmp_path: Path, tiny: Space) -> None:
    path = tmp_path / "deep" / "table.parquet"
    append(path, frame_of(tiny, [5, 9]), IDENTITY, "python -m test")
    table = read_table(path)
    assert tiny.indices(table.rows(tiny)).tolist() == [5, 9]
    assert table.column("cc").tolist() == [1.0, 1.0]
    assert table.identity == IDENTITY
    assert [(line["command"], line["rows"]) for line in table.history] == [("python -m test", 2)]
    assert set(table.frame["resolution"]) <= {"32x32", "64x64"}
    assert set(table.frame["mb2.kernel"]) <= {3, 5}


def test_lines_are_added_once(tmp_path: Path, tiny: Space) -> None:
    path = tmp_path / "table.parquet"
    append(path, frame_of(tiny, [1, 2]), IDENTITY, "one")
    append(path, frame_of(tiny, [2, 3], value=7.0), IDENTITY, "one")
    append(path, frame_of(tiny, [4]), IDENTITY, "two")
    table = append(path, frame_of(tiny, [6, 7]), IDENTITY, "one")
    assert tiny.indices(table.rows(tiny)).tolist() == [1, 2, 3, 4, 6, 7]
    assert table.column("cc").tolist() == [1.0, 1.0, 7.0, 1.0, 1.0, 1.0]
    assert [(line["command"], line["rows"]) for line in table.history] == [("two", 1), ("one", 5)]
    assert known_ids(path, IDENTITY) == set(table.ids)
    assert known_ids(tmp_path / "none.parquet", IDENTITY) == set()


def test_other_measurements_are_refused(tmp_path: Path, tiny: Space) -> None:
    path = tmp_path / "table.parquet"
    append(path, frame_of(tiny, [1]), IDENTITY)
    other = IDENTITY | {"photos": [3]}
    for act in (lambda: append(path, frame_of(tiny, [2]), other), lambda: known_ids(path, other)):
        with pytest.raises(DataError, match="photos") as caught:
            act()
        assert caught.value.field == "photos"
        assert caught.value.remedy
    with pytest.raises(DataError, match="space_fingerprint"):
        read_table(path).rows(get_space("salnas"))
    assert len(read_table(path)) == 1


def test_damaged_and_foreign_files_are_refused(tmp_path: Path, tiny: Space) -> None:
    with pytest.raises(DataError, match="There is no table"):
        read_table(tmp_path / "none.parquet")
    path = tmp_path / "table.parquet"
    append(path, frame_of(tiny, [1]), IDENTITY)
    content = path.read_bytes()
    for damaged in (b"", b"id,cc\n", content[: len(content) // 2], content[:-3]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read"):
            read_table(path)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(DataError):
        read_table(path)


def test_a_missing_column_is_named(tmp_path: Path, tiny: Space) -> None:
    table = append(tmp_path / "table.parquet", frame_of(tiny, [1]), IDENTITY)
    with pytest.raises(DataError, match="'nss'"):
        table.column("nss")


def test_ids_of_another_space_are_refused(tiny: Space) -> None:
    assert rows_of_ids(tiny, []).shape == (0, len(tiny.genes))
    with pytest.raises(InvalidArch):
        rows_of_ids(tiny, ["salnas-00000000"])


def add_ten(path: Path, start: int) -> None:
    for rank in range(start, start + 10):
        append(path, frame_of(get_space("tiny"), [rank]), IDENTITY, f"from {start}")


def test_processes_add_at_once_without_losing_a_line(tmp_path: Path, tiny: Space) -> None:
    path = tmp_path / "table.parquet"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_ten, args=(path, start)) for start in (0, 100, 105)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    expected = sorted({*range(10), *range(100, 115)})
    assert sorted(tiny.indices(read_table(path).rows(tiny)).tolist()) == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.parquet"]
