"""Honest reports of predictors: tables and plots of what they say of subnets that they have not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from predictors.accuracy import held_out_accuracy
from predictors.candidates import CANDIDATES, compare, learning_curve
from predictors.collect import HALF
from predictors.estimate import FloatArray, conformal_radius
from predictors.latency import fit_latency, fit_latency_model
from predictors.pack import pack_rows
from predictors.ranking import FOLDS, Fit, Quality, out_of_fold, quality
from predictors.tables import Table
from predictors.transfer import transfer_latency
from supernet.cost import cost
from supernet.files import atomic_path, write_atomic
from supernet.metric_names import METRICS
from supernet.sampling import covering_rows, size_levels
from supernet.space import Rows, Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANDS = 5
CEILING = "noise-ceiling.json"
"""What `make bench-statistics` writes beside the report."""

_RANKED = 16
"""Subnets from which on a rank correlation between two evaluations of them is quoted."""

_COLOURS = ("#0b6e4f", "#d94801", "#2171b5", "#8c2d7a", "#b8860b")
_INK, _GRID = "#333333", "#e6e6e6"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a model said of every subnet of a table without having seen it.

    `relative` says whether errors are in per cent (latency) or in the unit of the target (accuracy); `deviation` (n,)
    how wide intervals are beside each other, None where all are equally wide.
    """

    target: str
    space: Space
    rows: Rows
    truth: FloatArray
    predicted: FloatArray
    relative: bool = False
    deviation: FloatArray | None = None

    @property
    def residual(self) -> FloatArray:
        """(n,) measured minus predicted; of logarithms where `relative`."""
        if self.relative:
            return np.asarray(np.log(self.truth / self.predicted))
        return self.truth - self.predicted

    @property
    def surprise(self) -> FloatArray:
        """(n,) residuals over what makes intervals as wide as they are."""
        return self.residual if self.deviation is None else self.residual / self.deviation

    @property
    def half_width(self) -> FloatArray:
        """(n,) half of the width of each 90 % interval, in the unit of the residuals."""
        widths = np.ones(len(self.truth)) if self.deviation is None else self.deviation
        return conformal_radius(self.surprise) * widths

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
            inside = (np.abs(held.residual[own]) <= held.half_width[own]).mean()
            lines.append(
                {
                    "size": name,
                    "n": found.n,
                    "kendall": found.kendall,
                    "mae": found.mae,
                    "half width": float(held.half_width[own].mean()),
                    "coverage": float(inside),
                }
            )
    return pd.DataFrame(lines)


def by_resolution(held: HeldOut) -> pd.DataFrame:
    """How many predictions are within 5 and 10 % at each resolution."""
    lines = []
    for index, (height, width) in enumerate(held.space.resolutions):
        own = held.rows[:, 0] == index
        if own.sum() > 2:
            found = quality(held.truth[own], held.predicted[own])
            about: dict[str, Any] = {"target": held.target, "resolution": f"{width}x{height}", "n": found.n}
            lines.append(about | {"≤5 %": found.within_5, "≤10 %": found.within_10})
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
    surprise = held.surprise
    shares = []
    for _ in range(repeats):
        order = rng.permutation(len(surprise))
        half = len(order) // 2
        radius = conformal_radius(surprise[order[:half]])
        shares.append(float((np.abs(surprise[order[half:]]) <= radius).mean()))
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


def recalibration_ceiling(path: Path, fingerprint: str) -> dict[str, float]:
    """Metric → Kendall's τ between evaluations of the same subnets that differ in the photos of calibration.

    Empty where the benchmark at `path` was not run with the supernet that has this fingerprint, or on so few subnets
    that their ranking says little.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    about = found["about"]
    if about.get("supernet_fingerprint") != fingerprint or about.get("subnets", 0) < _RANKED:
        return {}
    return {line["metric"]: line["recalibrated twice"] for line in found["rows"]}


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


def plot_sampling(counts: Mapping[str, Any], names: Sequence[str], path: Path) -> None:
    """Bars: how many subnets of each kind of draw lie in each band of size."""
    figure, axes = _figure(7.0, 3.6)
    width = 0.8 / len(counts)
    for place, (name, count) in enumerate(counts.items()):
        left = np.arange(len(names)) + (place - (len(counts) - 1) / 2) * width
        axes.bar(left, count, width, color=_COLOURS[place], label=name)
    axes.set_xticks(range(len(names)), list(names), fontsize=8)
    _finish(axes, "size between the smallest and the largest subnet (log macs)", "subnets")
    axes.legend(frameon=False)
    _save(figure, path)


def plot_genes(genes: pd.DataFrame, path: Path) -> None:
    """Mean residual at every choice of every gene, with two standard errors: what a model misses of a gene."""
    figure, axes = _figure(9.0, 4.2)
    bias, spread = genes["bias"].to_numpy(), 2.0 * genes["± bias"].to_numpy()
    gene = pd.factorize(genes["gene"])[0]
    for parity in (0, 1):
        own = gene % 2 == parity
        places = np.flatnonzero(own)
        axes.errorbar(
            places, bias[own], spread[own], fmt="o", color=_COLOURS[2 - 2 * parity], markersize=3.5, lw=1
        )
    axes.axhline(0.0, color=_INK, linewidth=0.8)
    middle = [float(np.flatnonzero(gene == g).mean()) for g in range(gene.max() + 1)]
    axes.set_xticks(middle, list(dict.fromkeys(genes["gene"])), rotation=90, fontsize=8)
    _finish(axes, "", "mean residual ± 2 standard errors")
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Any, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _predicted_against_measured(axes: Axes, held: HeldOut, unit: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ends = np.array([held.predicted.min(), held.predicted.max()])
    width, x = held.half_width, held.predicted
    low, high = (x * np.exp(-width), x * np.exp(width)) if held.relative else (x - width, x + width)
    axes.vlines(x, low, high, color=_GRID, linewidth=1.5, label="90 % interval")
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
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
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
_REPEATS = 3
_UNITS = {"cc": "", "kld": "nats", "nss": "standard deviations", "sim": "", "auc": ""}
_PLAIN = ("macs", "traffic", "weights", "count")
"""Kinds of work that know no blocks of channels."""

_BUDGETS = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Page:
    """A report as it grows: `lines` of Markdown, and every table of them under its name."""

    out: Path
    lines: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def say(self, *lines: str) -> None:
        """Add paragraphs."""
        self.lines.extend(f"{line}\n" for line in lines)

    def show(self, name: str, frame: pd.DataFrame) -> None:
        """Add a table."""
        self.tables[name] = frame
        self.lines.append(markdown(frame))

    def picture(self, label: str, file: str) -> Path:
        """Add a picture; returns where it belongs."""
        self.lines.append(f"![{label}]({file})\n")
        return self.out / file

    def save(self, name: str) -> Path:
        """Write `name`.md and `name`.json; returns the first."""
        figures = {key: json.loads(frame.to_json(orient="records")) for key, frame in self.tables.items()}
        write_atomic(self.out / f"{name}.json", json.dumps(figures, indent=1) + "\n")
        write_atomic(self.out / f"{name}.md", "\n".join(self.lines))
        return self.out / f"{name}.md"


def sampling_report(page: Page, space: Space, rng: np.random.Generator, n: int = 300) -> None:
    """How drawn subnets cover the sizes of the space, beside genes drawn independently."""
    drawn = {"covering": covering_rows(space, rng, n), "independent genes": space.sample(rng, n)}
    levels = {name: size_levels(space, rows) for name, rows in drawn.items()}
    edges = np.linspace(0.0, 1.0, 2 * BANDS + 1)
    counts = {name: np.histogram(level, edges)[0] for name, level in levels.items()}
    page.say(
        "## How subnets are drawn",
        f"Of {n} subnets, how many lie in each tenth between the smallest and the largest of their resolution, by log"
        " macs: drawn to cover the sizes, as collecting does, and with every gene drawn by itself, for comparison.",
    )
    names = [f"{100 * low:.0f}–{100 * high:.0f} %" for low, high in pairwise(edges)]
    page.show("sampling", pd.DataFrame({"size": names, **counts}))
    plot_sampling(counts, names, page.picture("sizes of drawn subnets", "predictors-sampling.png"))


def accuracy_report(page: Page, table: Table, space: Space, rng: np.random.Generator) -> None:
    """The report on an accuracy table; writes its plots beside. Metrics are judged on equal folds."""
    rows = table.rows(space)
    seed = int(rng.integers(2**32))
    held = _held_out(table, space, rows, np.random.default_rng(seed))
    ceilings = {metric: photo_ceiling(table, metric) for metric in METRICS}
    twice = recalibration_ceiling(page.out / CEILING, str(table.identity.get("supernet_fingerprint")))
    drawn = _drawn(space, rows)
    page.say(
        f"## Accuracy, {len(rows)} subnets",
        "Every figure is of subnets in folds that were held out. `drawn` is Kendall's τ among the"
        f" {int(drawn.sum())} subnets that were drawn to cover the space, without those of fronts, which are measured"
        " because a search returns them and lie close together. `mae` is in units of the metric, `coverage` of 90 %"
        " intervals. `halves` is Kendall's τ between the means over two halves of the photos, `reliability` the r"
        " (Pearson) to expect between the means over these photos and over as many others. The predictor is fitted to"
        " these photos and judged on them, so it can agree with them better than other photos would."
        + " `recalibrated` is τ between two evaluations with batch-norm statistics of different training photos"
        " (`make bench-statistics`): what the ranking owes to them. The predictor is judged with those that ship,"
        " which is why it can be above." * bool(twice),
    )
    lines = [
        _line(one, rng)
        | {"drawn": float(stats.kendalltau(one.truth[drawn], one.predicted[drawn]).statistic)}
        | _ceiling(ceilings[one.target])
        | ({"recalibrated": twice[one.target]} if one.target in twice else {})
        for one in held.values()
    ]
    page.show("accuracy", pd.DataFrame(lines))
    shown = [held["cc"], held["nss"], held["kld"]]
    plot_held_out(shown, page.picture("predicted against measured", "predictors-accuracy.png"), _UNITS)
    page.say(
        "### Models of CC",
        "On other folds. The stack weighs all four: where it is no better than the Gaussian process alone, that is"
        " taken, which is as fast as a search needs.",
    )
    models = compare(space, rows, table.column("cc"), rng)
    page.show("models", pd.DataFrame([{"model": name, **_figures(q)} for name, q in models.items()]))
    page.say("### CC from fewer subnets")
    sizes = [size for size in _CURVE if size <= 0.9 * len(rows)]
    fits = {name: CANDIDATES[name](space) for name in ("gaussian process", "ridge on pairs", "boosted trees")}
    curves = {
        name: learning_curve(
            fit, rows, table.column("cc"), sizes, np.random.default_rng(seed), repeats=_REPEATS
        )
        for name, fit in fits.items()
    }
    page.show("learning", _curve_frame(curves))
    picture = page.picture("learning curve", "predictors-learning.png")
    plot_learning(curves, picture, ceilings["cc"]["kendall_halves"])
    page.say(
        "### Fewer photos, or fewer subnets",
        "Kendall's τ with the means over all photos, of predictors that cost half as much: fitted to every other"
        " photo of all subnets, or to all photos of every other subnet.",
    )
    page.show("photos", by_photos(table, space, rows, np.random.default_rng(seed)))
    page.say(
        "### CC by size", "In fifths by log macs within the resolution; `half width` of the intervals, in CC."
    )
    page.show("accuracy_by_size", by_band(held["cc"]))
    page.say(
        "### CC under a budget",
        "Best subnet among the cheapest of the table, by macs: the best that was measured, what the predictor (that"
        " has not seen it) says of that one, and the measured CC of the one that it prefers.",
    )
    page.show("budgets", by_budget(held["cc"]))
    page.say("### CC by gene", "Mean residual (measured minus predicted) and mean error at each choice.")
    genes = by_gene(held["cc"])
    plot_genes(genes, page.picture("residuals by gene", "predictors-genes.png"))
    page.show("accuracy_by_gene", genes)


def by_photos(table: Table, space: Space, rows: Rows, rng: np.random.Generator) -> pd.DataFrame:
    """What half the cost of a table is better saved on: photos or subnets."""
    fit, seed = CANDIDATES["gaussian process"](space), int(rng.integers(2**32))

    def tau(target: FloatArray, whole: FloatArray) -> float:
        held_out = out_of_fold(fit, rows, target, rng=np.random.default_rng(seed), folds=5)
        return quality(whole, held_out).kendall

    lines = []
    for metric in ("cc", "nss"):
        whole, half, n = (table.column(name) for name in (metric, f"{metric}{HALF}", "n_photos"))
        first = np.ceil(n / 2)
        other = (n * whole - first * half) / (n - first)
        sizes, random = [2 * len(rows) // 5], np.random.default_rng(seed)
        (fewer,) = learning_curve(fit, rows, whole, sizes, random, repeats=_REPEATS).values()
        lines.append(
            {
                "metric": metric,
                "all": tau(whole, whole),
                "half of the photos": (tau(half, whole) + tau(other, whole)) / 2,
                "half of the subnets": float(np.mean([q.kendall for q in fewer])),
            }
        )
    return pd.DataFrame(lines)


def by_budget(held: HeldOut) -> pd.DataFrame:
    """What follows from choosing by held-out predictions instead of by measurements, under budgets of macs."""
    macs = cost(held.space, held.rows).macs
    lines = []
    for share in _BUDGETS:
        within = np.flatnonzero(macs <= np.quantile(macs, share))
        best = within[held.truth[within].argmax()]
        preferred = within[held.predicted[within].argmax()]
        lines.append(
            {
                "cheapest": f"{share:.0%}",
                "macs": float(macs[within].max()),
                "best measured": float(held.truth[best]),
                "predicted of it": float(held.predicted[best]),
                "measured of the preferred": float(held.truth[preferred]),
            }
        )
    return pd.DataFrame(lines)


def _held_out(table: Table, space: Space, rows: Rows, rng: np.random.Generator) -> dict[str, HeldOut]:
    """All metrics at once, as the predictors that ship are fitted."""
    targets = np.column_stack([table.column(metric) for metric in METRICS])
    predicted, deviation = held_out_accuracy(space, rows, targets, rng)
    return {
        metric: HeldOut(metric, space, rows, targets[:, t], predicted[:, t], deviation=deviation[:, t])
        for t, metric in enumerate(METRICS)
    }


def latency_report(page: Page, tables: Mapping[str, Table], space: Space, rng: np.random.Generator) -> None:
    """The report on the latency tables of devices; writes their plot beside."""
    held, lines, curves, seed = [], [], {}, int(rng.integers(2**32))
    for device, table in tables.items():
        rows, truth = table.rows(space), table.column("latency_ms")
        one = hold_out(device, space, rows, truth, _latency_fit(space), rng, relative=True)
        perfect = noise_ceiling(truth, table.column("noise"), rng)
        limits = {"≤5 % perfect": perfect.within_5, "≤10 % perfect": perfect.within_10}
        noise = {"noise": float(np.median(table.column("noise")))}
        found = {"≤5 %": one.quality.within_5, "≤10 %": one.quality.within_10}
        lines.append({**_line(one, rng), **found, **noise, **limits})
        sizes = [size for size in _CURVE if size <= 0.8 * len(rows)]
        curves[device] = learning_curve(_latency_fit(space), rows, truth, sizes, rng, repeats=_REPEATS)
        held.append(one)
    page.say(
        "## Latency",
        "`noise` is the median relative standard error of a measurement; `perfect` columns are what a predictor"
        " without any error would show beside measurements with that noise. `mae` is in milliseconds.",
    )
    page.show("latency", pd.DataFrame(lines))
    counts = [len(table) for table in tables.values()]
    page.say(
        "### What the parts of the model are worth",
        "Share of predictions within 5 %: from the work of operations alone, with whole blocks of channels, and with"
        " the correction by genes and identity shortcuts. On other folds: one subnet more or less is"
        f" {100 / max(counts):.1f} to {100 / min(counts):.1f} %.",
    )
    parts = [{"target": device, **latency_parts(table, space, seed)} for device, table in tables.items()]
    page.show("latency_parts", pd.DataFrame(parts))
    page.say("### Latency by resolution")
    page.show("latency_by_resolution", pd.concat([by_resolution(one) for one in held], ignore_index=True))
    picture = page.picture("predicted against measured", "predictors-latency.png")
    plot_held_out(held, picture, dict.fromkeys(tables, "ms"))
    page.say("### From fewer subnets")
    page.show("latency_learning", _curve_frame(curves, "within_10"))
    for one in held:
        page.say(f"### {one.target} by size", "`half width` of the intervals, as a share of the latency.")
        page.show(f"latency_by_size_{one.target}", by_band(one))


def latency_parts(table: Table, space: Space, seed: int) -> dict[str, float]:
    """What the model of a device loses without its correction, and without blocks of channels too."""
    rows, truth = table.rows(space), table.column("latency_ms")
    parts: dict[str, dict[str, Any]] = {
        "work": {"kinds": _PLAIN, "corrected": False},
        "… in blocks": {"corrected": False},
        "… and correction": {},
    }
    found: dict[str, float] = {}
    for name, part in parts.items():
        fit = partial(fit_latency_model, space, **part)
        found[name] = quality(truth, out_of_fold(fit, rows, truth, rng=np.random.default_rng(seed))).within_5
    return found


def transfer_report(page: Page, tables: Mapping[str, Table], space: Space, rng: np.random.Generator) -> None:
    """Each device learnt from the first subnets of its pack and predictors of others, tested on the rest."""
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
        others = {name: predictor for name, predictor in known.items() if name != device}
        starts = {name: {name: predictor} for name, predictor in others.items()}
        if len(others) > 1:
            starts = {"all others": others, **starts}
        for start, predictors in starts.items():
            for n in (10, 20, 30):
                seen = np.flatnonzero(place < n)
                if len(seen) < n or not unseen.any():
                    continue
                new = transfer_latency(space, predictors, rows[seen], truth[seen], rng)
                found = quality(truth[unseen], new.predict(rows[unseen]).mean)
                taken = str(new.provenance["start"])
                about: dict[str, Any] = {"device": device, "known": start, "start": taken, "measured": n}
                about["tested"] = found.n
                within = {"≤5 %": found.within_5, "≤10 %": found.within_10}
                lines.append({**about, "spearman": found.spearman, "kendall": found.kendall, **within})
    if lines:
        page.say(
            "## A new device from known ones",
            "Only the first subnets of the pack are measured on the new device; it is judged on subnets that are"
            " not in the pack. Of all others the best start is taken, by what was measured, as for a user's device."
            " Wanted: Spearman ≥ 0.95 from 10, within 10 % from 30.",
        )
        page.show("transfer", pd.DataFrame(lines))


def markdown(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table."""
    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    lines += [[_shown(value) for value in line] for line in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _drawn(space: Space, rows: Rows) -> NDArray[np.bool_]:
    """(n,) which of measured `rows` (n, d) were drawn to cover the space, by the seed that collecting draws with."""
    covering = covering_rows(space, np.random.default_rng(0), len(rows))
    return np.isin(space.indices(rows), space.indices(covering))


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
