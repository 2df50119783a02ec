"""What all genes say together in `predictors.gaussian`, by multiplication alone, compiled.

A gene has few choices, so what a group of genes adds to the kernel is a table, known beforehand: a line for each
combination of their choices, a column for each measured subnet. The kernel of a subnet is the product of one line of
each group; exponentials are computed once, for the tables. Blocks of columns lie together, so that all lines of a
block stay in the cache while subnet after subnet is looked up.

Single precision. n subnets, d genes, g groups, s measured subnets, r sets of lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numba import float32, int64, njit, types, void
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from predictors.features import scaled_genes
from supernet.space import Rows

Function = TypeVar("Function", bound=Callable[..., Any])
Float = np.float32

_LINES = 64
"""Combinations of choices in a group, at most."""

_WIDTH = 384
"""Columns of a block: known when compiled, and many, for a subnet's beginning and end cost as much as a hundred."""

_TOGETHER = 4
"""Groups that are multiplied before the product is stored."""

_LEAST_LINE = 2.0**-31
_LEAST_EXPONENT = -124.0
"""Below these, products would be subnormal numbers, which take a hundred times as long."""


@dataclass(frozen=True, eq=False)
class Tables:
    """`blocks` (blocks, lines, _WIDTH) hold what groups add to the kernel, with ones after the last column; the line
    of a group is `starts` (g,) plus the choices of its genes times `strides` (d, g)."""

    columns: int
    blocks: NDArray[np.float32]
    strides: NDArray[np.float32]
    starts: NDArray[np.int64]

    def lines(self, rows: Rows) -> NDArray[np.int64]:
        """(n, d) genotypes → (n, g) lines."""
        return (rows.astype(Float) @ self.strides).astype(np.int64) + self.starts

    def padded(self, weights: FloatArray) -> NDArray[np.float32]:
        """Weights (r s,), followed by zeros for the columns that fill the last block."""
        found = np.zeros(len(self.blocks) * _WIDTH, Float)
        found[: self.columns] = weights
        return found


def tabulate(sizes: NDArray[np.int64], genes: FloatArray, lengths: FloatArray) -> Tables:
    """Tables for measured subnets of scaled `genes` (s, d): columns for all with the first of `lengths` (r, d), then
    for all with the next."""
    groups = _groups(sizes)
    strides = np.zeros((len(sizes), len(groups)), Float)
    lines: list[FloatArray] = []
    starts = []
    for g, members in enumerate(groups):
        starts.append(sum(len(part) for part in lines))
        choices = np.zeros((int(np.prod(sizes[members])), len(sizes)), np.int64)
        choices[:, members] = list(product(*(range(int(sizes[gene])) for gene in members)))
        strides[members, g] = [np.prod(sizes[members[k + 1 :]]) for k in range(len(members))]
        away = scaled_genes(sizes, choices)[:, None, members] - genes[:, members]
        squares = np.square(away) @ (1.0 / np.square(lengths[:, members]).T)  # (lines, s, r)
        columns = squares.transpose(0, 2, 1).reshape(len(choices), -1)
        lines.append(np.maximum(np.exp(-0.5 * columns), _LEAST_LINE))
    table = np.vstack(lines)
    blocks = -(-table.shape[1] // _WIDTH)
    whole = np.ones((len(table), blocks * _WIDTH), Float)
    whole[:, : table.shape[1]] = table
    by_block = whole.reshape(len(table), blocks, _WIDTH).transpose(1, 0, 2)
    return Tables(table.shape[1], np.ascontiguousarray(by_block), strides, np.array(starts))


def _groups(sizes: NDArray[np.int64]) -> list[list[int]]:
    """Genes side by side, of few enough combinations; the last groups are empty, so that no product is short."""
    groups: list[list[int]] = [[]]
    for gene, size in enumerate(sizes):
        if groups[-1] and np.prod(sizes[groups[-1]]) * size > _LINES:
            groups.append([])
        groups[-1].append(gene)
    return groups + [[]] * (-len(groups) % _TOGETHER)


def weighted_sums(tables: Tables, rows: Rows, weights: NDArray[np.float32]) -> FloatArray:
    """(n, d) genotypes → (n,) the kernel times the weights, `Tables.padded`, summed."""
    found = np.zeros(len(rows), Float)
    _add_weighted(tables.blocks, tables.lines(rows), weights, found)
    return found.astype(np.float64)


def kernel(tables: Tables, rows: Rows) -> NDArray[np.float32]:
    """(n, d) genotypes → (n, r s) kernel."""
    found = np.empty((len(rows), tables.columns), Float)
    _write_kernel(tables.blocks, tables.lines(rows), found)
    return found


def _given(kind: Any, dimensions: int) -> Any:
    """The type of an array that is only read: Ray shares such ones between processes."""
    return types.Array(kind, dimensions, "C", readonly=True)


_BLOCKS, _LINES_OF_ROWS, _WEIGHTS = _given(float32, 3), _given(int64, 2), _given(float32, 1)


def _compiled(*signature: Any) -> Callable[[Function], Function]:
    """A decorator that compiles a function, for this process alone where there is nowhere to keep the result."""
    compiler: Any = partial(njit, *signature, fastmath=True, nogil=True)

    def compile_it(function: Function) -> Function:
        try:
            kept: Function = compiler(cache=True)(function)
        except RuntimeError:  # a read-only installation, without a home
            kept = compiler()(function)
        return kept

    return compile_it


@_compiled()
def _of_four(block: Any, lines: Any, j: Any, least: Any) -> Any:
    a, b, c, d = lines
    return max((block[a, j] * block[b, j]) * (block[c, j] * block[d, j]), least)


@_compiled()
def _all_but_last(block: Any, lines: Any, least: Any, found: Any) -> Any:
    """The product of `lines` (g,) of a block but for the last four, to `found` (_WIDTH,); returns those four."""
    found[:] = Float(1.0)
    for g in range(0, len(lines) - _TOGETHER, _TOGETHER):
        four = lines[g], lines[g + 1], lines[g + 2], lines[g + 3]
        for j in range(_WIDTH):
            found[j] *= _of_four(block, four, j, least)
    g = len(lines) - _TOGETHER
    return lines[g], lines[g + 1], lines[g + 2], lines[g + 3]


@_compiled()
def _least(groups: Any) -> Any:
    """Below it a product of four lines may become subnormal in the end, where there are so many groups."""
    return Float(2.0 ** (_LEAST_EXPONENT * _TOGETHER / groups))


@_compiled(void(_BLOCKS, _LINES_OF_ROWS, _WEIGHTS, float32[::1]))
def _add_weighted(blocks: Any, lines: Any, weights: Any, found: Any) -> None:
    product, least = np.empty(_WIDTH, Float), _least(lines.shape[1])
    for k in range(len(blocks)):
        block = blocks[k]
        for i in range(len(lines)):
            last = _all_but_last(block, lines[i], least, product)
            total = Float(0.0)
            for j in range(_WIDTH):
                total += weights[k * _WIDTH + j] * product[j] * _of_four(block, last, j, least)
            found[i] += total


@_compiled(void(_BLOCKS, _LINES_OF_ROWS, float32[:, ::1]))
def _write_kernel(blocks: Any, lines: Any, found: Any) -> None:
    product, least = np.empty(_WIDTH, Float), _least(lines.shape[1])
    for k in range(len(blocks)):
        block = blocks[k]
        for i in range(len(lines)):
            last = _all_but_last(block, lines[i], least, product)
            for j in range(min(_WIDTH, found.shape[1] - k * _WIDTH)):
                found[i, k * _WIDTH + j] = product[j] * _of_four(block, last, j, least)
