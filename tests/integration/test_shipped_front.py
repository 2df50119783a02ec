"""The search with the predictors that are shipped."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from search.front import Front
from search.run import SearchResult
from service.workbench import SearchRequest, Workbench
from supernet.errors import InfeasibleBudget

RESULTS = Path(__file__).resolve().parents[2] / "results"

UNBOUNDED, BOUNDED = range(4), range(100, 104)
"""Seeds."""


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench.open(RESULTS)


@pytest.fixture(scope="module")
def everything(bench: Workbench) -> list[SearchResult]:
    """What searches without any bound find."""
    return [bench.search(SearchRequest(seed=seed)) for seed in UNBOUNDED]


@pytest.mark.slow
def test_every_seed_finds_the_front(everything: list[SearchResult]) -> None:
    found = [result.hypervolume for result in everything]
    assert min(found) > 0.99 * max(found)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5, 0.8])
def test_a_budget_loses_nothing(bench: Workbench, everything: list[SearchResult], share: float) -> None:
    """A search within a bound must find what searches without it find there: the bound is an objective."""
    latencies = everything[0].front["latency_ms"]
    bound = f"latency_ms<={float(latencies.min() + share * (latencies.max() - latencies.min())):.4g}"
    within = [best_of(result.pareto, bound) for result in everything]
    for seed in BOUNDED:
        found = best_of(bench.search(SearchRequest(constraints=(bound,), seed=seed)).pareto, bound)
        assert found > max(within) - 5e-4, f"seed {seed}: {found} where {max(within)} is known"


@pytest.mark.slow
def test_a_larger_budget_never_gives_a_worse_best(bench: Workbench, everything: list[SearchResult]) -> None:
    latencies = everything[0].front["latency_ms"]
    best = []
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        bound = f"latency_ms<={float(latencies.min() + share * (latencies.max() - latencies.min())):.4g}"
        asked = SearchRequest(constraints=(bound,), seed=7, evaluations=4_000)
        best.append(best_of(bench.search(asked).pareto, bound))
    assert all(more > less - 5e-4 for less, more in pairwise(best)), best
    assert best[-1] > best[0]


def best_of(front: Front, bound: str) -> float:
    return float(front.within([bound]).table["accuracy"].max())


@pytest.mark.slow
def test_nothing_that_was_found_is_called_impossible(
    bench: Workbench, everything: list[SearchResult]
) -> None:
    best = everything[0].front.nlargest(1, "accuracy").iloc[0]
    for bounds in (
        (f"accuracy>={best['accuracy'] - 1e-4:.6f}",),
        (f"accuracy>={best['accuracy'] - 1e-3:.6f}", f"latency_ms<={1.02 * best['latency_ms']:.6g}"),
    ):
        assert len(bench.search(SearchRequest(constraints=bounds, evaluations=4_000)).front)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cc", "nss", "kld"])
def test_the_best_possible_is_no_worse_than_what_searches_find(bench: Workbench, name: str) -> None:
    """A refusal that says what is possible must not fall short of it."""
    relation, impossible = ("<=", 0.0) if name == "kld" else (">=", 100.0)
    objective = f"{'min' if name == 'kld' else 'max'}:{name}"
    front = bench.search(SearchRequest(objectives=(objective, "latency_ms"))).front[name]
    with pytest.raises(InfeasibleBudget) as refused:
        bench.search(SearchRequest(constraints=(f"{name}{relation}{impossible}",)))
    low, high = (
        float(word.strip(".,")) for word in (refused.value.remedy or "").split() if word[0].isdigit()
    )
    assert low <= front.min() + 5e-4
    assert high >= front.max() - 5e-4
