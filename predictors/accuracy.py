"""Accuracy of subnets from their genes: one predictor for each metric (cc, kld, nss, sim, auc).

The search's model is a Gaussian process over genes (`predictors.gaussian`). Intervals are conformal: as wide as the
residuals of subnets in folds that were held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from predictors.estimate import Estimate, FloatArray, additive_estimate, conformal_radius
from predictors.gaussian import GaussianModel, fit_gaussian
from predictors.ranking import FOLDS, Quality, out_of_fold, quality
from predictors.store import array, load_model, save_model
from supernet.metric_names import METRICS
from supernet.space import Rows, Space

KIND = "accuracy"
_PARTS = ("lengths", "support", "weights")


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """One metric of the subnets of a space, with intervals of half width `radius`.

    `quality` is of predictions for subnets in held-out folds.
    """

    metric: str
    space: Space
    model: GaussianModel
    radius: float
    quality: Quality

    def predict(self, rows: Rows) -> Estimate:
        """(n, d) genotypes → predictions in the unit of the metric."""
        return additive_estimate(self.model(rows), self.radius)


@dataclass(frozen=True, eq=False)
class AccuracyPredictors:
    """Predictors by metric, and what they were fitted to."""

    space: Space
    by_metric: Mapping[str, AccuracyPredictor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path | str, *, supernet: str | None) -> None:
        """Write all metrics to one file; `supernet` is the fingerprint of the measured weights."""
        arrays = {
            f"{name}.{part}": getattr(p.model, part) for name, p in self.by_metric.items() for part in _PARTS
        }
        fitted = {
            name: {
                "constant": p.model.constant,
                "support": len(p.model.weights),
                "radius": p.radius,
                "quality": p.quality.to_json(),
            }
            for name, p in self.by_metric.items()
        }
        meta = {"metrics": fitted, "provenance": dict(self.provenance)}
        save_model(path, KIND, self.space, arrays, meta, supernet=supernet)


def load_accuracy(path: Path | str, space: Space, *, supernet: str | None = None) -> AccuracyPredictors:
    """Read predictors; PredictorError where they are damaged or of another space or other weights."""
    arrays, meta = load_model(path, KIND, space, supernet=supernet)
    d = len(space.sizes)
    found = {}
    for name, entry in meta["metrics"].items():
        s = int(entry["support"])
        lengths, support, weights = (
            array(path, arrays, f"{name}.{part}", shape)
            for part, shape in zip(_PARTS, [(d,), (s, d), (s,)], strict=True)
        )
        model = GaussianModel(space.sizes, lengths, support, weights, float(entry["constant"]))
        found[name] = AccuracyPredictor(
            name, space, model, float(entry["radius"]), Quality(**entry["quality"])
        )
    return AccuracyPredictors(space, found, meta["provenance"])


def fit_accuracy(
    space: Space,
    rows: Rows,
    scores: Mapping[str, FloatArray],
    rng: np.random.Generator,
    *,
    folds: int = FOLDS,
    provenance: Mapping[str, Any] | None = None,
) -> AccuracyPredictors:
    """Fit one predictor per metric to measured `scores` (n,) of the subnets `rows` (n, d).

    Raises PredictorError where there are too few to hold any out.
    """
    names = [name for name in METRICS if name in scores] + sorted(set(scores) - set(METRICS))
    targets = np.column_stack([scores[name] for name in names])

    def fit(seen: Rows, values: FloatArray) -> Any:
        models = fit_gaussian(space.sizes, seen, values)
        return lambda unseen: np.column_stack([model(unseen) for model in models])

    held_out = out_of_fold(fit, rows, targets, rng=rng, folds=folds)
    found = {}
    for t, model in enumerate(fit_gaussian(space.sizes, rows, targets)):
        radius = conformal_radius(targets[:, t] - held_out[:, t])
        measured = quality(targets[:, t], held_out[:, t])
        found[names[t]] = AccuracyPredictor(names[t], space, model, radius, measured)
    return AccuracyPredictors(space, found, dict(provenance or {}))
