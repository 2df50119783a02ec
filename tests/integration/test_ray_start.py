"""Nobody waits for Ray: the service is ready and answers budgets while a real Ray starts beside it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fixtures.serving import Served, descendants, serving, wait_for
from tests.fixtures.tiny import TINY, write_predictors, write_supernet

pytestmark = pytest.mark.slow

RAY_PARTS = (b"gcs_server", b"raylet")
LONGEST = 2.0
"""What an answer may take on a machine that is busy with Ray, in s; Ray itself takes longer to start."""


def query(served: Served) -> int:
    body = {"constraints": ["macs<=5e6"]}
    return served.client.post("/v1/subnets:query", json=body, timeout=LONGEST).status_code


def is_up(served: Served) -> bool:
    return "Ray is ready with" in served.log.read_text()


def test_budgets_are_answered_while_ray_starts(tmp_path: Path) -> None:
    results, state = tmp_path / "results", tmp_path / "state"
    write_supernet(results)
    write_predictors(results, subnets=60)
    with serving(results, state, supernet=TINY) as served:
        wait_for(lambda: query(served) == 200)
    answered, starting = 0, 0
    with serving(results, state, supernet=TINY, ray="start") as served:
        assert not is_up(served), "the service is ready before Ray is"
        deadline = time.monotonic() + 120
        while not is_up(served):
            assert time.monotonic() < deadline
            assert served.client.get("/readyz", timeout=LONGEST).status_code == 200
            assert query(served) == 200
            if not is_up(served):
                answered += 1
                starting += bool(descendants(served.process.pid, RAY_PARTS))
            time.sleep(0.05)
        assert query(served) == 200
    assert answered >= 5
    assert starting >= 1, "parts of Ray ran already"
