"""Latency of subnets on one device, or energy: the work of their operations, timed, and a learned correction.

A subnet's latency is modelled as Σ over sections and kinds of operations (macs, numbers moved, weights read,
operations started) of a time that is never negative, times the exponential of a small correction that depends on
traits (genes, and which shortcuts are the identity) and pairs of them. The first part carries the physics and is good
after few measurements; the second learns what a device does differently. Intervals are relative and conformal.

Energy is a sum over operations as latency is, so it has the same model; what is said of milliseconds then holds for
millijoules.

Notation: g kinds of operations (`predictors.features.GROUPS`); rows (n, d); latencies in milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import Estimate, FloatArray, conformal_radius, relative_estimate
from predictors.features import (
    GROUPS,
    WORK,
    WORK_COLUMNS,
    Section,
    batches,
    columns,
    sections,
    work_of_rows,
)
from predictors.pairs import PairModel, fit_pairs
from predictors.ranking import FOLDS, Quality, out_of_fold, quality
from predictors.store import array, load_model, save_model
from supernet.errors import PredictorError
from supernet.space import Rows, Space

Quantity: TypeAlias = Literal["latency", "energy"]
"""What is predicted: milliseconds or millijoules for one photo."""

_BATCH = 16384
_REWEIGHTED = 3
_FAR = 4.0


@dataclass(frozen=True, eq=False)
class TimedSection:
    """Milliseconds (combinations, g) that a section takes, for every combination of its genes."""

    genes: tuple[int, ...]
    counts: tuple[int, ...]
    ms: FloatArray

    def entries(self, rows: Rows) -> Any:
        """(n, d) genotypes → (n,) lines of `ms`."""
        return Section("", self.genes, self.counts, self.ms).entries(rows)


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Time per section, and a correction of its logarithm by the traits of a subnet of `space`."""

    space: Space
    timed: tuple[TimedSection, ...]
    correction: PairModel

    def __call__(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) milliseconds."""
        total = np.empty(len(rows))
        places, ms = self._lookup
        for piece in batches(len(rows), _BATCH):
            # In floats, which are exact here and have a fast product.
            lines = rows[piece].astype(np.float64) @ places[:-1] + places[-1]
            total[piece] = ms[lines.astype(np.int64)].sum(axis=1)
        return total * self.factor(rows)

    @cached_property
    def _lookup(self) -> tuple[FloatArray, FloatArray]:
        """All sections in one table of milliseconds (lines,); (d + 1, sections) what gives the lines of a row."""
        places = np.zeros((len(self.space.sizes) + 1, len(self.timed)))
        tables = [section.ms.sum(axis=1) for section in self.timed]
        for j, section in enumerate(self.timed):
            strides = np.cumprod([1, *section.counts[:0:-1]])[::-1]
            places[list(section.genes), j] = strides[: len(section.genes)]
            places[-1, j] = sum(len(table) for table in tables[:j])
        return places, np.concatenate(tables)

    def factor(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) what the correction multiplies by."""
        return np.asarray(np.exp(self.correction(self.space.traits(rows))), np.float64)

    def by_group(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n, g) milliseconds of each kind of operation, before the correction."""
        total = np.zeros((len(rows), len(GROUPS)))
        for section in self.timed:
            total += section.ms[section.entries(rows)]
        return total


@dataclass(frozen=True, eq=False)
class LatencyPredictor:
    """Latency of the subnets of a space on one device; intervals are mean · exp(±radius).

    `quality` is of predictions for subnets in held-out folds; `held_out` (2, n) are the values it compares, measured
    and predicted.
    """

    space: Space
    model: LatencyModel
    radius: float
    quality: Quality
    provenance: Mapping[str, Any] = field(default_factory=dict)
    quantity: Quantity = "latency"
    held_out: FloatArray | None = None

    def mean(self, rows: Rows) -> FloatArray:
        """(n, d) genotypes → (n,) milliseconds, of energy millijoules."""
        return self.model(rows)

    def predict(self, rows: Rows) -> Estimate:
        """(n, d) genotypes → milliseconds, of energy millijoules, with intervals."""
        return relative_estimate(self.mean(rows), self.radius)

    def held_out_to_json(self) -> dict[str, list[float]]:
        """Measured values, and what was predicted for them unseen, to four digits; empty where none were kept."""
        pair = ((), ()) if self.held_out is None else self.held_out
        measured, predicted = ([float(f"{value:.4g}") for value in values] for values in pair)
        return {"measured": measured, "predicted": predicted}

    def save(self, path: Path | str) -> None:
        """Write the predictor; it depends on the space and on no weights."""
        timed, correction = self.model.timed, self.model.correction
        arrays = {f"section.{i}": section.ms for i, section in enumerate(timed)}
        if self.held_out is not None:
            arrays["held_out"] = self.held_out
        meta = {
            "sections": [{"genes": s.genes, "counts": s.counts} for s in timed],
            "groups": GROUPS,
            "constant": correction.constant,
            "radius": self.radius,
            "quality": self.quality.to_json(),
            "provenance": dict(self.provenance),
        }
        save_model(path, self.quantity, self.space, arrays | {"correction": correction.weights}, meta)


def load_latency(path: Path | str, space: Space, quantity: Quantity = "latency") -> LatencyPredictor:
    """Read a predictor; PredictorError where it is damaged, of another space, or of another quantity."""
    arrays, meta = load_model(path, quantity, space)
    timed = []
    for i, entry in enumerate(meta["sections"]):
        counts = tuple(int(k) for k in entry["counts"])
        ms = array(path, arrays, f"section.{i}", (int(np.prod(counts)), len(meta["groups"])))
        timed.append(TimedSection(tuple(int(g) for g in entry["genes"]), counts, ms))
    correction = PairModel(space.trait_sizes, float(meta["constant"]), _correction(path, arrays, space))
    model = LatencyModel(space, tuple(timed), correction)
    return LatencyPredictor(
        space,
        model,
        float(meta["radius"]),
        Quality(**meta["quality"]),
        meta["provenance"],
        quantity,
        arrays.get("held_out"),
    )


def _correction(path: Path | str, arrays: Mapping[str, NDArray[Any]], space: Space) -> FloatArray:
    """(m, m) weights over the columns of traits; files that know genes alone say nothing of the others."""
    genes, traits = (len(columns(sizes).gene) for sizes in (space.sizes, space.trait_sizes))
    found = arrays.get("correction")
    if found is not None and found.shape == (genes, genes):
        return np.pad(array(path, arrays, "correction", (genes, genes)), (0, traits - genes))
    return array(path, arrays, "correction", (traits, traits))


def fit_latency(
    space: Space,
    rows: Rows,
    latency_ms: FloatArray,
    rng: np.random.Generator,
    *,
    folds: int = FOLDS,
    provenance: Mapping[str, Any] | None = None,
) -> LatencyPredictor:
    """Fit to measured latencies (n,) of the subnets `rows` (n, d).

    Raises PredictorError for latencies that are not positive numbers, and where there are too few of them.
    """
    if not (np.isfinite(latency_ms).all() and (latency_ms > 0).all()):
        raise PredictorError(
            "Latencies are positive numbers.",
            field="latency_ms",
            value=float(latency_ms[~(latency_ms > 0)][0]) if (~(latency_ms > 0)).any() else "infinite",
            remedy="Remove the lines that hold none.",
        )
    held_out = out_of_fold(
        lambda seen, values: fit_latency_model(space, seen, values), rows, latency_ms, rng=rng, folds=folds
    )
    radius = conformal_radius(np.log(latency_ms / held_out))
    model = fit_latency_model(space, rows, latency_ms)
    return LatencyPredictor(
        space,
        model,
        radius,
        quality(latency_ms, held_out),
        dict(provenance or {}),
        held_out=np.stack([latency_ms, held_out]),
    )


def fit_latency_model(
    space: Space,
    rows: Rows,
    latency_ms: FloatArray,
    *,
    kinds: Collection[str] = WORK,
    corrected: bool = True,
) -> LatencyModel:
    """Times of operations by non-negative least squares on relative errors, then the correction by ridge.

    A measurement that is far off counts little (Huber's weights), whatever disturbed it. With fewer `kinds` of work,
    or without the correction, it shows what those are worth.
    """
    from scipy.optimize import nnls  # slow to import, and only needed to fit

    work = work_of_rows(space, rows) * np.array([kind in kinds for _, kind in WORK_COLUMNS])
    scale = np.where(work.max(axis=0) > 0, work.max(axis=0), 1.0)
    shares = work / scale / latency_ms[:, None]
    weights = np.ones(len(rows))
    for _ in range(_REWEIGHTED):
        strength = np.sqrt(weights)
        times, _ = nnls(shares * strength[:, None], strength, maxiter=50 * work.shape[1])
        base = work @ (times / scale)
        if not (base > 0).all():
            raise PredictorError(
                "The latencies do not depend on the work of the subnets.",
                field="latency_ms",
                value=float(latency_ms.min()),
                remedy="Check that each latency stands beside the right id.",
            )
        off = np.log(latency_ms / base)
        weights = huber_weights(off)
    (correction, _), *_ = fit_pairs(space.trait_sizes, space.traits(rows), off[:, None], weights=weights)
    if not corrected:
        correction = PairModel(correction.sizes, 0.0, np.zeros_like(correction.weights))
    return LatencyModel(
        space, tuple(_timed(section, times / scale) for section in sections(space)), correction
    )


def huber_weights(off: FloatArray) -> FloatArray:
    """(n,) residuals → weights: 1 up to four usual deviations from the median, then falling with the square."""
    distance = np.abs(off - np.median(off))
    usual = max(1.4826 * float(np.median(distance)), 1e-3)
    weights: FloatArray = np.minimum(1.0, np.square(_FAR * usual / np.maximum(distance, 1e-12)))
    return weights


def _timed(section: Section, times: FloatArray) -> TimedSection:
    per_column = section.work * times
    group = np.array([GROUPS.index(name) for name, _ in WORK_COLUMNS])
    ms = np.stack([per_column[:, group == g].sum(axis=1) for g in range(len(GROUPS))], axis=1)
    return TimedSection(section.genes, section.counts, ms)
