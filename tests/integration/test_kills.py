"""A short attack on searches; `make bench-kills` makes a hundred of them."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping

import pytest

from benchmarks.bench_kills import attack

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("scenario", "kills"),
    [
        ("SQLite, small disk", {"service": 1, "worker": 1, "full disk": 1}),
        ("PostgreSQL", {"connections": 3}),
        pytest.param(
            "islands on Ray",
            {"Ray head": 1},
            marks=pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
        ),
    ],
)
def test_no_search_is_lost_or_changed(scenario: str, kills: Mapping[str, int]) -> None:
    rows = attack(scenario, kills, 60_000, random.Random(1))
    assert {row["killed"] for row in rows} <= set(kills)
    assert rows[0]["searches"] >= 2
    assert [(row["lost"], row["twice"], row["changed"]) for row in rows] == [(0, 0, 0)] * len(rows)
