from __future__ import annotations

import numpy as np
import pytest

from supernet.sampling import covering_rows, leaning_rows, size_levels
from supernet.space import get_space

SALNAS = get_space("salnas")
TINY = get_space("tiny")


def test_rows_cover_every_band_of_size_at_both_resolutions() -> None:
    rows = covering_rows(SALNAS, np.random.default_rng(0), 400)
    assert rows.shape == (400, len(SALNAS.sizes))
    level = np.minimum((size_levels(SALNAS, rows) * 10).astype(int), 9)
    for resolution in (0, 1):
        counts = np.bincount(level[rows[:, 0] == resolution], minlength=10)
        assert counts.min() >= 15, counts
        assert counts.max() <= 25, counts


def test_uniform_genes_do_not() -> None:
    level = size_levels(SALNAS, SALNAS.sample(np.random.default_rng(0), 400))
    assert ((level < 0.2) | (level > 0.8)).mean() < 0.02


def test_a_prefix_covers_too() -> None:
    level = size_levels(SALNAS, covering_rows(SALNAS, np.random.default_rng(3), 400)[:40])
    counts = np.histogram(level, bins=5, range=(0.0, 1.0))[0]
    assert counts.min() >= 5, counts


@pytest.mark.parametrize("space", [TINY, SALNAS], ids=lambda space: space.name)
def test_rows_are_different_valid_and_begin_with_the_ends(space: object) -> None:
    assert space in (TINY, SALNAS)
    which = TINY if space is TINY else SALNAS
    rows = covering_rows(which, np.random.default_rng(1), 100)
    which.validate_rows(rows)
    assert len(np.unique(which.indices(rows))) == 100
    assert (rows[0] == 0).all()
    assert (rows[1] == which.sizes - 1).all()


def test_more_rows_begin_with_the_fewer() -> None:
    few, more = (covering_rows(SALNAS, np.random.default_rng(4), n) for n in (30, 300))
    assert (more[:30] == few).all()


def test_a_small_space_is_listed_whole() -> None:
    rows = covering_rows(TINY, np.random.default_rng(0), TINY.size + 50)
    assert len(np.unique(TINY.indices(rows))) == len(rows) == TINY.size


def test_equal_seeds_draw_equal_rows() -> None:
    first, second, other = (covering_rows(SALNAS, np.random.default_rng(seed), 50) for seed in (5, 5, 6))
    assert (first == second).all()
    assert (first != other).any()


def test_every_choice_of_every_gene_is_drawn() -> None:
    rows = leaning_rows(SALNAS, np.random.default_rng(0), 4000)
    for gene, k in enumerate(SALNAS.sizes):
        assert np.bincount(rows[:, gene], minlength=int(k)).min() > 4000 / k / 4


def test_levels_of_the_ends() -> None:
    ends = np.stack([np.zeros_like(SALNAS.sizes), SALNAS.sizes - 1])
    assert size_levels(SALNAS, ends).tolist() == [0.0, 1.0]
