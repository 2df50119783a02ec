"""Genotype rows as numbers that models can work with.

Notation
    n, d    number of subnets, number of genes
    k       number of choices of a gene
    m       Σ (k - 1) over the genes: columns of `one_hot` and of `contrasts`
    rows    (n, d) int64 genotypes
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from supernet.cost import Operation, cost, layer_table
from supernet.space import Rows, Space


@dataclass(frozen=True, eq=False)
class Columns:
    """What each of the m columns stands for: `gene` (m,) and `choice` (m,), from 1 on within a gene."""

    gene: NDArray[np.int64]
    choice: NDArray[np.int64]


def columns(sizes: NDArray[np.int64]) -> Columns:
    """The columns of genes with `sizes` (d,) choices."""
    gene = np.repeat(np.arange(len(sizes)), sizes - 1)
    choice = np.concatenate([np.arange(1, k) for k in sizes] or [np.zeros(0, np.int64)])
    return Columns(gene.astype(np.int64), choice.astype(np.int64))


def scaled_genes(sizes: NDArray[np.int64], rows: Rows) -> FloatArray:
    """(n, d) genotypes → (n, d), each gene scaled to [-1, 1]."""
    scaled: FloatArray = 2.0 * rows / (sizes - 1) - 1.0
    return scaled


def one_hot(sizes: NDArray[np.int64], rows: Rows) -> FloatArray:
    """(n, d) genotypes → (n, m) zeros and ones; the first choice of a gene has no column."""
    named = columns(sizes)
    present: FloatArray = (rows[:, named.gene] == named.choice).astype(np.float64)
    return present


def contrast_table(k: int) -> FloatArray:
    """(k, k - 1) orthogonal polynomials of degree 1 to k - 1 over k equally likely choices, variance 1 each."""
    powers = np.vander(np.linspace(-1.0, 1.0, k), k, increasing=True)
    q, r = np.linalg.qr(powers)
    table: FloatArray = (q * np.sign(np.diag(r)))[:, 1:] * np.sqrt(k)
    return table


def contrasts(sizes: NDArray[np.int64], rows: Rows) -> FloatArray:
    """(n, d) genotypes → (n, m): for each gene the orthogonal polynomials of its choice."""
    return np.hstack([contrast_table(int(k))[rows[:, j]] for j, k in enumerate(sizes)])


def degrees(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) degree of each column of `contrasts`."""
    return columns(sizes).choice


def general_features(space: Space, rows: Rows) -> FloatArray:
    """(n, d) genotypes → (n, d + 2): scaled genes, log macs, log parameters. For trees and networks."""
    costs = cost(space, rows)
    logs = np.log(np.column_stack([costs.macs, costs.parameters]).astype(np.float64))
    return np.hstack([scaled_genes(space.sizes, rows), logs])


# --- what a subnet does, by kind of operation -----------------------------------------------------------

GROUPS = ("dense", "pointwise", "depthwise-3", "depthwise-5", "gate", "resampling")
"""Kinds of operations whose speed differs from device to device in its own way."""

WORK = ("macs", "blocked macs", "traffic", "blocked traffic", "weights", "count")
"""Why an operation takes time: multiply-accumulates, numbers read and written, weights read, being started. Blocked
ones count whole blocks of channels."""

_BLOCK = 16
"""Channels that kernels for vector units compute at once: a block that is not full takes as long as a full one."""

_PHOTO = 3
"""Channels of a photo; the first convolution reads them unblocked."""

WORK_COLUMNS = tuple((group, work) for group in GROUPS for work in WORK)
"""What the columns of `work_of_rows` count."""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the network and the work it does for every combination of the genes it depends on.

    `genes` are columns of a genotype, `counts` their numbers of choices; `work` (combinations, columns), the last
    gene changing fastest.
    """

    name: str
    genes: tuple[int, ...]
    counts: tuple[int, ...]
    work: FloatArray

    def entries(self, rows: Rows) -> NDArray[np.int64]:
        """(n, d) genotypes → (n,) lines of `work`."""
        entry = np.zeros(len(rows), dtype=np.int64)
        for gene, count in zip(self.genes, self.counts, strict=True):
            entry = entry * count + rows[:, gene]
        return entry


def work_of_rows(space: Space, rows: Rows) -> FloatArray:
    """(n, d) genotypes → (n, columns) what each subnet does, see `WORK_COLUMNS`."""
    total = np.zeros((len(rows), len(WORK_COLUMNS)))
    for section in sections(space):
        total += section.work[section.entries(rows)]
    return total


@lru_cache(maxsize=8)
def sections(space: Space) -> tuple[Section, ...]:
    """The network cut where its layer table changes name: stem, stages, last convolution, decoder steps.

    A section depends on the genes whose change changes it, in the smallest or in the largest subnet.
    """
    zeros = np.zeros_like(space.sizes)
    bases = [_by_section(space, row) for row in (zeros, space.sizes - 1)]
    dependent: dict[str, set[int]] = {name: set() for name in bases[0]}
    for row, base in zip((zeros, space.sizes - 1), bases, strict=True):
        for gene, k in enumerate(space.sizes):
            for choice in range(int(k)):
                changed = row.copy()
                changed[gene] = choice
                for name, operations in _by_section(space, changed).items():
                    if operations != base[name]:
                        dependent[name].add(gene)
    return tuple(_section(space, name, tuple(sorted(genes))) for name, genes in dependent.items())


def _section(space: Space, name: str, genes: tuple[int, ...]) -> Section:
    counts = tuple(int(space.sizes[gene]) for gene in genes)
    lines = []
    for choices in product(*(range(count) for count in counts)):
        row = np.zeros_like(space.sizes)
        row[list(genes)] = choices
        lines.append(_work(_by_section(space, row)[name]))
    return Section(name, genes, counts, np.array(lines))


def _by_section(space: Space, row: Rows) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """Section → its operations: group and the four kinds of work."""
    found: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for operation in layer_table(space, space.decode(row)):
        head, _, tail = operation.name.partition(".")
        name = f"{head}.{tail.partition('.')[0]}" if head == "decoder" else head
        found.setdefault(name, []).append((_group(operation), _work_of(operation)))
    return found


def _group(operation: Operation) -> str:
    if operation.kind == "depthwise":
        return f"depthwise-{operation.kernel}"
    if operation.kind != "conv":
        return "resampling"
    if operation.height * operation.width == 1:
        return "gate"
    return "pointwise" if operation.kernel == 1 else "dense"


def _work_of(operation: Operation) -> tuple[int, ...]:
    c_in, c_out = operation.c_in, operation.c_out
    wide_in, wide_out = c_in if c_in <= _PHOTO else _blocked(c_in), _blocked(c_out)
    if operation.kind == "conv":
        blocked = operation.macs * wide_in * wide_out // (c_in * c_out)
    else:
        blocked = operation.macs * wide_out // c_out
    area = operation.height * operation.width
    read = area * operation.stride**2
    traffic, blocked_traffic = read * c_in + area * c_out, read * wide_in + area * wide_out
    return operation.macs, blocked, traffic, blocked_traffic, operation.parameters, 1


def _blocked(channels: int) -> int:
    return -(-channels // _BLOCK) * _BLOCK


def _work(operations: list[tuple[str, tuple[int, ...]]]) -> list[float]:
    totals = dict.fromkeys(WORK_COLUMNS, 0.0)
    for group, amounts in operations:
        for kind, amount in zip(WORK, amounts, strict=True):
            totals[group, kind] += amount
    return list(totals.values())


def batches(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover n rows, so that what is worked on stays in the cache."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
