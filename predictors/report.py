"""Honest reports of predictors: tables and plots of what they say of subnets that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from predictors.candidates import CANDIDATES, compare, learning_curve, ridge
from predictors.collect import HALF
from predictors.estimate import FloatArray, conformal_radius
from predictors.latency import fit_latency, fit_latency_model
from predictors.pack import pack_rows
from predictors.ranking import FOLDS, Fit, Quality, out_of_fold, quality
from predictors.sampling import size_levels
from predictors.tables import Table
from predictors.transfer import transfer_latency
from supernet.files import atomic_path
from supernet.metrics import METRICS
from supernet.space import Rows, Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANDS = 5
_COLOURS = ("#0b6e4f", "#d94801", "#2171b5", "#8c2d7a", "#b8860b")
_INK, _GRID = "#333333", "#e6e6e6"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a model said of every subnet of a table without having seen it.

    `relative` says whether errors are in per cent (latency) or in the unit of the target (accuracy).
    """

    target: str
    space: Space
    rows: Rows
    truth: FloatArray
    predicted: FloatArray
    relative: bool = False

    @property
    def residual(self) -> FloatArray:
        """(n,) measured minus predicted; of logarithms where `relative`."""
        if self.relative:
            return np.asarray(np.log(self.truth / self.predicted))
        return self.truth - self.predicted

    @property
    def quality(self) -> Quality:
        return quality(self.truth, self.predicted)


def hold_out(
    target: str,
    space: Space,
    rows: Rows,
    truth: FloatArray,
    fit: Fit,
    rng: np.random.Generator,
    *,
    relative: bool = False,
    folds: int = FOLDS,
) -> HeldOut:
    """Predict every subnet by a model fitted to the other folds."""
    return HeldOut(target, space, rows, truth, out_of_fold(fit, rows, truth, rng=rng, folds=folds), relative)


def by_band(held: HeldOut, bands: int = BANDS) -> pd.DataFrame:
    """Quality within bands of size (log macs within the resolution): ranking is hardest among equals."""
    level = np.minimum((size_levels(held.space, held.rows) * bands).astype(int), bands - 1)
    lines = []
    for band in range(bands):
        own = level == band
        if own.sum() > 2:
            found = quality(held.truth[own], held.predicted[own])
            name = f"{band * 100 // bands}–{(band + 1) * 100 // bands} %"
            lines.append({"size": name, "n": found.n, "kendall": found.kendall, "mae": found.mae})
    return pd.DataFrame(lines)


def by_gene(held: HeldOut) -> pd.DataFrame:
    """For every choice of every gene: how many subnets, mean residual (0 where nothing is missed), mean error."""
    lines = []
    for j, gene in enumerate(held.space.genes):
        for index, choice in enumerate(gene.choices):
            own = held.residual[held.rows[:, j] == index]
            if len(own):
                name = f"{choice[1]}x{choice[0]}" if gene.name == "resolution" else str(choice)
                bias, error = float(own.mean()), float(np.abs(own).mean())
                spread = float(own.std() / max(np.sqrt(len(own)), 1.0))
                lines.append(
                    {
                        "gene": gene.name,
                        "choice": name,
                        "n": len(own),
                        "bias": bias,
                        "± bias": spread,
                        "error": error,
                    }
                )
    return pd.DataFrame(lines)


def coverage(held: HeldOut, rng: np.random.Generator, repeats: int = 200) -> float:
    """Share of held-out subnets within intervals made from the residuals of the other half, over many halves."""
    residual = held.residual
    shares = []
    for _ in range(repeats):
        order = rng.permutation(len(residual))
        half = len(order) // 2
        radius = conformal_radius(residual[order[:half]])
        shares.append(float((np.abs(residual[order[half:]]) <= radius).mean()))
    return float(np.mean(shares))


def photo_ceiling(table: Table, metric: str) -> dict[str, float]:
    """How alike two halves of the photos rank the subnets, and what that means for all photos.

    No predictor can rank unseen photos better than the photos agree with themselves. The correlation of all photos
    with as many others is stepped up from that of halves by the formula of Spearman and Brown.
    """
    whole, half = table.column(metric), table.column(f"{metric}{HALF}")
    n = table.column("n_photos")
    first = np.ceil(n / 2)
    other = (n * whole - first * half) / (n - first)
    pearson = float(np.corrcoef(half, other)[0, 1])
    return {
        "kendall_halves": float(stats.kendalltau(half, other).statistic),
        "spearman_halves": float(stats.spearmanr(half, other).statistic),
        "reliability": 2 * pearson / (1 + pearson),
    }


def noise_ceiling(latency_ms: FloatArray, noise: FloatArray, rng: np.random.Generator) -> Quality:
    """The quality of a perfect predictor, judged by measurements with the relative `noise` (n,) they have."""
    repeats = [
        quality(latency_ms * np.exp(noise * rng.normal(size=len(noise))), latency_ms) for _ in range(50)
    ]
    figures = np.mean([list(q.to_json().values())[1:] for q in repeats], axis=0)
    return Quality(len(latency_ms), *(float(x) for x in figures))


# --- plots ----------------------------------------------------------------------------------------------


def plot_held_out(held: Sequence[HeldOut], path: Path, units: Mapping[str, str] | None = None) -> None:
    """Predicted against measured for several targets, 90 % intervals as a band, resolutions as colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(held), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, one in zip(np.atleast_1d(figure.subplots(1, len(held))), held, strict=True):
        _predicted_against_measured(axes, one, (units or {}).get(one.target, ""))
    _save(figure, path)


def plot_learning(
    curves: Mapping[str, Mapping[int, Sequence[Quality]]], path: Path, ceiling: float | None
) -> None:
    """Kendall's τ on unseen subnets over the number of measured ones, mean and range of repeats."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for colour, (name, curve) in zip(_COLOURS * 3, curves.items(), strict=False):
        sizes = list(curve)
        values = [[q.kendall for q in curve[size]] for size in sizes]
        axes.plot(
            sizes, [np.mean(v) for v in values], "o-", color=colour, markersize=4, linewidth=1.6, label=name
        )
        axes.fill_between(
            sizes, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.12, lw=0
        )
    if ceiling is not None:
        axes.axhline(
            ceiling, color=_INK, linewidth=1, linestyle=":", label="agreement of two halves of the photos"
        )
    axes.set_xscale("log")
    sizes = sorted({size for curve in curves.values() for size in curve})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    _finish(axes, "measured subnets", "Kendall τ on unseen subnets")
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def _predicted_against_measured(axes: Axes, held: HeldOut, unit: str) -> None:
    radius = conformal_radius(held.residual)
    ends = np.array([held.predicted.min(), held.predicted.max()])
    low, high = (
        (ends * np.exp(-radius), ends * np.exp(radius)) if held.relative else (ends - radius, ends + radius)
    )
    axes.fill_between(ends, low, high, color=_GRID, linewidth=0, label="90 % interval")
    axes.plot(ends, ends, color=_INK, linewidth=0.8)
    first = held.space.genes[0]
    groups = first.choices if first.name == "resolution" else (None,)
    for index, (choice, colour) in enumerate(zip(groups, _COLOURS, strict=False)):
        own = held.rows[:, 0] == index if choice is not None else np.ones(len(held.rows), dtype=bool)
        label = f"{choice[1]}×{choice[0]}" if choice is not None else "subnets"
        axes.plot(
            held.predicted[own], held.truth[own], ".", color=colour, markersize=4, alpha=0.7, label=label
        )
    if held.relative:
        axes.set_xscale("log")
        axes.set_yscale("log")
    suffix = f" ({unit})" if unit else ""
    _finish(axes, f"predicted{suffix}", f"measured{suffix}")
    axes.set_title(
        f"{held.target}: τ = {held.quality.kendall:.3f}, n = {len(held.truth)}", fontsize=10, color=_INK
    )
    axes.legend(frameon=False, fontsize=8)


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


# --- the whole report -----------------------------------------------------------------------------------

_CURVE = (30, 50, 100, 200, 300, 500, 700, 1000)
_UNITS = {"cc": "", "kld": "nats", "nss": "standard deviations", "sim": "", "auc": ""}


def accuracy_report(table: Table, space: Space, out: Path, rng: np.random.Generator) -> list[str]:
    """Sections of the report on an accuracy table; writes its plots beside. Metrics are judged on equal folds."""
    rows = table.rows(space)
    seed = int(rng.integers(2**32))
    held = {}
    for metric in METRICS:
        truth = table.column(metric)
        held[metric] = hold_out(metric, space, rows, truth, ridge(space), np.random.default_rng(seed))
    ceilings = {metric: photo_ceiling(table, metric) for metric in METRICS}
    frame = pd.DataFrame([_line(one, rng) | _ceiling(ceilings[one.target]) for one in held.values()])
    models = compare(space, rows, table.column("cc"), rng)
    sizes = [size for size in _CURVE if size <= 0.8 * len(rows)]
    fits = {name: CANDIDATES[name](space) for name in ("ridge on pairs", "boosted trees")}
    curves = {
        name: learning_curve(fit, rows, table.column("cc"), sizes, np.random.default_rng(seed))
        for name, fit in fits.items()
    }
    plot_held_out([held["cc"], held["nss"], held["kld"]], out / "predictors-accuracy.png", _UNITS)
    plot_learning(curves, out / "predictors-learning.png", ceilings["cc"]["kendall_halves"])
    return [
        f"## Accuracy, {len(rows)} subnets\n",
        "Every figure is of subnets in folds that were held out. `coverage` is of 90 % intervals; `halves` is"
        " Kendall's τ between the means over two halves of the photos, `reliability` what that means for all.\n",
        markdown(frame),
        "\n![predicted against measured](predictors-accuracy.png)\n\n### Models of CC\n",
        markdown(pd.DataFrame([{"model": name, **_figures(q)} for name, q in models.items()])),
        "\n### CC from fewer subnets\n",
        markdown(_curve_frame(curves)),
        "\n![learning curve](predictors-learning.png)\n\n### CC by size\n",
        markdown(by_band(held["cc"])),
        "\n### CC by gene\n",
        markdown(by_gene(held["cc"])),
    ]


def latency_report(
    tables: Mapping[str, Table], space: Space, out: Path, rng: np.random.Generator
) -> list[str]:
    """Sections of the report on the latency tables of devices; writes their plot beside."""
    held, lines, curve_lines = [], [], {}
    for device, table in tables.items():
        rows, truth = table.rows(space), table.column("latency_ms")
        one = hold_out(device, space, rows, truth, _latency_fit(space), rng, relative=True)
        perfect = noise_ceiling(truth, table.column("noise"), rng)
        limits = {"≤5 % perfect": perfect.within_5, "≤10 % perfect": perfect.within_10}
        noise = {"noise": float(np.median(table.column("noise")))}
        lines.append(
            {
                **_line(one, rng),
                "≤5 %": one.quality.within_5,
                "≤10 %": one.quality.within_10,
                **noise,
                **limits,
            }
        )
        sizes = [size for size in _CURVE if size <= 0.8 * len(rows)]
        curve_lines[device] = learning_curve(_latency_fit(space), rows, truth, sizes, rng, repeats=3)
        held.append(one)
    plot_held_out(held, out / "predictors-latency.png", dict.fromkeys(tables, "ms"))
    return [
        "\n## Latency\n",
        "`noise` is the median relative standard error of a measurement; `perfect` columns are what a predictor"
        " without any error would show beside measurements with that noise.\n",
        markdown(pd.DataFrame(lines)),
        "\n![predicted against measured](predictors-latency.png)\n\n### From fewer subnets\n",
        markdown(_curve_frame(curve_lines, "within_10")),
        *(f"\n### {one.target} by size\n\n{markdown(by_band(one))}" for one in held),
    ]


def transfer_report(tables: Mapping[str, Table], space: Space, rng: np.random.Generator) -> list[str]:
    """Each device learnt from the first subnets of its pack and the predictor of another one, tested on the rest."""
    packed = {identity: place for place, identity in enumerate(space.ids(pack_rows(space)))}
    known = {
        device: fit_latency(space, table.rows(space), table.column("latency_ms"), rng)
        for device, table in tables.items()
    }
    lines = []
    for device, table in tables.items():
        rows, truth = table.rows(space), table.column("latency_ms")
        place = np.array([packed.get(identity, len(packed)) for identity in table.ids])
        unseen = place == len(packed)
        for start, predictor in known.items():
            for n in (10, 20, 30):
                seen = np.flatnonzero(place < n)
                if start == device or len(seen) < n or not unseen.any():
                    continue
                new = transfer_latency(space, {start: predictor}, rows[seen], truth[seen], rng)
                found = quality(truth[unseen], new.predict(rows[unseen]).mean)
                lines.append({"device": device, "known": start, "measured": n, **_figures(found)})
    return ["\n## A new device from a known one\n", markdown(pd.DataFrame(lines))] if lines else []


def markdown(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table."""
    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    lines += [[_shown(value) for value in line] for line in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _line(held: HeldOut, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "target": held.target,
        "n": len(held.truth),
        **_figures(held.quality),
        "coverage": coverage(held, rng),
    }


def _figures(found: Quality) -> dict[str, float]:
    return {"kendall": found.kendall, "spearman": found.spearman, "r2": found.r2, "mae": found.mae}


def _ceiling(found: Mapping[str, float]) -> dict[str, float]:
    return {"halves": found["kendall_halves"], "reliability": found["reliability"]}


def _curve_frame(
    curves: Mapping[str, Mapping[int, Sequence[Quality]]], figure: str = "kendall"
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"of": name, "subnets": size, figure: float(np.mean([getattr(q, figure) for q in found]))}
            for name, curve in curves.items()
            for size, found in curve.items()
        ]
    )


def _latency_fit(space: Space) -> Fit:
    return lambda rows, latency_ms: fit_latency_model(space, rows, latency_ms)
