"""Compare the search engine with others on the same problems in the same run; table, figures and plots.

    python benchmarks/bench_search.py [--seeds 11] [--seconds 1.2]

Absolute rates depend on the machine and what else it does; methods take turns seed by seed, so ratios do not.
Writes search.json, search.csv, search.md and PNG plots to results/benchmarks/.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

mpl.use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from benchmarks.search_rivals import (  # noqa: E402
    PUBLISHED,
    Meter,
    Method,
    evolution_finder,
    find_under_budget,
    optuna_nsga2,
    ours,
    pymoo_tuned,
    pymoo_usual,
    pymoo_with_our_operators,
    random_search,
)
from search.engine import Settings, evolve  # noqa: E402
from search.front import hypervolume  # noqa: E402
from search.problem import Problem, make_problem  # noqa: E402
from search.record import versions  # noqa: E402
from search.run import Stop, search  # noqa: E402
from search.synthetic import AdditiveSpace, additive_space  # noqa: E402
from service.workbench import DEFAULT_CHOICE, Workbench  # noqa: E402
from supernet.errors import SalnasError  # noqa: E402
from supernet.files import atomic_path, write_atomic  # noqa: E402

OUR_NAME = "SalNAS"
MOMENTS = (0.03, 0.1, 0.3, 1.0)
COUNTS = (1_000, 10_000, 100_000)
BUDGETS = (0.2, 0.4, 0.6)
GOOD = 0.995
LONG_RUNS, LONG_RUN = 10, 1_000_000
PARTS = {
    "values": "evaluating the objectives",
    "_parents": "choosing parents",
    "crossover": "crossover",
    "mutate": "mutation",
    "mutate_once": "mutation",
    "hashes": "removing duplicates",
    "new_rows": "removing duplicates",
    "constrained_ranks": "non-dominated sorting",
    "crowding_distances": "crowding distances",
    "added": "archive",
}

METHODS: dict[str, Method] = {
    OUR_NAME: ours(),
    "SalNAS, NSGA-II as published": ours(PUBLISHED),
    "pymoo, our operators": pymoo_with_our_operators,
    "pymoo, tuned": pymoo_tuned,
    "pymoo, as usual": pymoo_usual,
    "evolution finder": evolution_finder,
    "Optuna NSGA-II": optuna_nsga2,
    "random": random_search,
}
COLOURS = dict(
    zip(
        METHODS,
        ("#0b6e4f", "#6abf9b", "#08306b", "#2171b5", "#6baed6", "#d94801", "#8c2d7a", "#8a8a8a"),
        strict=True,
    )
)


@dataclass(frozen=True)
class Case:
    """A problem and the hypervolume of its exact front, or of the best front known."""

    name: str
    problem: Problem
    exact: float


def additive_case(genes: int, objectives: int, levels: int | None, seed: int = 1) -> Case:
    """An additive problem whose whole front is computed by dynamic programming."""
    space = additive_space(genes, objectives, seed, levels=levels)
    problem = make_problem(space, space, space.names)
    F, _ = space.exact_front()
    name = f"{genes} genes, {objectives} objectives"
    return Case(name, problem, hypervolume(F, problem.reference, problem.scale))


def shipped_case() -> Case | None:
    """The predictors of the shipped supernet, against the best of ten long runs; None before there are any."""
    try:
        estimates = Workbench.open(ROOT / "results").estimates
    except SalnasError:
        return None
    names = ("accuracy", "latency_ms")
    if not set(names) <= set(estimates.columns(DEFAULT_CHOICE)):
        return None
    problem = make_problem(
        estimates.space, lambda rows: estimates.evaluate(rows, names, DEFAULT_CHOICE), names
    )
    best = 0.0
    for seed in range(LONG_RUNS):
        for generation in evolve(problem, seed=seed):
            if generation.evaluations >= LONG_RUN:
                break
        best = max(best, generation.hypervolume)
    return Case("shipped predictors", problem, best)


def profile_engine(case: Case, seconds: float = 1.0) -> pd.DataFrame:
    """Share of the time of a search that each part of the engine takes."""
    profile = cProfile.Profile()
    start = time.perf_counter()
    profile.enable()
    for _ in evolve(case.problem):
        if time.perf_counter() - start >= seconds:
            break
    profile.disable()
    spent = dict.fromkeys(PARTS.values(), 0.0)
    total = 0.0
    for (_, _, function), (_, _, own, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        total += own
        if function in PARTS:
            spent[PARTS[function]] += cumulative
    spent["the rest"] = total - sum(spent.values())
    return pd.DataFrame({"part": list(spent), "share": [f"{part / total:.0%}" for part in spent.values()]})


def compare_methods(case: Case, seeds: int, seconds: float, console: Console) -> list[dict[str, Any]]:
    """One line for each method, seed and moment of its curve."""
    lines = []
    for seed in range(seeds):
        for name, method in METHODS.items():
            meter = Meter(case.problem, seconds)
            method(meter, seed)
            elapsed = meter.elapsed
            for moment, evaluations, volume in meter.curve():
                lines.append(
                    {
                        "case": case.name,
                        "method": name,
                        "seed": seed,
                        "seconds": moment,
                        "evaluations": evaluations,
                        "hypervolume": volume / case.exact,
                        "rate": meter.evaluations / elapsed,
                    }
                )
        console.print(f"{case.name}: seed {seed + 1} of {seeds}", highlight=False)
    return lines


def reached(curve: pd.DataFrame, column: str, limit: float) -> float:
    """Hypervolume of the last point of a curve within the limit; NaN where the run never got so far."""
    if curve[column].max() < 0.9 * limit:
        return float("nan")
    within = curve[curve[column] <= limit * 1.05]
    return float(within["hypervolume"].iloc[-1]) if len(within) else float("nan")


def summarise(lines: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds: rate, its ratio to ours, hypervolume at moments and at counts of evaluations."""
    table = []
    for case, of_case in lines.groupby("case", sort=False):
        our_rate = of_case[of_case["method"] == OUR_NAME].groupby("seed")["rate"].first().median()
        for method, of_method in of_case.groupby("method", sort=False):
            runs = [run for _, run in of_method.groupby("seed")]
            rate = float(np.median([run["rate"].iloc[0] for run in runs]))
            row: dict[str, Any] = {
                "case": case,
                "method": method,
                "evaluations/s": rate,
                "ours is faster by": our_rate / rate,
            }
            for moment in MOMENTS:
                row[f"HV at {moment:g} s"] = np.median([reached(run, "seconds", moment) for run in runs])
            for count in COUNTS:
                row[f"HV at {count:,}"] = np.median([reached(run, "evaluations", count) for run in runs])
            table.append(row)
    return pd.DataFrame(table)


def budget_queries(space: AdditiveSpace, seeds: int, console: Console) -> pd.DataFrame:
    """The best subnet under a budget: our search under a constraint against the evolution finder."""
    F, _ = space.exact_front()
    problem = make_problem(space, space)
    lines = []
    for share in BUDGETS:
        budget = float(np.quantile(F[:, 1], share))
        best = -F[F[:, 1] <= budget, 0].min()
        for seed in range(seeds):
            result = search(
                space,
                space,
                constraints=[f"latency_ms<={budget}"],
                seed=seed,
                stop=Stop(seconds=0.5),
            )
            lines.append(
                {
                    "budget": share,
                    "method": OUR_NAME,
                    "seconds": result.seconds,
                    "accuracy, share of the best": result.front["accuracy"].max() / best,
                    "subnets": len(result.front),
                }
            )
            meter = Meter(problem, seconds=600.0)
            row = find_under_budget(meter, budget, np.random.default_rng(seed))
            assert row is not None
            lines.append(
                {
                    "budget": share,
                    "method": "evolution finder",
                    "seconds": meter.elapsed,
                    "accuracy, share of the best": space(row[None])["accuracy"][0] / best,
                    "subnets": 1,
                }
            )
            console.print(f"budget query at {share:.0%}: seed {seed + 1} of {seeds}", highlight=False)
    return (
        pd.DataFrame(lines)
        .groupby(["budget", "method"], sort=False)
        .median()
        .astype({"subnets": int})
        .reset_index()
    )


def growth(seeds: int, seconds: float, console: Console) -> pd.DataFrame:
    """Our rate and hypervolume over population, objectives and genes."""
    lines = []

    def measure(what: str, value: int, case: Case, settings: Settings) -> None:
        for seed in range(seeds):
            meter = Meter(case.problem, seconds)
            ours(settings)(meter, seed)
            rate = meter.evaluations / meter.elapsed
            curve = meter.curve()
            there = [moment for moment, _, volume in curve if volume >= GOOD * case.exact]
            lines.append(
                {
                    "grows": what,
                    "value": value,
                    "seed": seed,
                    "evaluations per second": rate,
                    "seconds to 99.5 %": there[0] if there else float("nan"),
                    "hypervolume": curve[-1][2] / case.exact,
                }
            )
        console.print(f"growth of {what}: {value:,}", highlight=False)

    middle = additive_case(27, 2, None)
    for population in (100, 200, 500, 1_000, 2_000, 5_000, 10_000):
        measure("population", population, middle, Settings(population=population))
    for objectives in (2, 3, 4):
        case = additive_case(27, objectives, None if objectives == 2 else 10)
        measure("objectives", objectives, case, Settings())
    for genes in (10, 20, 27, 45, 90, 180):
        measure("genes", genes, additive_case(genes, 2, None), Settings())
    return pd.DataFrame(lines)


def plot_comparison(lines: pd.DataFrame, path: Path) -> None:
    """Hypervolume still missing over time and over evaluations, one row for each case."""
    cases = list(dict.fromkeys(lines["case"]))
    figure, axes = plt.subplots(
        len(cases), 2, figsize=(13, 4.6 * len(cases)), squeeze=False, layout="constrained", sharey="row"
    )
    for row, case in zip(axes, cases, strict=True):
        for axis, column, label in zip(
            row, ("seconds", "evaluations"), ("seconds", "evaluations"), strict=True
        ):
            for method in METHODS:
                of_method = lines[(lines["case"] == case) & (lines["method"] == method)]
                _plot_band(axis, of_method, column, method)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel(label)
            axis.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
            axis.axhline(1 - GOOD, color="#333333", linewidth=0.9, linestyle=(0, (4, 3)))
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(1e-5, 1)
            axis.set_yticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["99.99 %", "99.9 %", "99 %", "90 %", "0 %"])
            axis.minorticks_off()
        row[0].set_ylabel("share of the exact hypervolume")
        row[0].set_title(f"{case}: over time", loc="left", fontweight="bold", fontsize=11)
        row[1].set_title(f"{case}: over evaluations", loc="left", fontweight="bold", fontsize=11)
        row[0].text(row[0].get_xlim()[0] * 1.15, 0.0054, "99.5 %", fontsize=8.5, color="#333333", va="bottom")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9.5)
    _save(figure, path)


def _plot_band(axis: Axes, lines: pd.DataFrame, column: str, method: str) -> None:
    """Median over seeds with the band from the worst to the best seed, at common positions."""
    runs = [run for _, run in lines.groupby("seed")]
    low = max(run[column].iloc[0] for run in runs)
    high = min(run[column].iloc[-1] for run in runs)
    grid = np.geomspace(low, max(high, low * 1.01), 60)
    missing = np.array([np.interp(grid, run[column], 1.0 - run["hypervolume"]) for run in runs])
    missing = np.maximum(missing, 1.2e-5)
    ours_is_it = method.startswith("SalNAS")
    axis.fill_between(grid, missing.min(axis=0), missing.max(axis=0), color=COLOURS[method], alpha=0.15, lw=0)
    axis.plot(
        grid,
        np.median(missing, axis=0),
        color=COLOURS[method],
        linewidth=2.4 if ours_is_it else 1.6,
        label=method,
        zorder=3 if ours_is_it else 2,
    )


def plot_growth(lines: pd.DataFrame, path: Path) -> None:
    """Our evaluations per second, and our time to a good front, over what grows."""
    kinds = list(dict.fromkeys(lines["grows"]))
    measures = {"evaluations per second": 200_000.0, f"seconds to {GOOD:.1%}".replace("%", " %"): 1.0}
    figure, axes = plt.subplots(
        len(measures), len(kinds), figsize=(12.5, 6.4), sharex="col", sharey="row", layout="constrained"
    )
    for row, (measure, target) in zip(axes, measures.items(), strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            median = lines[lines["grows"] == kind].groupby("value")[measure].median()
            axis.plot(median.index, median, "o-", color=COLOURS[OUR_NAME], linewidth=2, zorder=3)
            if kind != "objectives":
                axis.set_xscale("log")
            axis.set_xticks(list(median.index), [f"{value:,}" for value in median.index], fontsize=9)
            axis.minorticks_off()
            axis.margins(x=0.1)
            axis.set_ylim(bottom=0, top=1.12 * max(lines[measure].max(), target))
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
            axis.axhline(target, color="#333333", linewidth=0.9, linestyle=(0, (4, 3)))
            axis.grid(True, color="#e4e4e4", linewidth=0.8)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(measure)
    for axis, kind in zip(axes[-1], kinds, strict=True):
        axis.set_xlabel(kind)
    for axis, target in zip((axes[0, -1], axes[1, 0]), measures.values(), strict=True):
        place = (axis.get_xlim()[0], target)
        axis.annotate("target", place, (5, 4), textcoords="offset points", fontsize=9, color="#333333")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, facecolor="white")
    plt.close(figure)


def shown(value: Any) -> str:
    """A figure as it stands in a table."""
    if isinstance(value, float):
        if np.isnan(value):
            return "–"
        if value >= 1000:
            return f"{value:,.0f}"
        return f"{value:.2f}" if value >= 2 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table."""
    rows = [list(frame.columns), ["---"] * len(frame.columns)]
    rows += [[shown(value) for value in line] for line in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def print_table(console: Console, title: str, frame: pd.DataFrame) -> None:
    """A data frame as a rich table, one for each case."""
    if "case" in frame.columns:
        for case, of_case in frame.groupby("case", sort=False):
            print_table(console, f"{title}: {case}", of_case.drop(columns="case"))
        return
    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        table.add_column(str(column), justify="left" if frame[column].dtype.kind not in "fi" else "right")
    for line in frame.itertuples(index=False):
        table.add_row(*map(shown, line))
    console.print(table)


def about_this_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Machine, load and versions."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None)
    return {
        "command": "python benchmarks/bench_search.py "
        f"--seeds {arguments.seeds} --seconds {arguments.seconds:g}",
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "versions": versions(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=1.2, help="time of each method, seed and case")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    arguments = parser.parse_args(argv)
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console = Console(width=160)
    about = about_this_run(arguments)

    cases = [additive_case(27, 2, None), additive_case(45, 2, None), additive_case(27, 3, 30)]
    if shipped := shipped_case():
        cases.append(shipped)
    compared = []
    for case in cases:
        compared += compare_methods(case, arguments.seeds, arguments.seconds, errors)
    lines = pd.DataFrame(compared)
    summary = summarise(lines)
    queries = budget_queries(additive_space(27, 2, 1), min(3, arguments.seeds), errors)
    grown = growth(min(3, arguments.seeds), min(1.0, arguments.seconds), errors)
    growing = grown.groupby(["grows", "value"], sort=False).median().drop(columns="seed").reset_index()

    print_table(console, "HV = share of the exact hypervolume, medians over seeds", summary)
    print_table(console, "One query: the most accurate subnet under a latency budget", queries)
    print_table(console, "Growth of our engine", growing)
    parts = profile_engine(cases[-1])
    print_table(console, f"Where the time of a search goes: {cases[-1].name}", parts)

    out: Path = arguments.out
    with atomic_path(out / "search.csv") as temporary:
        lines.to_csv(temporary, index=False)
    content = {
        "about": about,
        "summary": json.loads(summary.to_json(orient="records")),
        "budget_queries": json.loads(queries.to_json(orient="records")),
        "growth": json.loads(growing.to_json(orient="records")),
        "profile": json.loads(parts.to_json(orient="records")),
    }
    write_atomic(out / "search.json", json.dumps(content, indent=1) + "\n")
    write_atomic(out / "search.md", report(about, summary, queries, growing, parts))
    plot_comparison(lines, out / "search-hypervolume.png")
    plot_growth(grown, out / "search-growth.png")


def report(about: dict[str, Any], *tables: pd.DataFrame) -> str:
    """The results as Markdown."""
    titles = (
        "Methods, medians over seeds. HV: share of the exact hypervolume, at times and at evaluations.",
        "One query: the most accurate subnet under a latency budget (a quantile of the exact front).",
        "Growth of our engine.",
        "Where the time of a search goes (under a profiler; the last case).",
    )
    head = (
        "# The search engine against others\n\n"
        f"`{about['command']}` on {about['cores']} cores of {about['processor']}, load before the start "
        f"{about['load_before']:.1f}. The front of an additive problem is known exactly. "
        "Every method runs on one thread; they take turns seed by seed.\n\n"
        "![Hypervolume over time and evaluations](search-hypervolume.png)\n\n"
        "![Growth](search-growth.png)\n"
    )
    parts = [f"\n## {title}\n\n{markdown(table)}\n" for title, table in zip(titles, tables, strict=True)]
    return head + "".join(parts)


if __name__ == "__main__":
    main()
