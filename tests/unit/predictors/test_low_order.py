"""The kernel of single genes and of pairs, against the sums that define it."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors.features import contrast_table
from predictors.low_order import choices, low_order_model


def defined(sizes: np.ndarray, a: np.ndarray, b: np.ndarray, u: np.ndarray, p: np.ndarray) -> float:
    """Of two genotypes (d,), gene by gene and pair by pair."""
    found = []
    for j, k in enumerate(sizes):
        table = contrast_table(int(k))
        found.append(sum(0.5**e * table[a[j], e] * table[b[j], e] for e in range(k - 1)))
    singles = sum(u[j] * found[j] for j in range(len(sizes)))
    pairs = sum(p[i] * p[j] * found[i] * found[j] for i, j in combinations(range(len(sizes)), 2))
    return float(singles + pairs)


@given(sizes=st.lists(st.integers(2, 6), min_size=1, max_size=8), seed=st.integers(0, 2**31))
def test_it_is_what_its_definition_says(sizes: list[int], seed: int) -> None:
    rng, counts = np.random.default_rng(seed), np.array(sizes)
    rows, others = rng.integers(0, counts, (4, len(counts))), rng.integers(0, counts, (5, len(counts)))
    u, p = rng.uniform(0.0, 2.0, (2, len(counts)))
    expected = np.array([[defined(counts, a, b, u, p) for b in others] for a in rows])
    ours = choices(counts, rows)
    assert ours.kernel(choices(counts, others), u, p) == pytest.approx(expected, abs=1e-9)
    assert ours.variance(u, p) == pytest.approx([defined(counts, a, a, u, p) for a in rows], abs=1e-9)
    weights = rng.normal(size=5)
    model = low_order_model(counts, others, weights, u, p)
    scale = np.abs(expected * weights).max() + 1.0
    assert model(rows) == pytest.approx(expected @ weights, abs=1e-5 * scale)
