"""A latency predictor for a new device from few measurements and the predictor of a known one.

What the known device needs for each kind of operation is scaled to the new one, with a fixed time per operation
beside it (a GPU spends most on starting them). The scales are never negative and are drawn together, more or less, as
the measurements allow: with ten of them all kinds are nearly scaled alike, with a hundred each has its own. What
remains is corrected by traits, as in `predictors.latency`.

Notation: g kinds of operations, and one column more for starting them; rows (n, d); latencies in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from predictors.estimate import FloatArray, conformal_radius
from predictors.features import WORK_COLUMNS, sections, work_of_rows
from predictors.latency import (
    LatencyModel,
    LatencyPredictor,
    Quantity,
    TimedSection,
    fit_latency_model,
    huber_weights,
)
from predictors.pairs import fit_pairs
from predictors.ranking import FOLDS, out_of_fold, quality
from supernet.space import Rows, Space

ALONE = 40
"""Measurements from which on a fit without a known device is tried too."""

NOTHING = "nothing"
"""The start of a fit without a known device."""

_TOGETHER = tuple(float(x) for x in np.logspace(-4, 1, 11))
"""How strongly scales are drawn together: squared relative error of a measurement over variance of the scales."""

_SHARES_OF_STARTS = (0.0, 0.25, 0.5, 0.75, 0.95)
"""Of the usual latency on the new device, spent on starting operations."""

_STARTS = np.array([name == "count" for _, name in WORK_COLUMNS])

Recipe: TypeAlias = Callable[[Rows, FloatArray], LatencyModel]


def transfer_latency(
    space: Space,
    known: Mapping[str, LatencyPredictor],
    rows: Rows,
    latency_ms: FloatArray,
    rng: np.random.Generator,
    *,
    provenance: Mapping[str, Any] | None = None,
    quantity: Quantity = "latency",
) -> LatencyPredictor:
    """Fit to the measurements (n,) of the subnets `rows` (n, d), starting from each known device in turn.

    The start with the least held-out error wins; its name is in the provenance as `start`. Energies are fitted
    alike, for what takes time takes energy. Raises PredictorError under 10 measurements.
    """
    recipes = {name: _recipe(space, predictor.model) for name, predictor in known.items()}
    if not recipes or len(rows) >= ALONE:
        recipes[NOTHING] = lambda seen, values: fit_latency_model(space, seen, values)
    seed = int(rng.integers(2**32))
    held_out = {
        name: out_of_fold(recipe, rows, latency_ms, rng=np.random.default_rng(seed), folds=FOLDS)
        for name, recipe in recipes.items()
    }
    error = {name: float(np.abs(np.log(latency_ms / values)).mean()) for name, values in held_out.items()}
    start = min(error, key=lambda name: error[name])
    return LatencyPredictor(
        space,
        recipes[start](rows, latency_ms),
        conformal_radius(np.log(latency_ms / held_out[start])),
        quality(latency_ms, held_out[start]),
        {**(provenance or {}), "start": start},
        quantity,
        np.stack([latency_ms, held_out[start]]),
    )


def transferred(space: Space, known: LatencyModel, rows: Rows, latency_ms: FloatArray) -> LatencyModel:
    """The known model with its kinds of operations scaled to the measurements, and a correction of its own."""
    starts = work_of_rows(space, rows)[:, _STARTS].sum(axis=1)
    parts = np.column_stack([known.by_group(rows), starts]) * known.factor(rows)[:, None]
    scales = fit_scales(parts, latency_ms)
    off = np.log(latency_ms / (parts @ scales))
    (correction, _), *_ = fit_pairs(
        space.trait_sizes, space.traits(rows), off[:, None], weights=huber_weights(off)
    )
    timed = tuple(
        _rescaled(old, section.work[:, _STARTS].sum(axis=1), scales)
        for old, section in zip(known.timed, sections(space), strict=True)
    )
    return LatencyModel(space, timed, correction + known.correction)


def fit_scales(parts: FloatArray, latency_ms: FloatArray) -> FloatArray:
    """(g + 1,) non-negative scales of the columns of `parts` (n, g + 1), the last one the number of starts.

    Ridge regression on relative errors towards one scale for all kinds and some share for starts; that share, and
    how strongly, are those that make the measurements likeliest.
    """
    usual = float(np.median(latency_ms / parts[:, :-1].sum(axis=1)))
    unit = np.append(np.full(parts.shape[1] - 1, usual), np.median(latency_ms / parts[:, -1]))
    shares = parts * unit / latency_ms[:, None]  # of a measurement; the kinds' add up to about 1
    aims = [np.append(np.full(parts.shape[1] - 1, 1.0 - share), share) for share in _SHARES_OF_STARTS]
    aim, together = min(product(aims, _TOGETHER), key=lambda pair: _surprise(shares, *pair))
    return unit * _drawn(shares, aim, together)


def _drawn(shares: FloatArray, aim: FloatArray, together: float) -> FloatArray:
    """(g + 1,) scales in units of the usual ones: least squares of shares @ scales = 1, drawn to `aim`."""
    from scipy.optimize import nnls  # slow to import, and only needed to fit

    strength = np.sqrt(together)
    system = np.vstack([shares, strength * np.eye(len(aim))])
    scales, _ = nnls(system, np.append(np.ones(len(shares)), strength * aim))
    found: FloatArray = scales
    return found


def _surprise(shares: FloatArray, aim: FloatArray, together: float) -> float:
    """Minus the log likelihood of the measurements, up to a constant, their noise profiled out."""
    off = 1.0 - shares @ aim
    covariance = np.eye(len(shares)) + shares @ shares.T / together
    fit = float(off @ np.linalg.solve(covariance, off)) / len(off)
    return 0.5 * len(off) * math.log(max(fit, 1e-12)) + 0.5 * float(np.linalg.slogdet(covariance)[1])


def _rescaled(old: TimedSection, starts: FloatArray, scales: FloatArray) -> TimedSection:
    """The section on the new device; the time for starts is counted with the last kind of operation."""
    ms = old.ms * scales[:-1]
    ms[:, -1] += starts * scales[-1]
    return TimedSection(old.genes, old.counts, ms)


def _recipe(space: Space, known: LatencyModel) -> Recipe:
    return lambda rows, latency_ms: transferred(space, known, rows, latency_ms)
