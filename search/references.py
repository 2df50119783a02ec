"""Where networks of other designs stand beside a front: their measured numbers over its first two objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.front import Front
from search.problem import Objective
from supernet.baselines.measured import ReferencePoint
from supernet.baselines.registry import find_model

Place = tuple[float, float]
"""Values of the first and the second objective, in their units."""

REACH = 2.0
"""A model at more than so many times what a front's dearest subnet costs would press the front into a line."""


def place_references(
    points: Sequence[ReferencePoint], objectives: Sequence[Objective], request: Mapping[str, Any]
) -> dict[str, Place]:
    """Titles and places of the models that have both numbers.

    `request` is what the search was asked for: its `metric` is what accuracy means, its `device` what latency_ms
    means; without them these two are unknown, and no model is placed.
    """
    first, second = (objective.name for objective in objectives[:2])
    found: dict[str, Place] = {}
    for point in points:
        if find_model(point.name).task != "saliency":
            continue
        up, across = _value(point, first, request), _value(point, second, request)
        if up is not None and across is not None:
            found[point.title] = up, across
    return found


def within_reach(places: Mapping[str, Place], fronts: Iterable[Front]) -> dict[str, Place]:
    """The places that a plot of `fronts` can show (see `REACH`)."""
    dearest = max(float(front.table[front.objectives[1].name].max()) for front in fronts)
    return {title: place for title, place in places.items() if place[1] <= REACH * dearest}


def _value(point: ReferencePoint, name: str, request: Mapping[str, Any]) -> float | None:
    quantity, _, device = name.partition("@")
    if quantity == "latency_ms":
        return point.latency_ms.get(device or request.get("device", ""))
    if quantity in ("macs", "parameters"):
        return float(getattr(point, quantity))
    return point.held_out.get(request.get("metric", "") if quantity == "accuracy" else quantity)
