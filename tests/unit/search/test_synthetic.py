"""Made-up problems are what they say."""

from __future__ import annotations

import numpy as np

from search.synthetic import additive_space


def test_columns_are_sums_of_the_tables() -> None:
    space = additive_space(9, 3, 0)
    rows = np.random.default_rng(1).integers(0, space.sizes, size=(20, 9))
    expected = np.array([sum(space.tables[g][choice] for g, choice in enumerate(row)) for row in rows])
    columns = space(rows)
    assert tuple(columns) == ("accuracy", "latency_ms", "macs")
    np.testing.assert_allclose(np.column_stack(list(columns.values())), expected)


def test_more_costs_more_and_scores_higher() -> None:
    for table in additive_space(30, 2, 3).tables:
        assert (np.diff(table, axis=0) >= 0).all()
        assert (table[0] == 0).all()


def test_equal_seeds_give_equal_spaces() -> None:
    a, b = additive_space(9, 2, 4), additive_space(9, 2, 4)
    assert all((x == y).all() for x, y in zip(a.tables, b.tables, strict=True))
