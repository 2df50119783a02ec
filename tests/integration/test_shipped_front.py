"""The search with the predictors that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.workbench import SearchRequest, Workbench

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.slow
@pytest.mark.parametrize("constraints", [(), ("latency_ms<=30",)])
def test_every_seed_finds_the_front(constraints: tuple[str, ...]) -> None:
    bench = Workbench.open(RESULTS)
    found = [bench.search(SearchRequest(constraints=constraints, seed=seed)).hypervolume for seed in range(8)]
    assert min(found) > 0.99 * max(found)
