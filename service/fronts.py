"""Stored fronts: a table with predictions, bounds and measured values beside each other; answers to budgets.

A front is kept as Parquet. Beside `id`, the genes and `knee` it has one column for each quantity, and for each
predicted one (say accuracy) also accuracy_low, accuracy_high and accuracy_measured, empty where unknown. The front
of a verified search has measured values in the columns of its quantities, and what was predicted in
accuracy_predicted.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.front import Front
from search.problem import Clause, Objective
from service.estimates import COSTS, ON_DEVICE, Choice, Estimates
from supernet.errors import InvalidConstraint
from supernet.space import Rows

ASIDE = ("low", "high", "measured")
"""What stands beside a predicted quantity: columns such as accuracy_low."""
_META = b"salnas"


@dataclass(frozen=True)
class StoredFront:
    """The front of a search, complete or as far as it got; `predicted` names the columns that have bounds."""

    table: pd.DataFrame
    objectives: tuple[Objective, ...]
    predicted: tuple[str, ...]
    hypervolume: float

    @classmethod
    def empty(cls, objectives: tuple[Objective, ...]) -> StoredFront:
        """The front of a search that has found nothing yet."""
        names = ["id", *(o.name for o in objectives), "knee"]
        return cls(pd.DataFrame({name: [] for name in names}), objectives, (), 0.0)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def knee(self) -> str | None:
        """Id of the knee, None where the front is empty."""
        marked = self.table.loc[self.table["knee"].astype(bool), "id"]
        return None if marked.empty else str(marked.iloc[0])

    def to_bytes(self) -> bytes:
        """Parquet, with objectives and the like in its metadata."""
        arrow = pa.Table.from_pandas(self.table, preserve_index=False)
        meta = {
            "objectives": [[o.name, o.direction] for o in self.objectives],
            "predicted": self.predicted,
            "hypervolume": self.hypervolume,
        }
        arrow = arrow.replace_schema_metadata({**arrow.schema.metadata, _META: json.dumps(meta).encode()})
        stream = io.BytesIO()
        pq.write_table(arrow, stream, compression="zstd")
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> StoredFront:
        """The inverse of `to_bytes`."""
        arrow = pq.read_table(io.BytesIO(content))
        meta = json.loads(arrow.schema.metadata[_META])
        objectives = tuple(Objective(name, direction) for name, direction in meta["objectives"])
        return cls(arrow.to_pandas(), objectives, tuple(meta["predicted"]), meta["hypervolume"])

    def within(self, constraints: Sequence[str]) -> StoredFront:
        """The subnets inside the bounds; InvalidConstraint, or InfeasibleBudget saying what is possible."""
        kept = Front(self.table, self.objectives).within(constraints)
        return replace(self, table=kept.table)

    def best(self, k: int) -> StoredFront:
        """The k best subnets by the first objective, best first."""
        kept = Front(self.table, self.objectives).best(k)
        return replace(self, table=kept.table)

    def subnets(self) -> list[dict[str, Any]]:
        """Plain data for each subnet: predicted quantities with bounds, exact ones as numbers, resolution."""
        aside = {f"{name}_{part}" for name in self.predicted for part in ("predicted", *ASIDE)}
        quantities = [str(c) for c in self.table.columns if c not in aside and _is_quantity(str(c), self)]
        columns = {str(name): self.table[name].tolist() for name in self.table.columns}
        return [
            {
                "id": columns["id"][i],
                "resolution": _height_width(columns["resolution"][i]),
                **{name: self._quantity(columns, name, i) for name in quantities},
                "knee": bool(columns["knee"][i]),
            }
            for i in range(len(self.table))
        ]

    def _quantity(self, columns: dict[str, list[Any]], name: str, i: int) -> Any:
        if name not in self.predicted:
            return int(columns[name][i]) if name in COSTS else columns[name][i]
        said = columns.get(f"{name}_predicted", columns[name])
        parts = {"predicted": said[i], **{part: columns[f"{name}_{part}"][i] for part in ASIDE}}
        return {
            part: value if value is not None and np.isfinite(value) else None for part, value in parts.items()
        }


def annotated(
    front: Front, rows: Rows, estimates: Estimates, choice: Choice, hypervolume: float
) -> StoredFront:
    """A front found by a search, `rows` (n, d) its genotypes in order, with every quantity that is known."""
    table = front.table
    known = estimates.columns(choice)
    shown = [str(name) for name in table.columns if name in known]
    wanted = list(dict.fromkeys([*shown, *(n for n in ("accuracy", *ON_DEVICE) if n in known), *COSTS]))
    predicted = tuple(name for name in wanted if estimates.is_predicted(name))
    added: dict[str, Any] = {
        name: column
        for name, column in estimates.evaluate(rows, wanted, choice).items()
        if name not in table.columns
    }
    for name in predicted:
        interval = estimates.predictor(name, choice).predict(rows)
        measured = estimates.measured.get(estimates.full_name(name, choice), {})
        added[f"{name}_low"] = interval.low
        added[f"{name}_high"] = interval.high
        known_values = [measured.get(identity, np.nan) for identity in table["id"]]
        added[f"{name}_measured"] = table[name] if f"{name}_predicted" in table else known_values
    return StoredFront(table.assign(**added), front.objectives, predicted, hypervolume)


class BudgetIndex:
    """The subnets of several fronts, ready to answer budgets in well under a millisecond."""

    def __init__(self, fronts: Iterable[StoredFront]) -> None:
        self.fronts = tuple(fronts)
        merged = pd.concat([f.table for f in self.fronts], ignore_index=True)
        self._table = merged.drop_duplicates("id", ignore_index=True)
        first = self.fronts[0]
        self._whole = StoredFront(self._table, first.objectives, first.predicted, first.hypervolume)
        self._columns: dict[str, NDArray[Any]] = {
            str(name): self._table[name].to_numpy() for name in self._table.columns
        }

    @cached_property
    def _subnets(self) -> list[dict[str, Any]]:
        return self._whole.subnets()

    def best(self, constraints: Sequence[str], k: int, by: Objective) -> list[dict[str, Any]]:
        """The k best subnets by one quantity inside the bounds, best first.

        Raises InvalidConstraint, InfeasibleBudget (says what is possible).
        """
        if by.name not in self._columns or not _is_known(self._columns[by.name]):
            raise InvalidConstraint(
                f"The stored front has no {by.name!r}.",
                field="by",
                value=by.name,
                remedy=f"Known: {', '.join(n for n, c in self._columns.items() if _is_known(c))}.",
            )
        mask = np.ones(len(self._table), dtype=bool)
        for text in constraints:
            mask &= self._mask(Clause.parse(text))
        places = np.flatnonzero(mask)
        if not len(places):
            self._whole.within(constraints)
        order = np.argsort(by.sign * self._columns[by.name][places], kind="stable")[:k]
        return [self._subnets[i] for i in places[order].tolist()]

    def _mask(self, clause: Clause) -> NDArray[np.bool_]:
        column = self._columns.get(clause.name)
        bound = _number(clause.value)
        if column is None or bound is None or not _is_number(column) or clause.relation not in ("<=", ">="):
            kept = set(self._whole.within([clause.text]).table["id"])
            return np.array([identity in kept for identity in self._columns["id"]])
        return np.asarray(column <= bound if clause.relation == "<=" else column >= bound)


def _is_quantity(name: str, front: StoredFront) -> bool:
    return name in COSTS or name in front.predicted or any(o.name == name for o in front.objectives)


def _is_number(column: NDArray[Any]) -> bool:
    return column.dtype.kind in "iuf"


def _is_known(column: NDArray[Any]) -> bool:
    """Whether subnets can be put in order by it: where nothing was measured, a column is empty."""
    return _is_number(column) and bool(np.isfinite(column).any())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _height_width(text: str) -> list[int]:
    width, height = str(text).split("x")
    return [int(height), int(width)]
