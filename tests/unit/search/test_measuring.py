"""Tables of measured subnets: nothing lost, nothing repeated, failures kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.tables import read_table
from search.executors import InProcess, WorkerLost
from search.measuring import FAILURE, Measure, MeasuredTable
from search.problem import IntArray
from search.synthetic import additive_space
from supernet.errors import DataError, ExportError

SPACE = additive_space(9, 2, 1)
ROWS = np.random.default_rng(0).integers(0, SPACE.sizes, (10, 9))
ABOUT = {"weights": "abc"}


class Counted:
    """The synthetic space as a measurement that counts its calls and can fail."""

    def __init__(self, fails: Sequence[int] = (), dies_at: int | None = None) -> None:
        self.rows: list[list[int]] = []
        self.fails = [ROWS[i].tolist() for i in fails]
        self.dies_at = dies_at

    def __call__(self, rows: IntArray) -> dict[str, Any]:
        for row in rows.tolist():
            if row in self.fails:
                raise ExportError("no such operator")
        if self.dies_at is not None and len(self.rows) >= self.dies_at:
            raise KeyboardInterrupt
        self.rows += rows.tolist()
        return SPACE(rows)


def measurement(function: Counted, at_once: int = 1, columns: Sequence[str] = SPACE.names) -> Measure:
    return Measure(function, tuple(columns), identity=ABOUT, at_once=at_once)


class Unreliable:
    """An executor that loses the worker of some tasks, by their place in a call."""

    workers = 2

    def __init__(self, lost: Sequence[int]) -> None:
        self.lost = list(lost)

    def run(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], *, device: str | None = None
    ) -> Iterator[tuple[int, Any]]:
        order = list(range(len(tasks)))[::-1]
        for index in order:
            if self.lost and index == self.lost[0]:
                self.lost.pop(0)
                raise WorkerLost("it died", index=index)
            yield index, function(tasks[index])


@pytest.mark.parametrize("at_once", [1, 4])
def test_values_are_kept_and_found_again(tmp_path: Path, at_once: int) -> None:
    first = Counted()
    table = MeasuredTable(SPACE, measurement(first, at_once), tmp_path)
    assert sum(table.measure(ROWS[:6], InProcess())) == 6
    second = Counted()
    again = MeasuredTable(SPACE, measurement(second, at_once), tmp_path)
    assert again.holds(ROWS).tolist() == [True] * 6 + [False] * 4
    assert sum(again.measure(ROWS, InProcess())) == 10
    assert first.rows + second.rows == ROWS.tolist()
    for name, column in SPACE(ROWS).items():
        np.testing.assert_array_equal(again.columns(ROWS)[name], column)
    assert read_table(tmp_path / "measured-values.parquet").ids == SPACE.ids(ROWS)


def test_a_kill_costs_at_most_one_call(tmp_path: Path) -> None:
    dying = Counted(dies_at=4)
    with pytest.raises(KeyboardInterrupt):
        list(MeasuredTable(SPACE, measurement(dying, 2), tmp_path).measure(ROWS, InProcess()))
    rest = Counted()
    list(MeasuredTable(SPACE, measurement(rest, 2), tmp_path).measure(ROWS, InProcess()))
    assert dying.rows + rest.rows == ROWS.tolist()


def test_a_subnet_that_fails_is_not_asked_for_again(tmp_path: Path) -> None:
    table = MeasuredTable(SPACE, measurement(Counted(fails=[2]), at_once=4), tmp_path)
    assert sum(table.measure(ROWS, InProcess())) == 10
    failed = np.isnan(table.columns(ROWS)["accuracy"])
    assert np.flatnonzero(failed).tolist() == [2]
    assert table.failures == {SPACE.ids(ROWS[2:3])[0]: "no such operator"}
    stored = read_table(tmp_path / "measured-values.parquet").frame
    assert stored[FAILURE].tolist().count("no such operator") == 1
    second = Counted()
    again = MeasuredTable(SPACE, measurement(second), tmp_path)
    list(again.measure(ROWS, InProcess()))
    assert not second.rows
    assert again.failures == table.failures


def test_a_lost_worker_costs_its_subnet_only() -> None:
    function = Counted()
    table = MeasuredTable(SPACE, measurement(function), None)
    assert sum(table.measure(ROWS, Unreliable([7, 1]))) == 10
    assert len(table.failures) == 2
    assert len(function.rows) == 8
    assert len({tuple(row) for row in function.rows}) == 8


def test_measurements_of_other_weights_are_refused(tmp_path: Path) -> None:
    list(MeasuredTable(SPACE, measurement(Counted()), tmp_path).measure(ROWS[:1], InProcess()))
    other = Measure(Counted(), SPACE.names, identity={"weights": "xyz"})
    with pytest.raises(DataError, match="weights"):
        MeasuredTable(SPACE, other, tmp_path)
    with pytest.raises(DataError, match="fingerprint"):
        MeasuredTable(additive_space_with_other_name(), measurement(Counted()), tmp_path)


def additive_space_with_other_name() -> Any:
    return type(SPACE)(SPACE.tables, name="additive", fingerprint="other")
