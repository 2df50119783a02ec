"""Pareto dominance, hypervolume, knee, the exact front of additive problems, and fronts as tables.

Notation: F is (n, m) float64, all objectives minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search.problem import Clause, FloatArray, IntArray, Objective, SearchSpace, choice_text
from supernet.errors import InfeasibleBudget, InvalidConstraint

MOST_ATTAINED = 3
"""Most objectives over which attainment is computed."""


def pareto_ranks(F: FloatArray) -> IntArray:
    """(n, m) → (n,) ranks, 0 for nondominated points; equal points share a rank."""
    if not len(F):
        return np.zeros(0, dtype=np.int64)
    ranks: IntArray = moocore.pareto_rank(F).astype(np.int64)
    return ranks


def nondominated(F: FloatArray) -> NDArray[np.bool_]:
    """(n, m) → (n,) mask of the points no other point dominates; of equal points only the first."""
    mask: NDArray[np.bool_] = moocore.is_nondominated(F)
    return mask


def hypervolume(F: FloatArray, reference: FloatArray, scale: FloatArray) -> float:
    """Volume dominated by F up to `reference` (m,), with objective j measured in units of `scale[j]`."""
    if not len(F):
        return 0.0
    return float(moocore.hypervolume(F / scale, ref=reference / scale))


def crowding_distances(F: FloatArray, ranks: IntArray) -> FloatArray:
    """(n, m), (n,) ranks → (n,) crowding distance of each point within its rank (Deb et al. 2002, NSGA-II).

    Infinite for a point at an end of any objective.
    """
    n, m = F.shape
    distances = np.zeros(n)
    if not n:
        return distances
    for j in range(m):
        order = np.lexsort((F[:, j], ranks))
        value, group = F[order, j], ranks[order]
        change = np.flatnonzero(group[1:] != group[:-1])
        start = np.concatenate(([0], change + 1))
        end = np.concatenate((change, [n - 1]))
        span = np.repeat(value[end] - value[start], end - start + 1)
        gap = np.zeros(n)
        gap[1:-1] = value[2:] - value[:-2]
        gap /= np.where(span > 0, span, 1.0)
        gap[start] = gap[end] = np.inf
        distances[order] += gap
    return distances


def knee_index(F: FloatArray) -> int:
    """Index of the knee of a front: farthest below the plane through its extremes on the unit box.

    With each objective scaled to 0…1 that plane is Σ = 1, so the knee has the least sum (Das 1999, On
    characterizing the knee of the Pareto curve).
    """
    span = np.ptp(F, axis=0)
    return int(((F - F.min(axis=0)) / np.where(span > 0, span, 1.0)).sum(axis=1).argmin())


def exact_additive_front(tables: Sequence[FloatArray]) -> tuple[FloatArray, IntArray]:
    """The whole front where each objective is a sum over genes, by dynamic programming gene after gene.

    `tables[g]` is (choices of gene g, m): what each choice adds, minimised. Returns the front F (k, m) sorted
    by the first objective, and one row (k, genes) that attains each point. Exact because a dominated partial
    sum stays dominated whatever is added.
    """
    F = np.zeros((1, tables[0].shape[1]))
    rows = np.zeros((1, 0), dtype=np.int64)
    for table in tables:
        summed = (F[:, None] + table[None]).reshape(-1, F.shape[1])
        keep = np.flatnonzero(nondominated(summed))
        F = summed[keep]
        rows = np.hstack([rows[keep // len(table)], (keep % len(table))[:, None]])
    order = np.lexsort(F.T[::-1])
    return F[order], rows[order]


@dataclass(frozen=True)
class Front:
    """A Pareto front as a table: one row per subnet with `id`, its genes, its columns, and `knee`."""

    table: pd.DataFrame
    objectives: tuple[Objective, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def F(self) -> FloatArray:
        """(n, m) objectives, minimised."""
        return np.column_stack(
            [o.sign * self.table[o.name].to_numpy(np.float64) for o in self.objectives]
        ).reshape(len(self.table), len(self.objectives))

    @property
    def knee(self) -> str | None:
        """Id of the knee, None where the front is empty."""
        return str(self.table["id"].iloc[knee_index(self.F)]) if len(self) else None

    def rows(self, space: SearchSpace) -> IntArray:
        """(n, d) genotypes in the order of the table, read from the columns of the genes.

        Raises InvalidConstraint where the front is of another space.
        """
        rows = np.empty((len(self.table), len(space.genes)), dtype=np.int64)
        for g, gene in enumerate(space.genes):
            index = {_table_value(choice): i for i, choice in enumerate(gene.choices)}
            try:
                rows[:, g] = [index[value] for value in self.table[gene.name].tolist()]
            except KeyError as error:
                raise InvalidConstraint(
                    f"The front does not belong to space {space.name}: {gene.name} has no {error}.",
                    field="front",
                    value=gene.name,
                    remedy="Read it with the space that its search names.",
                ) from error
        return rows

    def within(self, constraints: Sequence[str]) -> Front:
        """The subnets that satisfy bounds such as `latency_ms<=30`, the knee marked anew.

        Raises InvalidConstraint (unknown column), InfeasibleBudget (none left; says what is possible).
        """
        kept = self.table
        for text in constraints:
            kept = _bounded(kept, Clause.parse(text), self.table)
        return Front(_with_knee(kept, Front(kept, self.objectives)), self.objectives)

    def best(self, k: int, by: str | None = None) -> Front:
        """The k best subnets by the column `by` (default: the first objective), best first."""
        name = by or self.objectives[0].name
        known = {o.name: o for o in self.objectives}
        objective = known.get(name) or Objective.parse(name)
        ordered = self.table.sort_values(name, ascending=objective.direction == "min", kind="stable")
        return Front(ordered.head(k).reset_index(drop=True), self.objectives)

    def hypervolume(self, reference: FloatArray, scale: FloatArray | None = None) -> float:
        """Dominated volume up to `reference` (m,), minimised, in units of `scale` (m,)."""
        return hypervolume(self.F, reference, np.ones_like(reference) if scale is None else scale)


def compare(fronts: Mapping[str, Front]) -> pd.DataFrame:
    """Compare fronts over equal objectives: size, hypervolume in one common box, and what each contributes.

    The box reaches from the best to the worst value of all fronts, 1 % beyond the worst; `share` is the share
    of the front's points on the joint front; `hypervolume` of the joint front is 1; `knee` is an id.
    """
    together, reference, span = _common_box(list(fronts.values()))
    whole = hypervolume(together, reference, span)
    best = moocore.is_nondominated(together, keep_weakly=True)
    lines, start = [], 0
    for name, front in fronts.items():
        own = best[start : start + len(front)]
        start += len(front)
        lines.append(
            {
                "front": name,
                "subnets": len(front),
                "hypervolume": front.hypervolume(reference, span) / whole,
                "share": float(own.mean()) if len(own) else 0.0,
                "knee": front.knee,
            }
        )
    return pd.DataFrame(lines)


def _common_box(fronts: Sequence[Front]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """All points (n, m) of some fronts, the reference point (m,) and the scale (m,) of the box around them."""
    if len({front.objectives for front in fronts}) != 1:
        raise InvalidConstraint(
            "Fronts over different objectives cannot be compared.",
            field="objectives",
            value=sorted({",".join(o.name for o in front.objectives) for front in fronts}),
            remedy="Name the objectives that all of them have.",
        )
    together = np.vstack([front.F for front in fronts])
    span = np.where(np.ptp(together, axis=0) > 0, np.ptp(together, axis=0), 1.0)
    return together, together.max(axis=0) + 0.01 * span, span


def front_table(
    space: SearchSpace,
    rows: IntArray,
    columns: Mapping[str, NDArray[Any]],
    objectives: tuple[Objective, ...],
    ids: Callable[[IntArray], list[str]] | None = None,
) -> Front:
    """Rows (n, d) and their columns (n,) → a front sorted by its second objective, then by the others."""
    table: dict[str, Any] = {"id": (ids or space.ids)(rows)}
    for g, gene in enumerate(space.genes):
        values = [_table_value(choice) for choice in gene.choices]
        table[gene.name] = [values[index] for index in rows[:, g].tolist()]
    table.update({name: np.asarray(column) for name, column in columns.items()})
    order = [objectives[1], objectives[0], *objectives[2:]]
    frame = pd.DataFrame(table).sort_values(
        [o.name for o in order] + ["id"], ascending=[o.direction == "min" for o in order] + [True]
    )
    frame = frame.reset_index(drop=True)
    return Front(_with_knee(frame, Front(frame, objectives)), objectives)


def attainment(fronts: Sequence[Front], percentiles: Sequence[float] = (25, 50, 75)) -> pd.DataFrame:
    """Empirical attainment surfaces of several runs over the same two or three objectives.

    Each point of the surface of a percentile is attained (equalled or dominated) by that share of the runs; 0 is
    attained by at least one. Columns: the objectives, in their own units, and `percentile`. Grunert da Fonseca
    et al. 2001.
    """
    objectives = fronts[0].objectives
    if any(front.objectives != objectives for front in fronts) or len(objectives) > MOST_ATTAINED:
        raise InvalidConstraint(
            "Attainment needs fronts over the same two or three objectives.",
            field="objectives",
            value=[o.name for o in objectives],
            remedy="Search each time with the same objectives, at most three.",
        )
    points = np.vstack([front.F for front in fronts])
    sets = np.repeat(np.arange(1, len(fronts) + 1), [len(front) for front in fronts])
    surfaces = moocore.eaf(points, sets, percentiles=sorted(percentiles))
    columns = {o.name: o.sign * surfaces[:, j] for j, o in enumerate(objectives)}
    return pd.DataFrame({**columns, "percentile": surfaces[:, -1]})


def attained_volumes(
    fronts: Sequence[Front], percentiles: Sequence[float] = (0, 25, 50, 75, 100)
) -> pd.DataFrame:
    """Hypervolume that at least so many per cent of several runs attain, in the box of `compare`.

    Columns: `percentile`, and `hypervolume` as a share of that of all fronts together.
    """
    together, reference, span = _common_box(fronts)
    whole = hypervolume(together, reference, span)
    surfaces = attainment(fronts, percentiles)
    lines = []
    for percentile, surface in surfaces.groupby("percentile", sort=True):
        attained = Front(surface, fronts[0].objectives).hypervolume(reference, span)
        lines.append({"percentile": percentile, "hypervolume": attained / whole})
    return pd.DataFrame(lines)


def _table_value(choice: Any) -> Any:
    return choice_text(choice) if isinstance(choice, tuple) else choice


def _with_knee(table: pd.DataFrame, front: Front) -> pd.DataFrame:
    marks = np.zeros(len(table), dtype=bool)
    if len(table):
        marks[knee_index(front.F)] = True
    return table.assign(knee=marks).reset_index(drop=True)


def _bounded(table: pd.DataFrame, clause: Clause, whole: pd.DataFrame) -> pd.DataFrame:
    numeric = [str(c) for c in whole.select_dtypes("number").columns]
    if clause.name not in whole.columns:
        raise InvalidConstraint(
            f"{clause.name!r} is no column of the front.",
            field="constraints",
            value=clause.text,
            remedy=f"Known: {', '.join(str(c) for c in whole.columns if c != 'knee')}.",
        )
    column = table[clause.name]
    try:
        value: Any = float(clause.value) if clause.name in numeric else clause.value
    except ValueError:
        raise InvalidConstraint(
            f"{clause.value!r} is not a number.",
            field="constraints",
            value=clause.text,
            remedy=f"Write for example {clause.name}<={whole[clause.name].median():g}.",
        ) from None
    if clause.relation in ("<=", ">=") and clause.name not in numeric:
        raise InvalidConstraint(
            f"{clause.name} has no order.",
            field="constraints",
            value=clause.text,
            remedy="Compare it with == or !=.",
        )
    kept = {
        "<=": lambda: column <= value,
        ">=": lambda: column >= value,
        "==": lambda: column == value,
        "!=": lambda: column != value,
    }[clause.relation]()
    if not kept.any():
        raise _none_left(clause, table, numeric)
    remaining: pd.DataFrame = table[kept]
    return remaining


def _none_left(clause: Clause, table: pd.DataFrame, numeric: list[str]) -> InfeasibleBudget:
    if clause.name in numeric and len(table):
        low, high = table[clause.name].min(), table[clause.name].max()
        possible = f"On this front {clause.name} goes from {low:g} to {high:g}."
    else:
        possible = "Relax another constraint."
    return InfeasibleBudget(
        f"No subnet of the front satisfies {clause.text}.",
        field=clause.name,
        value=clause.text,
        remedy=possible,
    )
