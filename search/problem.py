"""What is searched: a space, objectives, constraints as users write them, and a function that scores rows.

Notation
    n       number of subnets in a batch
    d       number of genes
    m       number of objectives
    c       number of columns that `evaluate` returns
    rows    (n, d) int64 genotypes
    values  (n, c) float64, one column per name in `Problem.columns`, in the units of `evaluate`
    F       (n, m) float64 objectives, all minimised (a maximised column changes its sign)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.threads import one_blas_thread
from search.operators import Domain
from supernet.errors import InvalidConstraint, PredictorError

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]
Direction: TypeAlias = Literal["max", "min"]
Evaluate: TypeAlias = Callable[[IntArray], Mapping[str, NDArray[Any]]]

MAXIMISED = frozenset({"accuracy", "cc", "nss", "sim", "auc", "information_gain"})
"""Columns of which more is better; of every other column less is better."""

OBJECTIVES = (2, 4)
"""Fewest and most objectives of one search."""

_PROBE = 256
"""Random subnets that, with the smallest and the largest, set the scale of each objective."""

_CONSTRAINT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.@:-]*?)\s*(<=|>=|==|!=|<|>|=)\s*([^\s<>=!](?:.*\S)?)\s*")


class GeneLike(Protocol):
    """A gene: its name and the values it can take, smallest first."""

    @property
    def name(self) -> str: ...
    @property
    def choices(self) -> tuple[Any, ...]: ...


class SearchSpace(Protocol):
    """The part of `supernet.space.Space` that a search needs."""

    @property
    def name(self) -> str: ...
    @property
    def genes(self) -> Sequence[GeneLike]: ...
    @property
    def sizes(self) -> IntArray: ...
    @property
    def fingerprint(self) -> str: ...
    def ids(self, rows: IntArray) -> list[str]: ...


@dataclass(frozen=True)
class Objective:
    """A column to maximise or minimise."""

    name: str
    direction: Direction

    @classmethod
    def parse(cls, text: str) -> Objective:
        """`accuracy`, `latency_ms@pi4`, or with an explicit direction `max:name`, `min:name`."""
        head, colon, tail = text.strip().partition(":")
        if colon and head == "max":
            return cls(tail, "max")
        if colon and head == "min":
            return cls(tail, "min")
        name = text.strip()
        return cls(name, "max" if name.partition("@")[0] in MAXIMISED else "min")

    @property
    def sign(self) -> float:
        """Factor that turns the column into one to minimise."""
        return -1.0 if self.direction == "max" else 1.0


@dataclass(frozen=True)
class Clause:
    """A constraint as written: a name, a relation and the text of a value."""

    text: str
    name: str
    relation: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Clause:
        """Split `latency_ms<=30`; InvalidConstraint where it is no comparison that is understood."""
        match = _CONSTRAINT.fullmatch(text)
        if match is None:
            raise InvalidConstraint(
                f"{text!r} is not a constraint.",
                field="constraints",
                value=text,
                remedy="Write a name, a comparison and a value, such as latency_ms<=30 or mb3.kernel==3.",
            )
        name, relation, value = match.groups()
        if relation in ("<", ">", "="):
            raise InvalidConstraint(
                f"{text!r} uses {relation!r}.",
                field="constraints",
                value=text,
                remedy="The comparisons are <=, >=, == and !=.",
            )
        return cls(text.strip(), name, relation, value)


@dataclass(frozen=True)
class Constraint:
    """A bound on a column: at most (`<=`) or at least (`>=`) `bound`, in the unit of the column."""

    column: str
    relation: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.column}{self.relation}{self.bound:g}"

    @property
    def sign(self) -> float:
        """Factor that turns the bound into an upper one."""
        return 1.0 if self.relation == "<=" else -1.0

    @property
    def scale(self) -> float:
        """What an excess is divided by, so that violations of several columns can be added."""
        return abs(self.bound) or 1.0

    def violation(self, column: FloatArray) -> FloatArray:
        """(n,) column → (n,) relative excess over the bound, 0 where it is kept."""
        return np.maximum(self.sign * (column - self.bound), 0.0) / self.scale


@dataclass(frozen=True)
class Problem:
    """A search problem as an immutable value.

    `domain` holds the choices that the constraints on genes leave, `constraints` the bounds on columns,
    `reference` and `scale` (both (m,), minimised) the box in which hypervolume is measured: up to
    `reference`, in units of `scale`.
    """

    domain: Domain
    columns: tuple[str, ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    evaluate: Evaluate
    reference: FloatArray
    scale: FloatArray

    @cached_property
    def _objective_columns(self) -> list[int]:
        return [self.columns.index(objective.name) for objective in self.objectives]

    @cached_property
    def _signs(self) -> FloatArray:
        return np.array([objective.sign for objective in self.objectives])

    def values(self, rows: IntArray) -> FloatArray:
        """(n, d) genotypes → (n, c) finite values; PredictorError names a column that has others."""
        with one_blas_thread():
            scored = self.evaluate(rows)
        return _matrix(scored, self.columns, len(rows))

    def minimised(self, values: FloatArray) -> FloatArray:
        """(n, c) values → (n, m) objectives, all minimised."""
        minimised: FloatArray = values[:, self._objective_columns] * self._signs
        return minimised

    def violations(self, values: FloatArray) -> FloatArray:
        """(n, c) values → (n,) sum of the relative excesses over all bounds, 0 = feasible."""
        total = np.zeros(len(values))
        for constraint in self.constraints:
            total += constraint.violation(values[:, self.columns.index(constraint.column)])
        return total


def names_asked(objectives: Sequence[str | Objective], constraints: Sequence[str]) -> tuple[str, ...]:
    """Names that objectives and constraints mention, each once: the columns to evaluate, and genes.

    Raises InvalidConstraint where a constraint is no comparison.
    """
    wanted = [o.name if isinstance(o, Objective) else Objective.parse(o).name for o in objectives]
    return tuple(dict.fromkeys(wanted + [Clause.parse(text).name for text in constraints]))


def make_problem(
    space: SearchSpace,
    evaluate: Evaluate,
    objectives: Sequence[str | Objective] = ("accuracy", "latency_ms"),
    constraints: Sequence[str] = (),
) -> Problem:
    """Check what the user asked for against the space and the columns that `evaluate` returns.

    Raises InvalidConstraint (unknown name, no comparison, no choice left, wrong number of objectives).
    """
    domain = Domain.full(space.sizes)
    probe = np.vstack([domain.extremes(), domain.sample(np.random.default_rng(0), _PROBE)])
    with one_blas_thread():
        scored = evaluate(probe)
    columns = tuple(scored)
    chosen = _parse_objectives(objectives, columns)
    bounds, domain = _parse_constraints(constraints, space, domain, columns)
    values = _matrix(scored, columns, len(probe))
    minimised = np.column_stack([o.sign * values[:, columns.index(o.name)] for o in chosen])
    span = np.ptp(minimised, axis=0)
    reference = minimised.max(axis=0) + 0.01 * span
    for j, objective in enumerate(chosen):
        for bound in bounds:
            if bound.column == objective.name and bound.sign == objective.sign:
                reference[j] = min(reference[j], objective.sign * bound.bound)
    scale = np.where(span > 0, span, 1.0)
    return Problem(domain, columns, chosen, bounds, evaluate, reference, scale)


def _parse_objectives(texts: Sequence[str | Objective], columns: tuple[str, ...]) -> tuple[Objective, ...]:
    chosen = tuple(o if isinstance(o, Objective) else Objective.parse(o) for o in texts)
    names = [objective.name for objective in chosen]
    fewest, most = OBJECTIVES
    if not fewest <= len(names) <= most or len(set(names)) < len(names):
        raise InvalidConstraint(
            f"A search has {fewest} to {most} different objectives.",
            field="objectives",
            value=names,
            remedy=f"Choose among {', '.join(columns)}.",
        )
    for name in names:
        if name not in columns:
            raise _unknown("objectives", name, columns)
    return chosen


def _parse_constraints(
    texts: Sequence[str], space: SearchSpace, domain: Domain, columns: tuple[str, ...]
) -> tuple[tuple[Constraint, ...], Domain]:
    bounds = []
    allowed = [np.ones(size, dtype=bool) for size in space.sizes.tolist()]
    for text in texts:
        clause = Clause.parse(text)
        genes = _genes_called(clause.name, space)
        if clause.name in columns:
            bounds.append(_parse_bound(clause))
        elif genes:
            for g in genes:
                allowed[g] &= _allowed_choices(clause, space.genes[g])
                if not allowed[g].any():
                    raise InvalidConstraint(
                        f"{clause.text!r} leaves no choice for {space.genes[g].name}.",
                        field="constraints",
                        value=clause.text,
                        remedy=f"Its choices: {', '.join(map(choice_text, space.genes[g].choices))}.",
                    )
        else:
            raise _unknown("constraints", clause.name, (*columns, *_gene_names(space)))
    return tuple(bounds), domain.restricted([np.flatnonzero(mask) for mask in allowed])


def _parse_bound(clause: Clause) -> Constraint:
    try:
        bound = float(clause.value)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InvalidConstraint(
            f"{clause.value!r} is not a number.",
            field="constraints",
            value=clause.text,
            remedy="Write for example macs<=1.5e9.",
        )
    if clause.relation == "<=":
        return Constraint(clause.name, "<=", bound)
    if clause.relation == ">=":
        return Constraint(clause.name, ">=", bound)
    raise InvalidConstraint(
        f"{clause.name} cannot be compared with {clause.relation}.",
        field="constraints",
        value=clause.text,
        remedy=f"Bound it with {clause.name}<={bound:g} or {clause.name}>={bound:g}.",
    )


def choice_text(choice: Any) -> str:
    """A choice as users write it: a resolution (H, W) as WxH, anything else as Python prints it."""
    if isinstance(choice, tuple):
        return "x".join(str(part) for part in reversed(choice))
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _genes_called(name: str, space: SearchSpace) -> list[int]:
    """Genes of that full name, or else all whose last part is that name."""
    exact = [i for i, gene in enumerate(space.genes) if gene.name == name]
    return exact or [i for i, gene in enumerate(space.genes) if gene.name.rpartition(".")[2] == name]


def _gene_names(space: SearchSpace) -> list[str]:
    names = [gene.name for gene in space.genes]
    parts = [name.rpartition(".")[2] for name in names]
    return list(dict.fromkeys(names + [part for part in parts if parts.count(part) > 1]))


def _allowed_choices(clause: Clause, gene: GeneLike) -> NDArray[np.bool_]:
    """(choices,) mask of the choices that satisfy the clause; a list such as `==3,4` means any of them."""
    texts = [choice_text(choice) for choice in gene.choices]
    wanted = [part.strip().lower().replace("×", "x") for part in clause.value.split(",")]
    if clause.relation in ("==", "!="):
        member = np.array([text in wanted for text in texts])
        strangers = [part for part in wanted if part not in texts]
        if strangers and not (member.any() and clause.name != gene.name):
            raise _no_choice(clause, gene, texts)
        return member if clause.relation == "==" else ~member
    try:
        limit: float = float(wanted[0])
        order = [float(choice) for choice in gene.choices]
    except (TypeError, ValueError):
        if wanted[0] not in texts:
            raise _no_choice(clause, gene, texts) from None
        limit = float(texts.index(wanted[0]))
        order = [float(i) for i in range(len(texts))]
    kept = [x <= limit if clause.relation == "<=" else x >= limit for x in order]
    return np.array(kept)


def _no_choice(clause: Clause, gene: GeneLike, texts: list[str]) -> InvalidConstraint:
    return InvalidConstraint(
        f"{clause.value!r} is no choice of {gene.name}.",
        field="constraints",
        value=clause.text,
        remedy=f"Its choices: {', '.join(texts)}.",
    )


def _unknown(field: str, name: str, known: Sequence[str]) -> InvalidConstraint:
    alike = [one for one in known if one.startswith(name)] or get_close_matches(name, known, 3, 0.5)
    meant = f"Did you mean {' or '.join(alike[:3])}? " if name and alike else ""
    return InvalidConstraint(
        f"{name!r} is unknown here.", field=field, value=name, remedy=f"{meant}Known: {', '.join(known)}."
    )


def _matrix(scored: Mapping[str, NDArray[Any]], columns: tuple[str, ...], n: int) -> FloatArray:
    """Columns → (n, c); PredictorError where one is missing, misshapen or not finite."""
    values = np.empty((n, len(columns)))
    for j, name in enumerate(columns):
        column = scored.get(name)
        if column is None or np.shape(column) != (n,):
            raise PredictorError(
                f"The predictors gave no column {name} of {n} values.",
                field=name,
                value=None if column is None else np.shape(column),
                remedy="Give one value for each subnet.",
            )
        values[:, j] = column
    if not np.isfinite(values).all():
        bad = columns[int(np.argwhere(~np.isfinite(values))[0, 1])]
        raise PredictorError(
            f"The predicted {bad} is not finite for some subnets.",
            field=bad,
            value=float(values[~np.isfinite(values)][0]),
            remedy="Fit its predictor again.",
        )
    return values
