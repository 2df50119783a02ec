"""Products of tables equal the exponential they replace, for any space, support and length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.features import scaled_genes
from predictors.kernel import _TOGETHER, _compiled, _groups, kernel, tabulate, weighted_sums


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=40),
    measured=st.sampled_from([1, 2, 16, 300, 512, 513, 1100]),
    log_length=st.floats(-0.7, 4.6),
    seed=st.integers(0, 2**31),
)
def test_the_kernel_is_that_of_the_exponential(
    sizes: list[int], measured: int, log_length: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    counts = np.array(sizes)
    seen, rows = (rng.integers(0, counts, (n, len(counts))) for n in (measured, 17))
    rows[0] = seen[0]
    lengths = np.exp(log_length + 0.2 * rng.normal(size=(2, len(counts))))
    tables = tabulate(counts, scaled_genes(counts, seen), lengths)
    away = scaled_genes(counts, rows)[:, None] - scaled_genes(counts, seen)
    expected = np.hstack([np.exp(-0.5 * np.square(away / of).sum(axis=2)) for of in lengths])
    found = kernel(tables, rows)
    assert found == pytest.approx(expected, abs=2e-6)
    assert found[0, 0] == pytest.approx(1.0, abs=1e-6)
    weights = rng.normal(size=2 * measured)
    assert weighted_sums(tables, rows, tables.padded(weights)) == pytest.approx(
        expected @ weights, abs=1e-5 * measured**0.5
    )


def test_every_gene_is_in_one_group_of_few_combinations() -> None:
    sizes = np.array([2, 3, 70, 8, 8, 2, 2])
    groups = _groups(sizes)
    assert [gene for group in groups for gene in group] == list(range(7))
    assert [int(np.prod(sizes[group])) for group in groups] == [6, 70, 64, 4]
    assert len(_groups(np.full(25, 8))) % _TOGETHER == 0


def test_subnets_that_share_nothing_are_not_subnormal_numbers() -> None:
    sizes = np.full(40, 2)
    tables = tabulate(sizes, -np.ones((1, 40)), np.full((1, 40), 0.1))
    far = weighted_sums(tables, np.ones((1, 40), np.int64), tables.padded(np.ones(1)))
    assert 0.0 < far[0] < 1e-30
    assert far[0] > np.finfo(np.float32).tiny


def test_arrays_that_processes_share_can_be_read() -> None:
    """Ray hands large arrays to workers as read-only ones."""
    sizes = np.full(12, 3)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, sizes, (20, 12))
    tables = tabulate(sizes, scaled_genes(sizes, rows), np.full((2, 12), 2.0))
    weights = tables.padded(rng.normal(size=40))
    expected = weighted_sums(tables, rows, weights), kernel(tables, rows)
    for array in (tables.blocks, tables.strides, tables.starts, weights, rows):
        array.setflags(write=False)
    assert (weighted_sums(tables, rows, weights) == expected[0]).all()
    assert (kernel(tables, rows) == expected[1]).all()


def test_compiled_code_need_not_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(*, cache: bool = False, **options: Any) -> Callable[[Any], Any]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, options)

    monkeypatch.setattr("predictors.kernel.njit", njit)
    compiled: Any = _compiled()(len)
    assert compiled == (len, {"fastmath": True, "nogil": True})
