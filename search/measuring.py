"""Subnets measured for real: what a measurement is, and tables that keep every value from the moment it is there.

Notation: n subnets, d genes; rows (n, d).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predictors.tables import append, check_identity, read_table
from search.executors import Executor, WorkerLost
from search.problem import FloatArray, IntArray, SearchSpace, choice_text
from supernet.errors import PredictorError, SalnasError

FAILURE = "failure"
"""Column of a table that says why a subnet could not be measured."""


class Measurement(Protocol):
    """A way to learn some columns of subnets for real."""

    @property
    def name(self) -> str:
        """Part of the name of its table."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """What it measures, by the names that the search uses."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What all its values share, as plain data: weights, photos, device. Values of another are refused."""
        ...

    @property
    def at_once(self) -> int:
        """Subnets of one call; a kill costs at most so many for each worker."""
        ...

    @property
    def device(self) -> str | None:
        """The device that it must run on, alone; None where any machine will do and others may run beside."""
        ...

    def __call__(self, rows: IntArray, /) -> Mapping[str, FloatArray]:
        """(n, d) subnets → the columns (n,). Raises SalnasError where a subnet cannot be measured."""
        ...


@dataclass(frozen=True)
class Measure:
    """A `Measurement` made of a function from rows to columns."""

    function: Callable[[IntArray], Mapping[str, FloatArray]]
    columns: tuple[str, ...]
    name: str = "values"
    identity: Mapping[str, Any] = field(default_factory=dict)
    at_once: int = 1
    device: str | None = None

    def __call__(self, rows: IntArray, /) -> Mapping[str, FloatArray]:
        """See `Measurement`."""
        return self.function(rows)


@dataclass(frozen=True)
class Outcome:
    """Columns of the subnets of one call, NaN where one could not be measured, and why it could not."""

    columns: Mapping[str, FloatArray]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """A measurement that reports a subnet it cannot measure instead of raising."""

    measurement: Measurement

    def __call__(self, rows: IntArray) -> Outcome:
        """(n, d) subnets → their outcome."""
        names = self.measurement.columns
        try:
            found = self.measurement(rows)
            columns = {name: np.asarray(found[name], dtype=np.float64) for name in names}
            return Outcome(columns, ("",) * len(rows))
        except SalnasError as error:
            if len(rows) == 1:
                return failed(names, 1, str(error))
            single = [self(row[None]) for row in rows]
            columns = {name: np.concatenate([one.columns[name] for one in single]) for name in names}
            return Outcome(columns, tuple(one.failures[0] for one in single))


def failed(names: Sequence[str], n: int, why: str) -> Outcome:
    """The outcome of n subnets none of which could be measured."""
    return Outcome({name: np.full(n, math.nan) for name in names}, (why,) * n)


class MeasuredTable:
    """What one measurement found, by subnet; in a file under `directory` too, where there is one.

    A file that is there already is read: its subnets are not measured again. Raises DataError where it holds
    measurements of something else.
    """

    def __init__(self, space: SearchSpace, measurement: Measurement, directory: Path | str | None) -> None:
        self.measurement = measurement
        self._space = space
        self._attempt = Attempt(measurement)
        self._path = None if directory is None else Path(directory) / f"measured-{measurement.name}.parquet"
        self._identity = {
            **measurement.identity,
            "kind": f"measured {measurement.name}",
            "space": space.name,
            "space_fingerprint": space.fingerprint,
        }
        self._values: dict[str, tuple[float, ...]] = {}
        self._failures: dict[str, str] = {}
        if self._path is not None and self._path.exists():
            table = read_table(self._path)
            check_identity(table.identity, self._identity, str(self._path))
            columns = np.column_stack([table.column(name) for name in measurement.columns])
            self._keep(table.ids, columns, table.frame[FAILURE].tolist())

    @property
    def failures(self) -> Mapping[str, str]:
        """Why subnets could not be measured, by id."""
        return self._failures

    def ids(self, rows: IntArray) -> list[str]:
        """(n, d) subnets → their ids."""
        return self._space.ids(rows)

    def holds(self, rows: IntArray) -> NDArray[np.bool_]:
        """(n, d) subnets → (n,) whether they were measured, or could not be."""
        return np.array([identity in self._values for identity in self._space.ids(rows)], dtype=bool)

    def columns(self, rows: IntArray) -> dict[str, FloatArray]:
        """(n, d) measured subnets → their columns (n,), NaN where a subnet could not be measured."""
        names = self.measurement.columns
        values = np.array([self._values[i] for i in self._space.ids(rows)]).reshape(len(rows), len(names))
        return {name: values[:, j] for j, name in enumerate(names)}

    def measure(self, rows: IntArray, executor: Executor) -> Iterator[int]:
        """Measure the subnets (n, d) that are not in the table; yield how many are new in it, again and again.

        A subnet whose worker dies every time counts as one that cannot be measured.
        """
        known = self.holds(rows)
        yield int(known.sum())
        waiting = rows[~known]
        size = max(1, self.measurement.at_once)
        pieces = [waiting[start : start + size] for start in range(0, len(waiting), size)]
        while pieces:
            open_pieces = dict(enumerate(pieces))
            try:
                for index, outcome in executor.run(self._attempt, pieces, device=self.measurement.device):
                    yield self._store(open_pieces.pop(index), outcome)
            except WorkerLost as lost:
                piece = open_pieces.pop(lost.index)
                yield self._store(piece, failed(self.measurement.columns, len(piece), lost.message))
            pieces = list(open_pieces.values())

    def _store(self, rows: IntArray, outcome: Outcome) -> int:
        ids = self._space.ids(rows)
        values = np.column_stack([outcome.columns[name] for name in self.measurement.columns])
        if self._path is not None:
            genes = {
                gene.name: [choice_text(gene.choices[index]) for index in rows[:, g].tolist()]
                for g, gene in enumerate(self._space.genes)
            }
            frame = pd.DataFrame({"id": ids, **genes, **outcome.columns, FAILURE: list(outcome.failures)})
            append(self._path, frame, self._identity)
        self._keep(ids, values, outcome.failures)
        return len(rows)

    def _keep(self, ids: Sequence[str], values: FloatArray, failures: Sequence[str]) -> None:
        for identity, line, failure in zip(ids, values.tolist(), failures, strict=True):
            self._values[identity] = tuple(line)
            if failure:
                self._failures[identity] = failure


class Asker:
    """Has subnets measured, and tells how far that is."""

    def __init__(
        self,
        tables: Sequence[MeasuredTable],
        executor: Executor,
        budget: int,
        on_measured: Callable[[int, int], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._tables = tables
        self._executor = executor
        self._most = budget * len(tables)
        self._done = 0
        self._on_measured = on_measured
        self._should_stop = should_stop
        self.stopped = False

    @property
    def columns(self) -> list[str]:
        """Everything that is measured."""
        return [name for table in self._tables for name in table.measurement.columns]

    def measure(self, rows: IntArray) -> IntArray:
        """Have subnets (n, d) measured; returns those that were, all of them unless it was stopped."""
        for table in self._tables:
            for number in table.measure(rows, self._executor):
                self._done += number
                if self._on_measured is not None and number:
                    self._on_measured(self._done, self._most)
                if self._should_stop is not None and self._should_stop():
                    self.stopped = True
                    return rows[np.all([table.holds(rows) for table in self._tables], axis=0)]
        return rows

    def values(self, rows: IntArray) -> dict[str, FloatArray]:
        """(n, d) measured subnets → all measured columns (n,)."""
        return {name: column for table in self._tables for name, column in table.columns(rows).items()}

    def failures(self, rows: IntArray) -> list[str]:
        """Why each of the subnets (n, d) could not be measured; empty where it could."""
        ids = self._tables[0].ids(rows)
        return ["; ".join(t.failures[i] for t in self._tables if i in t.failures) for i in ids]

    def refusal(self, rows: IntArray) -> PredictorError:
        """What to raise where none of the subnets (n, d) could be measured."""
        return PredictorError(
            f"None of {len(rows)} subnets could be measured.",
            field="measurements",
            value=len(rows),
            remedy=next((why for why in self.failures(rows) if why), "Give a larger budget."),
        )
