from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from search.front import Front
from search.problem import Objective
from service.fronts import BudgetIndex, StoredFront
from service.workbench import SearchRequest, Workbench
from supernet.errors import InfeasibleBudget, InvalidConstraint
from tests.fixtures.made_up import use_made_up_accuracy, write_made_up_results
from tests.fixtures.tiny import TINY

ACCURACY = Objective("accuracy", "max")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    folder: Path = tmp_path_factory.mktemp("results")
    write_made_up_results(folder)
    with pytest.MonkeyPatch.context() as patch:
        use_made_up_accuracy(patch)
        yield Workbench.open(folder, TINY)


@pytest.fixture(scope="module")
def front(bench: Workbench) -> StoredFront:
    request = SearchRequest(objectives=("accuracy", "latency_ms", "nss"), evaluations=2000)
    return bench.front(bench.search(request), request)


def test_a_front_survives_storage(front: StoredFront) -> None:
    again = StoredFront.from_bytes(front.to_bytes())
    assert again.table.equals(front.table)
    assert (again.objectives, again.predicted, again.hypervolume, again.knee) == (
        front.objectives,
        front.predicted,
        front.hypervolume,
        front.knee,
    )


def test_every_quantity_of_a_subnet_is_shown(front: StoredFront, bench: Workbench) -> None:
    subnets = front.subnets()
    assert len(subnets) == len(front)
    for subnet in subnets[:5]:
        described = bench.describe(bench.arch(subnet["id"]))
        assert subnet["resolution"] == described["resolution"]
        assert subnet["macs"] == described["macs"]
        assert subnet["accuracy"] == pytest.approx(described["predictions"]["accuracy"]["cc"])
        assert subnet["nss"] == pytest.approx(described["predictions"]["accuracy"]["nss"])
        assert subnet["latency_ms"] == pytest.approx(described["predictions"]["latency_ms"]["cpu-1-thread"])


def test_an_empty_front() -> None:
    empty = StoredFront.empty((ACCURACY, Objective("macs", "min")))
    assert len(empty) == 0
    assert empty.subnets() == []
    assert empty.knee is None


def test_the_index_answers_as_the_table_does(front: StoredFront) -> None:
    rng = np.random.default_rng(0)
    index = BudgetIndex([front])
    table = front.table
    plain = Front(table, front.objectives)
    for _ in range(30):
        bounds = []
        for name in rng.choice(["latency_ms", "macs", "memory_bytes", "accuracy_low"], 2, replace=False):
            relation = ">=" if name == "accuracy_low" else "<="
            bounds.append(f"{name}{relation}{rng.choice(table[str(name)])}")
        try:
            expected = plain.within(bounds).best(3, "accuracy").table["id"].tolist()
        except InfeasibleBudget:
            with pytest.raises(InfeasibleBudget):
                index.best(bounds, 3, ACCURACY)
        else:
            assert [s["id"] for s in index.best(bounds, 3, ACCURACY)] == expected


def test_the_index_knows_genes(front: StoredFront) -> None:
    found = BudgetIndex([front]).best(["resolution==32x32", "mb2.width<=8"], 10_000, ACCURACY)
    kept = front.within(["resolution==32x32", "mb2.width<=8"])
    assert {s["id"] for s in found} == set(kept.table["id"])
    assert all(s["resolution"] == [32, 32] for s in found)


def test_the_index_refuses_what_it_does_not_know(front: StoredFront) -> None:
    index = BudgetIndex([front])
    with pytest.raises(InvalidConstraint):
        index.best(["colour<=1"], 1, ACCURACY)
    with pytest.raises(InvalidConstraint):
        index.best(["macs<=many"], 1, ACCURACY)
    with pytest.raises(InvalidConstraint, match="has no 'colour'"):
        index.best([], 1, Objective.parse("colour"))
    with pytest.raises(InfeasibleBudget) as caught:
        index.best(["macs<=1"], 1, ACCURACY)
    assert "goes from" in str(caught.value.remedy)


def test_a_merged_index_has_each_subnet_once(front: StoredFront) -> None:
    assert len(BudgetIndex([front, front]).best([], 10_000, ACCURACY)) == len(front)
