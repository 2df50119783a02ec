"""Plots of fronts for people: PNG, SVG or PDF for a talk (matplotlib), HTML to explore (plotly).

Both libraries are imported when a plot is asked for. The first objective is drawn upwards, the second to the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.front import Front, attainment
from search.problem import OBJECTIVES, Objective
from search.references import Place
from supernet.errors import InvalidConstraint, SettingsError
from supernet.files import atomic_path, write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = (".png", ".svg", ".pdf")

_COLOURS = ("#0b6e4f", "#d94801", "#2171b5", "#8c2d7a", "#b8860b", "#555555")
_INK, _GRID = "#333333", "#e6e6e6"
_RIVAL = "#8c2d04"
_UNITS = {
    "accuracy": ("accuracy", 1.0),
    "latency_ms": ("latency (ms)", 1.0),
    "macs": ("multiply-accumulates (G)", 1e9),
    "parameters": ("parameters (M)", 1e6),
    "memory_bytes": ("peak activation memory (MiB)", 2.0**20),
    "energy_mj": ("energy (mJ)", 1.0),
}


def plot_fronts(
    fronts: Mapping[str, Front],
    path: Path | str,
    *,
    title: str | None = None,
    budget: float | None = None,
    references: Mapping[str, Place] | None = None,
) -> None:
    """Draw fronts, by name, over their first two objectives; `budget` is a limit on the second, in its unit.

    A single front is coloured by resolution, where its space has several; `references` are networks of other designs,
    by title, at the values of both objectives. The suffix of `path` chooses the format; SettingsError for one that is
    not known, or where matplotlib is not installed.
    """
    target, rivals = Path(path), references or {}
    if target.suffix in PICTURES:
        _picture(lambda axes: _draw(axes, fronts, budget, rivals), target, title)
    elif target.suffix == ".html":
        _page(fronts, target, title, budget, rivals)
    else:
        raise _unknown_format(target, (*PICTURES, ".html"))


def plot_attainment(
    fronts: Sequence[Front], path: Path | str, *, title: str | None = None, budget: float | None = None
) -> None:
    """Draw what some, half and all of several runs attain, over their two objectives; a picture for a talk.

    Raises SettingsError as `plot_fronts`, InvalidConstraint for other than two objectives.
    """
    target = Path(path)
    if len(fronts[0].objectives) != OBJECTIVES[0]:
        raise InvalidConstraint(
            "Attainment is drawn over two objectives.",
            field="objectives",
            value=[o.name for o in fronts[0].objectives],
            remedy="Name two of them.",
        )
    if target.suffix not in PICTURES:
        raise _unknown_format(target, PICTURES)
    surfaces = attainment(fronts, (0, 50, 100))
    some, half, all_ = (
        Front(part, fronts[0].objectives) for _, part in surfaces.groupby("percentile", sort=True)
    )
    _picture(lambda axes: _draw_attainment(axes, some, half, all_, budget), target, title)


def _unknown_format(path: Path, known: Sequence[str]) -> SettingsError:
    return SettingsError(
        f"A plot cannot be written as {path.suffix or path.name!r}.",
        field="path",
        value=str(path),
        remedy=f"End the name in {' or '.join(known)}.",
    )


def _label(objective: Objective) -> tuple[str, float]:
    """Text of an axis, and the number its values are divided by."""
    name, _, device = objective.name.partition("@")
    text, unit = _UNITS.get(name, (objective.name, 1.0))
    return (f"{text} on {device}" if device else text), unit


def _groups(fronts: Mapping[str, Front]) -> dict[str, Front]:
    """What gets a colour of its own: each front, or the resolutions of a single one."""
    if len(fronts) == 1:
        (front,) = fronts.values()
        if "resolution" in front.table and front.table["resolution"].nunique() > 1:
            return {
                str(name): Front(part, front.objectives)
                for name, part in front.table.groupby("resolution", sort=True)
            }
    return dict(fronts)


def _staircase(front: Front) -> tuple[list[float], list[float]]:
    """Corners of the attained region of the first two objectives: x (second), y (first), in axis units."""
    (first, second) = front.objectives[:2]
    order = np.lexsort((front.F[:, 0], front.F[:, 1]))
    best = np.minimum.accumulate(front.F[order, 0])
    x, y = second.sign * front.F[order, 1] / _label(second)[1], first.sign * best / _label(first)[1]
    return np.repeat(x, 2)[1:].tolist(), np.repeat(y, 2)[:-1].tolist()


def _picture(draw: Callable[[Axes], None], path: Path, title: str | None) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise SettingsError(
            "matplotlib is not installed.",
            field="path",
            value=str(path),
            remedy="Install it with `pip install matplotlib`, or end the name in .html.",
        ) from error
    figure = Figure(figsize=(8.8, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    if title:
        axes.set_title(title, loc="left", fontsize=14, fontweight="bold", color=_INK, pad=12)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, facecolor="white")


def _draw(
    axes: Axes, fronts: Mapping[str, Front], budget: float | None, references: Mapping[str, Place]
) -> None:
    groups = _groups(fronts)
    first, second = next(iter(fronts.values())).objectives[:2]
    size = _size(max(len(front) for front in fronts.values()))
    for front, colour in zip(fronts.values(), _COLOURS * len(fronts), strict=False):
        axes.plot(*_staircase(front), color=colour if len(fronts) > 1 else "#b5b5b5", linewidth=1.3, zorder=2)
    for (name, front), colour in zip(groups.items(), _COLOURS * len(groups), strict=False):
        x, y = _points(front)
        axes.scatter(x, y, s=size, color=colour, label=name, linewidths=0, alpha=0.9, zorder=3)
    if len(fronts) == 1:
        _mark_knee(axes, next(iter(fronts.values())))
    _mark_references(axes, references, first, second)
    _finish(axes, first, second, budget)
    if len(groups) > 1:
        _legend(axes, first)


def _draw_attainment(axes: Axes, some: Front, half: Front, all_: Front, budget: float | None) -> None:
    first, second = half.objectives
    (best_x, best_y), (worst_x, worst_y) = _staircase(some), _staircase(all_)
    colour = _COLOURS[0]
    axes.fill(
        best_x + worst_x[::-1], best_y + worst_y[::-1], color=colour, alpha=0.2, linewidth=0,
        label="between the best and the worst run",
    )  # fmt: skip
    axes.plot(*_staircase(half), color=colour, linewidth=2.2, label="attained by half of the runs")
    _finish(axes, first, second, budget)
    _legend(axes, first)


def _finish(axes: Axes, first: Objective, second: Objective, budget: float | None) -> None:
    """Budget line, labels, grid."""
    if budget is not None:
        limit = budget / _label(second)[1]
        axes.axvline(limit, color=_INK, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
        axes.annotate(
            f"budget {limit:g}", (limit, 0.02), (5, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=10.5, color=_INK,
        )  # fmt: skip
    axes.set_xlabel(_label(second)[0], fontsize=12, color=_INK)
    axes.set_ylabel(_label(first)[0], fontsize=12, color=_INK)
    axes.tick_params(labelsize=10.5, colors=_INK, length=0)
    axes.grid(True, color=_GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _legend(axes: Axes, first: Objective) -> None:
    axes.legend(
        loc="lower right" if first.direction == "max" else "upper right",
        frameon=False,
        fontsize=11,
        markerscale=1.4,
    )


def _mark_knee(axes: Axes, front: Front) -> None:
    if not len(front):
        return
    at = front.table["id"].tolist().index(front.knee)
    x, y = (float(column[at]) for column in _points(front))
    axes.scatter([x], [y], s=150, facecolors="none", edgecolors=_INK, linewidths=1.8, zorder=4)
    down = front.objectives[0].direction == "max"
    # Beside the knee of a curve there is room; a cloud of three objectives leaves it in the far corner only.
    near = len(front.objectives) == OBJECTIVES[0]
    place, frame = ((26, -34 if down else 34), "offset points") if near else ((0.55, 0.05), "axes fraction")
    axes.annotate(
        f"knee {front.knee}\n{y:.4g} at {x:.4g}",
        (x, y),
        place,
        textcoords=frame,
        fontsize=10.5,
        color=_INK,
        va="top" if near and down else "bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2.0},
        zorder=5,
        arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 1.0, "shrinkB": 7},
    )


def _mark_references(
    axes: Axes, references: Mapping[str, Place], first: Objective, second: Objective
) -> None:
    for title, (up, across) in references.items():
        x, y = across / _label(second)[1], up / _label(first)[1]
        axes.scatter([x], [y], s=70, marker="D", color=_RIVAL, linewidths=0, zorder=4)
        axes.annotate(
            title, (x, y), (0, 9), textcoords="offset points", ha="center", fontsize=10.5, color=_RIVAL
        )


def _points(front: Front) -> tuple[Any, Any]:
    first, second = front.objectives[:2]
    x = front.table[second.name].to_numpy(np.float64) / _label(second)[1]
    return x, front.table[first.name].to_numpy(np.float64) / _label(first)[1]


def _size(n: int) -> float:
    """Area of a marker: smaller where there are many."""
    return float(np.clip(4000 / max(n, 1), 9, 42))


def _page(
    fronts: Mapping[str, Front],
    path: Path,
    title: str | None,
    budget: float | None,
    references: Mapping[str, Place],
) -> None:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    first, second = next(iter(fronts.values())).objectives[:2]
    for (name, front), colour in zip(_groups(fronts).items(), _COLOURS * len(fronts) * 2, strict=False):
        x, y = _points(front)
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            name=name,
            marker={"color": colour, "size": 7},
            text=front.table["id"],
            hovertemplate="%{text}<br>%{y:.4g} at %{x:.4g}<extra></extra>",
        )
    if references:
        figure.add_scatter(
            x=[across / _label(second)[1] for _, across in references.values()],
            y=[up / _label(first)[1] for up, _ in references.values()],
            mode="markers+text",
            name="other networks, measured",
            marker={"color": _RIVAL, "size": 11, "symbol": "diamond"},
            text=list(references),
            textposition="top center",
            hovertemplate="%{text}<br>%{y:.4g} at %{x:.4g}<extra></extra>",
        )
    if budget is not None:
        figure.add_vline(budget / _label(second)[1], line={"dash": "dash", "color": _INK})
    figure.update_layout(
        title=title,
        template="plotly_white",
        xaxis_title=_label(second)[0],
        yaxis_title=_label(first)[0],
    )
    write_atomic(path, figure.to_html(include_plotlyjs=True, full_html=True))
