from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, RenderableType

from service import display


def rendered(view: RenderableType, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (9994, "9.99 k"), (9996, "10.0 k"), (20446210, "20.4 M"),
     (3802380288, "3.80 G"), (99.96e9, "100 G")],
)  # fmt: skip
def test_counts_have_three_digits(value: float, text: str) -> None:
    assert display.count(value) == text


@pytest.mark.parametrize(("value", "text"), [(512, "512 B"), (25214976, "25.2 MB")])
def test_sizes_are_decimal(value: float, text: str) -> None:
    assert display.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12.3 ms"), (3.2, "3.20 s"), (119, "119 s"), (200.4, "3 min 20 s")]
)
def test_durations_suit_their_size(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(8192, "8,192"), (110075314176, "1.10 · 10¹¹"), (999999999, "1.00 · 10⁹")]
)
def test_big_numbers_are_powers_of_ten(value: int, text: str) -> None:
    assert display.big_number(value) == text


def front(n: int, **more: Any) -> dict[str, Any]:
    estimate = {"low": 0.5, "high": 0.9, "measured": None}
    subnets = [
        {
            "id": f"salnas-{i:09d}",
            "resolution": [288, 384],
            "accuracy": {"predicted": 0.6 + i / 1000, **estimate},
            "latency_ms": {"predicted": 10.0 + i, **estimate},
            "macs": 1_000_000_000 + i,
            "parameters": 20_000_000,
            "memory_bytes": 25_000_000,
            "knee": False,
        }
        for i in range(n)
    ]
    objectives = ["max:accuracy", "min:latency_ms"]
    knee = subnets[n // 3]["id"] if n else None
    return {"subnets": subnets, "knee": knee, "objectives": objectives, "accuracy_metric": "auc", **more}


@pytest.mark.parametrize("n", [0, 1, 2, 20, 21, 1000])
def test_a_front_shows_its_ends_and_its_knee_in_eighty_columns(n: int) -> None:
    found = front(n)
    text = rendered(display.front_view(found))
    lines = [line for line in text.splitlines() if "salnas-" in line]
    assert len(lines) == n if n <= 20 else 15 <= len(lines) <= 20
    assert "…" not in text
    if n:
        assert found["subnets"][0]["id"] in lines[0]
        assert found["subnets"][-1]["id"] in lines[-1]
        assert [line for line in lines if "◆" in line and found["knee"] in line]
        assert "AUC" in text


def test_a_measured_value_is_marked() -> None:
    found = front(2)
    found["subnets"][1]["accuracy"]["measured"] = 0.777
    text = rendered(display.front_view(found))
    assert "0.777*" in text
    assert "0.600 " in text


def test_objectives_come_before_other_columns() -> None:
    found = front(2, objectives=["min:parameters", "max:nss", "min:latency_ms@board"])
    for subnet in found["subnets"]:
        subnet |= {"nss": subnet["accuracy"], "latency_ms@board": subnet["latency_ms"]}
    heading = next(line for line in rendered(display.front_view(found)).splitlines() if "subnet  " in line)
    assert heading.split()[2:] == ["params", "NSS", "board", "AUC", "latency"]
