"""The batch to measure next, against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front import hypervolume
from search.improvement import best_batch, improvements


def volume(F: np.ndarray, reference: np.ndarray) -> float:
    return hypervolume(F, reference, np.ones_like(reference))


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(0, 6))
def test_an_improvement_is_the_difference_of_two_hypervolumes(seed: int, m: int, known: int) -> None:
    rng = np.random.default_rng(seed)
    front, F = rng.random((known, m)), 1.2 * rng.random((8, m))
    reference = np.full(m, 0.9)
    slow = [volume(np.vstack([front, f]), reference) - volume(front, reference) for f in F]
    np.testing.assert_allclose(improvements(F, front, reference), slow, atol=1e-12)


@given(st.integers(0, 10**6))
def test_a_greedy_batch_is_within_its_bound_of_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenarios, feasible = rng.random((3, 7, 2)), rng.random((3, 7)) < 0.8
    front, reference = rng.random((2, 2)), np.ones(2)

    def expected(batch: tuple[int, ...]) -> float:
        gains = []
        for F, ok in zip(scenarios, feasible, strict=True):
            chosen = F[[i for i in batch if ok[i]]]
            gains.append(volume(np.vstack([front, chosen]), reference) - volume(front, reference))
        return float(np.mean(gains))

    places, gain = best_batch(scenarios, feasible, front, reference, 3)
    best = max(expected(batch) for batch in combinations(range(7), 3))
    assert gain == pytest.approx(expected(tuple(places.tolist())))
    assert (1 - 1 / np.e) * best - 1e-12 <= gain <= best + 1e-12
    singles = [expected((i,)) for i in range(7)]
    assert [singles[i] for i in places[:1]] == [max(singles)][: len(places)]
    assert len(places) == 3 or best == pytest.approx(gain)


def test_what_cannot_improve_is_not_chosen() -> None:
    F = np.array([[[0.5, 0.5], [0.6, 0.6], [2.0, 0.1], [0.1, 0.2]]])
    feasible = np.array([[True, True, True, False]])
    places, gain = best_batch(F, feasible, np.empty((0, 2)), np.ones(2), 4)
    assert places.tolist() == [0]
    assert gain == pytest.approx(0.25)


def test_a_certain_gain_beats_a_rare_one_of_less_than_its_odds_worth() -> None:
    sure, lucky = np.full((10, 2), 0.5), np.full((10, 2), 0.3)
    scenarios = np.stack([sure, lucky], axis=1)
    feasible = np.column_stack([np.ones(10, dtype=bool), np.arange(10) < 3])
    places, _ = best_batch(scenarios, feasible, np.empty((0, 2)), np.ones(2), 1)
    assert places.tolist() == [0]
