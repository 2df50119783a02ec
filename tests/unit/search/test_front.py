"""Dominance, crowding, hypervolume and knee against slow definitions; the exact front against enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.front import (
    Front,
    attained_volumes,
    attainment,
    compare,
    crowding_distances,
    exact_additive_front,
    front_table,
    hypervolume,
    knee_index,
    nondominated,
    pareto_ranks,
)
from search.problem import Objective
from search.synthetic import additive_space
from supernet.errors import InfeasibleBudget, InvalidConstraint
from supernet.space import get_space


@st.composite
def points(draw: st.DrawFn, most: int = 25) -> np.ndarray:
    n, m = draw(st.integers(1, most)), draw(st.integers(2, 4))
    seed, levels = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([3, 6, 1000]))
    return np.random.default_rng(seed).integers(0, levels, size=(n, m)).astype(float)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(points())
def test_ranks_agree_with_peeling(F: np.ndarray) -> None:
    ranks, left, rank = np.full(len(F), -1), set(range(len(F))), 0
    while left:
        best = {i for i in left if not any(dominates(F[k], F[i]) for k in left)}
        ranks[list(best)] = rank
        left, rank = left - best, rank + 1
    np.testing.assert_array_equal(pareto_ranks(F), ranks)


@given(points())
def test_nondominated_agrees_with_the_definition(F: np.ndarray) -> None:
    expected = [
        not any(dominates(q, p) for q in F) and not any((q == p).all() for q in F[:i])
        for i, p in enumerate(F)
    ]
    assert nondominated(F).tolist() == expected


def slow_crowding(F: np.ndarray) -> np.ndarray:
    total = np.zeros(len(F))
    for column in F.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        total[order[0]] = total[order[-1]] = np.inf
        for before, here, after in zip(order[:-2], order[1:-1], order[2:], strict=True):
            total[here] += (column[after] - column[before]) / (span or 1.0)
    return total


@given(points())
def test_crowding_agrees_with_the_published_loop_in_each_rank(F: np.ndarray) -> None:
    ranks = pareto_ranks(F)
    crowding = crowding_distances(F, ranks)
    for rank in np.unique(ranks):
        np.testing.assert_allclose(crowding[ranks == rank], slow_crowding(F[ranks == rank]))


@given(points(most=7))
def test_hypervolume_agrees_with_inclusion_and_exclusion(F: np.ndarray) -> None:
    reference, scale = F.max(axis=0) + 0.5, np.linspace(0.5, 3.0, F.shape[1])
    expected = 0.0
    for k in range(1, len(F) + 1):
        for subset in combinations(F, k):
            corner = np.max(subset, axis=0)
            expected -= (-1) ** k * np.prod((reference - corner) / scale)
    assert hypervolume(F, reference, scale) == pytest.approx(expected)


def test_points_beyond_the_reference_add_nothing() -> None:
    one = np.ones(2)
    assert hypervolume(np.array([[2.0, 0.0], [0.5, 0.5]]), one, one) == pytest.approx(0.25)
    assert hypervolume(np.zeros((0, 2)), one, one) == 0.0


def test_the_knee_is_the_corner_of_an_elbow() -> None:
    F = np.array([[0.0, 100.0], [1.0, 60.0], [2.0, 10.0], [6.0, 5.0], [10.0, 0.0]])
    assert knee_index(F) == 2
    assert knee_index(F[:1]) == 0
    assert knee_index(np.array([[1.0, 3.0], [0.0, 3.0]])) == 1


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_exact_front_is_that_of_enumeration(objectives: int, seed: int) -> None:
    space = additive_space(6, objectives, seed, choices=(2, 3, 4))
    grids = np.meshgrid(*(range(size) for size in space.sizes), indexing="ij")
    rows = np.stack([grid.ravel() for grid in grids], axis=1)
    signs = np.array([-1.0] + [1.0] * (objectives - 1))
    everything = np.column_stack(list(space(rows).values())) * signs
    truth = everything[nondominated(everything)]
    F, found = space.exact_front()
    np.testing.assert_allclose(F, truth[np.lexsort(truth.T[::-1])])
    np.testing.assert_allclose(np.column_stack(list(space(found).values())) * signs, F)


def test_the_exact_front_of_no_choice_is_one_point() -> None:
    F, rows = exact_additive_front([np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])])
    assert F.tolist() == [[4.0, 6.0]]
    assert rows.tolist() == [[0, 0]]


OBJECTIVES = (Objective("accuracy", "max"), Objective("latency_ms", "min"))


@pytest.fixture
def front() -> Front:
    space = get_space("salnas")
    rows = np.zeros((4, len(space.sizes)), dtype=np.int64)
    rows[:, 4] = [0, 1, 1, 0]
    rows[:, 0] = [0, 0, 1, 1]
    columns = {
        "accuracy": np.array([0.6, 0.7, 0.95, 0.94]),
        "latency_ms": np.array([10.0, 20.0, 70.0, 30.0]),
    }
    return front_table(space, rows, columns, OBJECTIVES)


def test_a_front_is_sorted_by_its_cost_and_reads_like_the_space(front: Front) -> None:
    assert front.table["latency_ms"].tolist() == [10, 20, 30, 70]
    assert front.table["resolution"].tolist() == ["256x192", "256x192", "384x288", "384x288"]
    space = get_space("salnas")
    assert space.arch_of_id(front.table["id"][0]) == space.smallest()
    assert front.knee == front.table["id"][2]
    assert front.table["knee"].tolist() == [False, False, True, False]


def test_a_budget_filters_and_marks_the_knee_anew(front: Front) -> None:
    within = front.within(["latency_ms<=20"])
    assert within.table["latency_ms"].tolist() == [10, 20]
    assert within.table["knee"].sum() == 1
    assert front.within(["resolution==384x288", "accuracy>=0.95"]).table["latency_ms"].tolist() == [70]


def test_the_best_come_first(front: Front) -> None:
    assert front.best(2).table["accuracy"].tolist() == [0.95, 0.94]
    assert front.best(1, by="latency_ms").table["latency_ms"].tolist() == [10]
    assert len(front.best(9)) == 4


def test_an_impossible_budget_says_what_is_possible(front: Front) -> None:
    with pytest.raises(InfeasibleBudget, match="from 10 to 70"):
        front.within(["latency_ms<=5"])
    with pytest.raises(InfeasibleBudget):
        front.within(["resolution==100x100"])


@pytest.mark.parametrize("text", ["bogus<=3", "latency_ms<=x", "resolution<=3", "nonsense"])
def test_wrong_filters_are_refused(front: Front, text: str) -> None:
    with pytest.raises(InvalidConstraint):
        front.within([text])


def test_comparison_in_one_box(front: Front) -> None:
    worse = Front(front.table.assign(accuracy=front.table["accuracy"] - 0.05), OBJECTIVES)
    table = compare({"ours": front, "theirs": worse}).set_index("front")
    assert table.loc["ours", "hypervolume"] == pytest.approx(1.0)
    assert float(table["hypervolume"]["theirs"]) < 1.0
    assert table.loc["ours", "share"] == 1.0
    assert table.loc["theirs", "share"] == 0.0


def test_fronts_over_different_objectives_cannot_be_compared(front: Front) -> None:
    other = Front(front.table, OBJECTIVES[::-1])
    with pytest.raises(InvalidConstraint):
        compare({"a": front, "b": other})


def test_an_empty_front_has_no_knee() -> None:
    empty = Front(pd.DataFrame({"id": [], "accuracy": [], "latency_ms": []}), OBJECTIVES)
    assert empty.knee is None
    assert len(empty) == 0
    assert empty.F.shape == (0, 2)


def test_rows_are_read_back_from_the_table(front: Front) -> None:
    space = get_space("salnas")
    rows = front.rows(space)
    assert space.ids(rows) == front.table["id"].tolist()
    with pytest.raises(InvalidConstraint, match="does not belong to space tiny"):
        front.rows(get_space("tiny"))


def test_attainment_counts_runs() -> None:
    def run(*points: tuple[float, float]) -> Front:
        table = pd.DataFrame(points, columns=["accuracy", "latency_ms"]).assign(id="x")
        return Front(table, OBJECTIVES)

    runs = [run((0.5, 10.0)), run((0.6, 10.0)), run((0.7, 10.0)), run((0.8, 10.0), (0.9, 20.0))]
    surfaces = attainment(runs, (0, 50, 100))
    by_percentile = {
        p: part[["accuracy", "latency_ms"]].to_numpy() for p, part in surfaces.groupby("percentile")
    }
    assert by_percentile[0].tolist() == [[0.9, 20.0], [0.8, 10.0]]
    assert by_percentile[50].tolist() == [[0.7, 10.0]]
    assert by_percentile[100].tolist() == [[0.5, 10.0]]


def test_attained_volume_falls_from_the_best_to_the_worst_run() -> None:
    def run(*points: tuple[float, float]) -> Front:
        table = pd.DataFrame(points, columns=["accuracy", "latency_ms"]).assign(id="x")
        return Front(table, OBJECTIVES)

    runs = [run((0.5, 10.0), (0.8, 20.0)), run((0.5, 10.0), (0.7, 20.0))]
    found = attained_volumes(runs, (0, 100)).set_index("percentile")["hypervolume"]
    reference, span = np.array([-0.5 + 0.003, 20.1]), np.array([0.3, 10.0])
    volumes = [one.hypervolume(reference, span) for one in runs]
    assert found[0] == pytest.approx(1.0)
    assert found[100] == pytest.approx(volumes[1] / volumes[0])


def test_attainment_of_different_objectives_is_refused(front: Front) -> None:
    with pytest.raises(InvalidConstraint):
        attainment([front, Front(front.table, OBJECTIVES[::-1])])
