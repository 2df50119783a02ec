"""Networks of other designs are placed beside a front only where both of its quantities are known of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.plot import plot_fronts
from search.problem import Objective
from search.references import place_references, within_reach
from supernet.baselines.measured import ReferencePoint
from tests.unit.search.test_plot import front_of

FASTSAL = ReferencePoint(
    "fastsal-a",
    "FastSal A",
    "trained",
    3_650_000,
    640_000_000,
    (192, 256),
    {"cc": 0.72},
    {"cc": 0.70, "nss": 2.8},
    {"cpu-1-thread": 21.5},
)
REQUEST = {"metric": "cc", "device": "cpu-1-thread"}


def objectives(*names: str) -> tuple[Objective, ...]:
    return tuple(Objective.parse(name) for name in names)


@pytest.mark.parametrize(
    ("names", "request_", "expected"),
    [
        (("accuracy", "latency_ms"), REQUEST, (0.70, 21.5)),
        (("accuracy", "latency_ms@cpu-1-thread", "macs"), REQUEST, (0.70, 21.5)),
        (("nss", "macs"), {}, (2.8, 640e6)),
        (("accuracy", "parameters"), {**REQUEST, "metric": "nss"}, (2.8, 3.65e6)),
        (("accuracy", "latency_ms"), {**REQUEST, "device": "phone"}, None),
        (("accuracy", "latency_ms@phone"), REQUEST, None),
        (("accuracy", "latency_ms"), {}, None),
        (("accuracy", "memory_bytes"), REQUEST, None),
    ],
)
def test_places(
    names: tuple[str, ...], request_: dict[str, str], expected: tuple[float, float] | None
) -> None:
    found = place_references([FASTSAL], objectives(*names), request_)
    assert found == ({} if expected is None else {"FastSal A": expected})


def test_what_finds_objects_has_no_place() -> None:
    csnet = replace(FASTSAL, name="csnet-x1", title="CSNet ×1-L")
    found = place_references([csnet, FASTSAL], objectives("accuracy", "latency_ms"), REQUEST)
    assert list(found) == ["FastSal A"]


def test_what_is_far_to_the_right_is_not_drawn() -> None:
    front = front_of(0)
    dearest = float(front.table[front.objectives[1].name].max())
    places = {"near": (0.7, 2 * dearest), "fast": (0.7, 0.0), "far": (0.7, 2.01 * dearest)}
    assert list(within_reach(places, [front])) == ["near", "fast"]


def test_they_are_drawn_with_their_names(tmp_path: Path) -> None:
    front = {"a": front_of(0)}
    places = {"FastSal A": (0.6, 2e9)}
    plot_fronts(front, tmp_path / "with.png", references=places)
    with Image.open(tmp_path / "with.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(pixels - [0x8C, 0x2D, 0x04]).sum(axis=2) < 40).sum() > 200, "a diamond and a name"
    plot_fronts(front, tmp_path / "with.html", references=places)
    assert "FastSal A" in (tmp_path / "with.html").read_text()
