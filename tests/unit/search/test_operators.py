"""Variation stays in the domain, at the stated rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.operators import (
    Domain,
    crossover,
    first_of_each,
    initial_rows,
    mutate,
    mutate_once,
    new_rows,
)

domains = st.lists(st.sets(st.integers(0, 7), min_size=1, max_size=6), min_size=1, max_size=12).map(
    lambda genes: Domain(tuple(tuple(sorted(gene)) for gene in genes))
)
seeds = st.integers(0, 2**32 - 1)


@given(domains, seeds, st.integers(1, 40))
def test_everything_stays_in_the_domain(domain: Domain, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = domain.sample(rng, n), domain.sample(rng, n)
    child = crossover(first, second, 0.9, rng)
    for rows in (
        first,
        initial_rows(domain, rng, n),
        child,
        mutate(child, domain, 3.0, 0.5, rng),
        mutate_once(child, domain, 0.5, rng),
        domain.nearest(rng.integers(-3, 12, size=(n, len(domain.choices)))),
    ):
        assert rows.dtype == np.int64
        assert domain.contains(rows).all()


@given(domains, seeds, st.integers(1, 60))
def test_initial_rows_differ_and_are_as_many_as_there_can_be(domain: Domain, seed: int, n: int) -> None:
    rows = initial_rows(domain, np.random.default_rng(seed), n)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert len(rows) == min(n, domain.size)


def test_initial_rows_begin_with_the_extremes_and_are_uniform() -> None:
    domain = Domain.full(np.full(45, 4))
    rows = initial_rows(domain, np.random.default_rng(0), 2000)
    assert (rows[0] == 0).all()
    assert (rows[1] == 3).all()
    shares = np.stack([(rows[2:] == choice).mean(axis=0) for choice in range(4)])
    np.testing.assert_allclose(shares, 0.25, atol=0.05)
    together = np.corrcoef(rows[2:].T) - np.eye(45)
    assert np.abs(together).max() < 0.12


@given(domains, seeds)
def test_children_take_each_gene_from_a_parent(domain: Domain, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = domain.sample(rng, 30), domain.sample(rng, 30)
    child = crossover(first, second, 1.0, rng)
    assert ((child == first) | (child == second)).all()
    np.testing.assert_array_equal(crossover(first, second, 0.0, rng), first)


def test_crossover_takes_half_from_each_where_it_happens() -> None:
    rng = np.random.default_rng(3)
    zeros, ones = np.zeros((20_000, 27), dtype=np.int64), np.ones((20_000, 27), dtype=np.int64)
    child = crossover(zeros, ones, 0.8, rng)
    untouched = (child == 0).all(axis=1)
    assert untouched.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(child[~untouched].mean(axis=0), 0.5, atol=0.02)


def test_mutation_changes_as_many_genes_as_asked() -> None:
    rng = np.random.default_rng(4)
    domain = Domain.full(np.full(27, 5))
    rows = domain.sample(rng, 20_000)
    changed = (mutate(rows, domain, 1.0, 0.5, rng) != rows).sum(axis=1)
    assert changed.mean() == pytest.approx(1.0, rel=0.03)
    assert ((mutate_once(rows, domain, 0.5, rng) != rows).sum(axis=1) == 1).all()


def test_steps_go_to_the_neighbour_and_resets_anywhere_else() -> None:
    rng = np.random.default_rng(5)
    domain = Domain(((0, 2, 3, 7),))
    rows = np.repeat([[0], [2], [3], [7]], 4000, axis=0)
    stepped = domain.positions[0, mutate_once(rows, domain, 1.0, rng)[:, 0]]
    assert (np.abs(stepped - domain.positions[0, rows[:, 0]]) == 1).all()
    reset = mutate_once(rows, domain, 0.0, rng)[:, 0]
    for choice in (0, 2, 3, 7):
        reached, counts = np.unique(reset[rows[:, 0] == choice], return_counts=True)
        assert set(reached) == {0, 2, 3, 7} - {choice}
        assert counts.min() > 1200


def test_a_domain_of_one_row_cannot_be_varied() -> None:
    domain = Domain(((2,), (0,)))
    row = np.array([[2, 0]])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(mutate(row, domain, 1.0, 0.5, rng), row)
    np.testing.assert_array_equal(mutate_once(row, domain, 0.5, rng), row)
    assert len(initial_rows(domain, rng, 10)) == 1


@given(domains, seeds)
def test_equal_hashes_mean_equal_rows(domain: Domain, seed: int) -> None:
    rows = domain.sample(np.random.default_rng(seed), 200)
    assert len(np.unique(domain.hashes(rows))) == len(np.unique(rows, axis=0))


def test_hashes_of_spaces_beyond_64_bits_differ() -> None:
    domain = Domain.full(np.full(60, 6))
    assert domain.size > 2**64
    rows = domain.sample(np.random.default_rng(1), 20_000)
    near = mutate_once(rows, domain, 0.5, np.random.default_rng(2))
    both = np.vstack([rows, near])
    assert len(np.unique(domain.hashes(both))) == len(np.unique(both, axis=0))


@given(st.lists(st.integers(-3, 3), max_size=12), st.sets(st.integers(-3, 3)))
def test_new_rows_agrees_with_a_loop(hashes: list[int], known: set[int]) -> None:
    array = np.array(hashes, dtype=np.int64)
    mask = new_rows(array, np.array(sorted(known), dtype=np.int64))
    expected = [h not in known and h not in hashes[:i] for i, h in enumerate(hashes)]
    assert mask.tolist() == expected
    first = [i for i, h in enumerate(hashes) if h not in hashes[:i]]
    assert first_of_each(array).tolist() == first


@given(domains)
def test_all_rows_are_all_rows(domain: Domain) -> None:
    if domain.size > 3000:
        return
    rows = domain.all_rows()
    assert len(rows) == domain.size == len(np.unique(rows, axis=0))
    assert domain.contains(rows).all()


def test_the_nearest_allowed_choice() -> None:
    domain = Domain(((0, 5), (1, 2)))
    assert domain.nearest(np.array([[1, 0], [4, 3], [5, 1]])).tolist() == [[0, 1], [5, 2], [5, 1]]


def test_rows_outside_are_not_contained() -> None:
    domain = Domain(((0, 2), (0, 1)))
    rows = np.array([[0, 0], [1, 0], [2, 1], [9, 0], [-1, 0]])
    assert domain.contains(rows).tolist() == [True, False, True, False, False]
