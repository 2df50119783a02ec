"""A fresh search for a budget knows what the stored front knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.estimates import Choice
from service.use_cases import Subnets
from service.workbench import SearchRequest, Workbench

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.slow
def test_it_is_never_worse_than_the_stored_front() -> None:
    bench = Workbench.open(RESULTS)
    request = SearchRequest(seed=5, evaluations=100_000)
    stored = bench.front(bench.search(request), request)
    searches = cast(Any, SimpleNamespace(default_front=lambda: stored))
    subnets = Subnets(searches, cast(Any, SimpleNamespace(get=lambda _: bench)))
    latencies = stored.table["latency_ms"]
    for share in (0.1, 0.2, 0.4):
        bound = f"latency_ms<={latencies.min() + share * (latencies.max() - latencies.min()):.4g}"
        (known,) = subnets.query([bound], k=1, by="accuracy")
        (fresh,) = subnets.query_fresh(
            [bound], k=1, by="accuracy", supernet=None, choice=Choice("cc", "cpu-1-thread")
        )
        assert fresh["latency_ms"]["predicted"] <= float(bound.split("=")[1])
        assert fresh["accuracy"]["predicted"] >= known["accuracy"]["predicted"] - 1e-9
