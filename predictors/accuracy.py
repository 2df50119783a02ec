"""Accuracy of subnets from their genes: one predictor for each metric (cc, kld, nss, sim, auc).

The search's model is a Gaussian process over genes (`predictors.gaussian`). Its intervals are normalised conformal
ones (Papadopoulos et al. 2008; Lei et al. 2018, section 5.2): the process says how much less it knows of one subnet
than of another, the residuals of subnets in folds that were held out say how wide that makes an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import Estimate, FloatArray, additive_estimate, conformal_radius
from predictors.gaussian import GaussianModel, Parameters, Support, fit_gaussian
from predictors.ranking import FOLDS, Quality, out_of_fold, quality
from predictors.store import array, load_model, save_model
from predictors.threads import in_threads
from supernet.metric_names import METRICS
from supernet.space import Rows, Space

KIND = "accuracy"


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """One metric of the subnets of a space.

    `radius` is the half width of an interval over the deviation of the process, `usual_radius` the median half width
    and `quality` the quality of predictions for subnets in held-out folds.
    """

    metric: str
    space: Space
    model: GaussianModel
    radius: float
    usual_radius: float
    quality: Quality

    def mean(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) predictions in the unit of the metric, without intervals: all a search needs."""
        return self.model(rows)

    def predict(self, rows: Rows) -> Estimate:
        """(n, d) genotypes → predictions with intervals, in the unit of the metric."""
        return additive_estimate(self.mean(rows), self.radius * self.model.support.deviation(rows))


@dataclass(frozen=True, eq=False)
class AccuracyPredictors:
    """Predictors by metric, and what they were fitted to."""

    space: Space
    by_metric: Mapping[str, AccuracyPredictor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path | str, *, supernet: str | None) -> None:
        """Write all metrics to one file; `supernet` is the fingerprint of the measured weights."""
        models = {name: predictor.model for name, predictor in self.by_metric.items()}
        arrays: dict[str, NDArray[Any]] = {"rows": next(iter(models.values())).support.rows}
        for name, model in models.items():
            arrays |= {
                f"{name}.{kind}": getattr(model.support.parameters, kind)
                for kind in ("lengths", "singles", "pairs")
            }
            arrays[f"{name}.weights"] = model.weights
        fitted = {
            name: {
                "constant": p.model.constant,
                "near": p.model.support.parameters.near,
                "noise": p.model.support.parameters.noise,
                "radius": p.radius,
                "usual_radius": p.usual_radius,
                "quality": p.quality.to_json(),
            }
            for name, p in self.by_metric.items()
        }
        meta = {"metrics": fitted, "subnets": len(arrays["rows"]), "provenance": dict(self.provenance)}
        save_model(path, KIND, self.space, arrays, meta, supernet=supernet)


def load_accuracy(path: Path | str, space: Space, *, supernet: str | None = None) -> AccuracyPredictors:
    """Read predictors; PredictorError where they are damaged or of another space or other weights."""
    arrays, meta = load_model(path, KIND, space, supernet=supernet)
    d = len(space.trait_sizes)
    s = int(meta.get("subnets", 0))  # files of before hold none, and lack the arrays too
    rows = space.validate_rows(array(path, arrays, "rows", (s, len(space.sizes))))
    found = {}
    for name, entry in meta["metrics"].items():
        lengths = array(path, arrays, f"{name}.lengths", (2, d))
        singles, pairs = (array(path, arrays, f"{name}.{kind}", (d,)) for kind in ("singles", "pairs"))
        weights = array(path, arrays, f"{name}.weights", (s,))
        parameters = Parameters(lengths, singles, pairs, float(entry["near"]), float(entry["noise"]))
        support = Support(space, rows, parameters)
        found[name] = AccuracyPredictor(
            name,
            space,
            GaussianModel(support, weights, float(entry["constant"])),
            float(entry["radius"]),
            float(entry["usual_radius"]),
            Quality(**entry["quality"]),
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

    held_out, deviation = held_out_accuracy(space, rows, targets, rng, folds=folds)
    found = {}
    for t, model in enumerate(_fit_each(space, rows, targets)):
        radius = conformal_radius((targets[:, t] - held_out[:, t]) / deviation[:, t])
        usual = float(np.median(radius * deviation[:, t]))
        measured = quality(targets[:, t], held_out[:, t])
        found[names[t]] = AccuracyPredictor(names[t], space, model, radius, usual, measured)
    return AccuracyPredictors(space, found, dict(provenance or {}))


def held_out_accuracy(
    space: Space, rows: Rows, targets: FloatArray, rng: np.random.Generator, *, folds: int = FOLDS
) -> tuple[FloatArray, FloatArray]:
    """Predictions (n, t) of `targets` for every subnet by models of the other folds, and their deviations (n, t)."""

    def fit(seen: Rows, values: FloatArray) -> Any:
        models = _fit_each(space, seen, values)
        return lambda unseen: np.stack(
            [[model(unseen) for model in models], [model.support.deviation(unseen) for model in models]]
        ).transpose(2, 0, 1)

    found = out_of_fold(fit, rows, targets, rng=rng, folds=folds)
    return found[:, 0], found[:, 1]


def _fit_each(space: Space, rows: Rows, targets: FloatArray) -> list[GaussianModel]:
    """One model for each column of `targets` (n, t): metrics depend on genes in ways of their own."""
    return in_threads(lambda target: fit_gaussian(space, rows, target), list(targets.T))
