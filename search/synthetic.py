"""Made-up search problems whose exact front is known, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.front import exact_additive_front
from search.problem import FloatArray, IntArray

NAMES = ("accuracy", "latency_ms", "macs", "parameters")


@dataclass(frozen=True)
class SyntheticGene:
    """A gene whose choices are 0, 1, 2, …"""

    name: str
    choices: tuple[int, ...]


@dataclass(frozen=True)
class AdditiveSpace:
    """A space in which every objective is a sum over genes; callable as the `evaluate` of a search.

    `tables[g]` is (choices of gene g, m) of what each choice adds to accuracy (maximised) and to the costs.
    """

    tables: tuple[FloatArray, ...]
    name: str = "additive"
    fingerprint: str = "additive"

    @cached_property
    def genes(self) -> tuple[SyntheticGene, ...]:
        """One gene for each table."""
        return tuple(
            SyntheticGene(f"part{g % 3}.gene{g}", tuple(range(len(t)))) for g, t in enumerate(self.tables)
        )

    @cached_property
    def sizes(self) -> IntArray:
        """(d,) number of choices of each gene."""
        return np.array([len(table) for table in self.tables], dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """The m columns."""
        return NAMES[: self.tables[0].shape[1]]

    def ids(self, rows: IntArray) -> list[str]:
        """(n, d) → n ids that list the choices."""
        return ["-".join(map(str, row)) for row in rows.tolist()]

    @cached_property
    def _flat(self) -> tuple[FloatArray, IntArray]:
        width = int(self.sizes.max())
        padded = np.zeros((len(self.tables), width, len(self.names)))
        for g, table in enumerate(self.tables):
            padded[g, : len(table)] = table
        return padded.reshape(-1, len(self.names)), np.arange(len(self.tables)) * width

    def __call__(self, rows: IntArray) -> dict[str, FloatArray]:
        """(n, d) rows → m columns (n,)."""
        flat, offsets = self._flat
        places = rows + offsets
        return {name: flat[:, j].take(places).sum(axis=1) for j, name in enumerate(self.names)}

    def exact_front(self) -> tuple[FloatArray, IntArray]:
        """The exact front F (k, m), minimised, and a row (k, d) for each point."""
        signs = np.array([-1.0] + [1.0] * (len(self.names) - 1))
        return exact_additive_front([table * signs for table in self.tables])


def additive_space(
    genes: int,
    objectives: int,
    seed: int,
    *,
    choices: Sequence[int] = (2, 3, 4, 5, 6),
    levels: int | None = None,
) -> AdditiveSpace:
    """A random additive space: every choice costs more and scores higher than the one before.

    With `levels` each contribution is a whole number up to `levels`, which keeps exact fronts over three and
    more objectives small enough to compute.
    """
    rng = np.random.default_rng(seed)
    tables = []
    for size in rng.choice(choices, genes).tolist():
        table = np.sort(rng.random((size, objectives)), axis=0) * rng.random((1, objectives))
        table -= table[0]
        tables.append(np.round(table * levels) if levels else table)
    return AdditiveSpace(tuple(tables))
