"""The archive holds exactly the nondominated subnets, however they arrive."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.archive import Archive, Scored
from search.front import nondominated


def scored(F: np.ndarray) -> Scored:
    return Scored(np.arange(len(F))[:, None].astype(np.int64), F.copy(), F)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(2, 3))
def test_the_front_does_not_depend_on_portions(seed: int, portion: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    F = rng.integers(0, 30, size=(1200, m)).astype(float)
    everything = scored(F)
    archive = Archive(10_000, everything.at(np.arange(0)))
    for start in range(0, len(F), portion):
        archive = archive.added(everything.at(np.arange(start, min(start + portion, len(F)))))
    kept = archive.merged.kept
    np.testing.assert_array_equal(kept.F, F[kept.rows[:, 0]])
    assert {tuple(p) for p in kept.F} == {tuple(p) for p in F[nondominated(F)]}
    assert len(np.unique(kept.F, axis=0)) == len(kept.F)


def test_a_full_archive_keeps_its_ends_and_its_limit() -> None:
    x = np.linspace(0, 1, 1000)
    whole = scored(np.column_stack([x, 1 - x]))
    archive = Archive(100, whole.at(np.arange(0))).added(whole)
    kept = archive.merged.kept
    assert len(kept.rows) == 100
    assert kept.F[:, 0].min() == 0.0
    assert kept.F[:, 0].max() == 1.0


def test_adding_returns_a_new_value() -> None:
    whole = scored(np.array([[0.0, 1.0], [1.0, 0.0]]))
    empty = Archive(100, whole.at(np.arange(0)))
    assert empty.added(whole) is not empty
    assert len(empty.merged.kept.rows) == 0
    assert empty.added(whole.at(np.arange(0))) is empty


def test_neighbours_are_near() -> None:
    x = np.linspace(0, 1, 1000)
    whole = scored(np.column_stack([x, 1 - x]))
    archive = Archive(1000, whole.at(np.arange(0))).added(whole)
    scale = np.ones(2)
    one, near = archive.neighbours(np.random.default_rng(0), 500, 32, scale)
    _, random = archive.neighbours(np.random.default_rng(0), 500, 1, scale)
    assert (one != near).mean() > 0.99
    assert np.abs(one - near).mean() < np.abs(one - random).mean() / 10
