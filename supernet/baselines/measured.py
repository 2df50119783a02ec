"""What was measured of the reference models: scores, latencies, and which subnets dominate them.

`make bench-models` writes it; `salnas models`, the service and the plots of fronts show it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from supernet.baselines.registry import ReferenceModel, find_model, model_names, reference_models
from supernet.errors import CheckpointError

FOLDER = "models"
MEASURED = "measured.json"
SUFFIX = ".safetensors"

TRAINED, PUBLISHED, RANDOM = "trained", "published", "random"
"""Where weights come from: a training of this program, the authors, nowhere."""

ABSENT = "absent"
"""Trained and measured, but their file is not here."""


@dataclass(frozen=True)
class ReferencePoint:
    """A network of another design, where it stands beside a front of subnets.

    `scores` are those of whole photos on OSIE validation (cc, nss, sim, auc higher better, kld lower), `held_out`
    those on the held-out training photos that accuracy predictors speak of, which is where a chart of a front
    can place it; both are empty where the weights are random. `latency_ms` by device (`cpu-1-thread`).
    """

    name: str
    title: str
    weights: str
    parameters: int
    macs: int
    resolution: tuple[int, int]
    scores: Mapping[str, float]
    held_out: Mapping[str, float]
    latency_ms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Point:
    """A network as a pair of a latency, lower better, and a score, higher better."""

    name: str
    latency_ms: float
    score: float


@dataclass(frozen=True)
class Dominance:
    """How subnets stand against one reference model.

    faster: the best subnet among those of at most its latency, with the score it gains (negative: it loses).
    better: the fastest subnet among those of at least its score, with the share of the latency it saves.
    None where there is no such subnet.
    """

    model: str
    faster: str | None
    gained: float | None
    better: str | None
    saved: float | None

    @property
    def is_dominated(self) -> bool:
        """Whether a subnet is at least as fast and at least as good, and one of them more so."""
        return self.gained is not None and self.gained >= 0 and (self.gained > 0 or (self.saved or 0) > 0)


def dominance(reference: Point, subnets: Sequence[Point]) -> Dominance:
    """Compare one model with measured subnets."""
    fast = [s for s in subnets if s.latency_ms <= reference.latency_ms]
    good = [s for s in subnets if s.score >= reference.score]
    best = max(fast, key=lambda s: s.score, default=None)
    quickest = min(good, key=lambda s: s.latency_ms, default=None)
    return Dominance(
        reference.name,
        best.name if best else None,
        best.score - reference.score if best else None,
        quickest.name if quickest else None,
        1 - quickest.latency_ms / reference.latency_ms if quickest else None,
    )


def load_measured(results: Path) -> dict[str, Any]:
    """What `make bench-models` wrote last, empty before. Raises CheckpointError for a damaged file."""
    path = results / FOLDER / MEASURED
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found["models"], dict):
            raise TypeError("models is no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}.",
            field="models",
            value=str(path),
            remedy="Run `make bench-models` again.",
        ) from error
    return found


def trained_file(results: Path, name: str) -> Path | None:
    """The trained weights of a reference model under `results`, None where there are none."""
    path = results / FOLDER / f"{name}{SUFFIX}"
    return path if path.exists() else None


def weights_of(results: Path, model: ReferenceModel) -> str:
    """Where the weights of a model come from."""
    if trained_file(results, model.name):
        return TRAINED
    return PUBLISHED if model.weights else RANDOM


def reference_points(results: Path) -> list[ReferencePoint]:
    """The measured reference models, for charts beside a front; none before `make bench-models`."""
    measured = load_measured(results).get("models", {})
    models = {name: find_model(name) for name in measured if name in model_names()}
    return [
        ReferencePoint(
            name,
            models[name].title,
            entry["weights"],
            models[name].parameters,
            models[name].macs,
            models[name].resolution,
            entry.get("scores", {}),
            entry.get("held_out", {}),
            entry.get("latency_ms", {}),
        )
        for name, entry in measured.items()
        if name in models
    ]


def describe_models(results: Path) -> list[dict[str, Any]]:
    """All reference models as plain data: what they cost, what papers report, and what was measured here."""
    measured = load_measured(results).get("models", {})
    found = []
    for model in reference_models():
        entry = measured.get(model.name, {})
        weights = weights_of(results, model)
        is_absent = weights == RANDOM and entry.get("weights") == TRAINED
        found.append(
            {
                **asdict(model),
                "weights": ABSENT if is_absent else weights,
                "weights_file": model.weights or model.start_weights,
                "scores": entry.get("scores", {}),
                "held_out": entry.get("held_out", {}),
                "object_scores": entry.get("object_scores", {}),
                "latency_ms": entry.get("latency_ms", {}),
            }
        )
    return found
