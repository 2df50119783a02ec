"""Compare the search engine with others on the same problems in the same run; table, figures and plots.

    python benchmarks/bench_search.py [--full]

The predictors of the shipped supernet first, then additive problems whose front is known exactly. Times are of
the processor, on one thread, so that other programs disturb little; methods take turns seed by seed, so ratios are
steady. Three minutes where the machine is free, fewer seeds where it is not; with --full, more seeds and longer runs,
a quarter of an hour. Writes search.json, search.csv, search.md and
PNG plots to results/benchmarks/.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# All methods on one thread; read by BLAS when it is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from rich.console import Console  # noqa: E402
from scipy.stats import ttest_ind  # noqa: E402

mpl.use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from benchmarks.report import OUT, about_this_machine, markdown, print_table  # noqa: E402
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
from search.engine import Generation, Settings, evolve  # noqa: E402
from search.feasibility import feasible_rows, possible_range  # noqa: E402
from search.front import hypervolume  # noqa: E402
from search.problem import FloatArray, Problem, SearchSpace, make_problem  # noqa: E402
from search.pymoo_engine import evolve_with_pymoo  # noqa: E402
from search.record import versions  # noqa: E402
from search.run import Stop, search  # noqa: E402
from search.synthetic import AdditiveSpace, additive_space  # noqa: E402
from service.workbench import DEFAULT_CHOICE, Workbench  # noqa: E402
from supernet.errors import InfeasibleBudget, SalnasError  # noqa: E402
from supernet.files import atomic_path, write_atomic  # noqa: E402

OUR_NAME = "SalNAS"
MOMENTS = (0.03, 0.1, 0.3, 0.5)
COUNTS = (1_000, 10_000, 100_000)
BUDGETS = (0.2, 0.4, 0.6)
GOOD = 0.995
LONG_RUNS = 10
ORACLE_SEEDS, ORACLE_EVALUATIONS = 20, 6_000
SHIPPED = "shipped predictors"
NAMES = ("accuracy", "latency_ms")
SHIPPED_BUDGETS = (0.05, 0.1, 0.15, 0.3, 0.6)
"""Latency budgets between the fastest subnet of the front and its slowest."""
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
class Plan:
    """How much is run: seeds and seconds of each method, for the shipped predictors, for additive problems and for
    growth; evaluations of each of the ten long runs; seconds of the clock after which a case begins no new seed."""

    seeds: int
    additive_seeds: int
    growth_seeds: int
    seconds: float
    long_run: int
    patience: float
    additive_patience: float


QUICK = Plan(11, 3, 1, 0.5, 200_000, patience=60.0, additive_patience=10.0)
FULL = Plan(11, 11, 3, 1.2, 1_000_000, patience=3600.0, additive_patience=3600.0)


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


def shipped_problem() -> tuple[SearchSpace, Problem] | None:
    """The space and the predictors of the shipped supernet; None before there are any."""
    try:
        estimates = Workbench.open(ROOT / "results").estimates
    except SalnasError:
        return None
    if not set(NAMES) <= set(estimates.columns(DEFAULT_CHOICE)):
        return None
    problem = make_problem(
        estimates.space, lambda rows: estimates.evaluate(rows, NAMES, DEFAULT_CHOICE), NAMES
    )
    return estimates.space, problem


def long_fronts(problem: Problem, long_run: int) -> list[FloatArray]:
    """(n, m) objectives of what ten long runs of ours find."""
    return [_after(evolve(problem, seed=seed), long_run).front.F for seed in range(LONG_RUNS)]


def shipped_case(problem: Problem, fronts: Sequence[FloatArray], long_run: int) -> Case:
    """The shipped predictors against the best of ten long runs of ours, and ten of pymoo a tenth as long."""
    best = max(hypervolume(F, problem.reference, problem.scale) for F in fronts)
    for seed in range(LONG_RUNS):
        meter = Meter(problem, float("inf"), long_run // 10)
        pymoo_tuned(meter, seed)
        best = max(best, meter.curve()[-1][2])
    return Case(SHIPPED, problem, best)


def under_budgets(
    space: SearchSpace, problem: Problem, fronts: Sequence[FloatArray], plan: Plan, console: Console
) -> pd.DataFrame:
    """Our search under latency budgets, against all that long runs without a budget and these runs found inside."""
    latencies = np.concatenate([F[:, 1] for F in fronts])
    fast, slow = float(latencies.min()), float(latencies.max())
    lines = []
    for share in SHIPPED_BUDGETS:
        budget = fast + share * (slow - fast)
        bounded = make_problem(space, problem.evaluate, NAMES, [f"latency_ms<={budget:.6g}"])
        meters = []
        for seed in range(plan.seeds):
            meters.append(Meter(bounded, max(plan.seconds, 1.2)))
            ours()(meters[-1], seed)
        known = np.vstack([*fronts, *(meter.scores for meter in meters)])
        known = known[known[:, 1] <= budget]
        exact = hypervolume(known, bounded.reference, bounded.scale)
        curves = [
            pd.DataFrame(meter.curve(), columns=["seconds", "evaluations", "hypervolume"]) for meter in meters
        ]
        for curve in curves:
            curve["hypervolume"] /= exact
        row: dict[str, Any] = {
            "budget, ms": budget,
            "seeds": plan.seeds,
            f"s to {GOOD:.1%}": np.median([_seconds_to(curve, GOOD) for curve in curves]),
            f"s to {GOOD:.1%}, worst": max(_seconds_to(curve, GOOD) for curve in curves),
        }
        for moment in (0.5, 1.0):
            row[f"HV at {moment:g} s"] = np.median([reached(curve, "seconds", moment) for curve in curves])
        row["HV at the end, worst"] = min(curve["hypervolume"].iloc[-1] for curve in curves)
        lines.append(row)
        console.print(f"shipped predictors under {budget:.4g} ms", highlight=False)
    return pd.DataFrame(lines)


def _after(generations: Iterator[Generation], evaluations: int) -> Generation:
    """The first generation with so many evaluations."""
    return next(generation for generation in generations if generation.evaluations >= evaluations)


def oracle(cases: Sequence[Case]) -> pd.DataFrame:
    """NSGA-II as published, ours against that of pymoo with equal operators, at equal evaluations.

    Hypervolume of the last population over 20 seeds each, the difference of the means with its 95 % interval, and
    the p value of Welch's t test that there is none.
    """
    lines = []
    for case in cases:
        found: dict[str, list[float]] = {"ours": [], "pymoo": []}
        for seed in range(ORACLE_SEEDS):
            runs = {
                "ours": evolve(case.problem, settings=PUBLISHED, seed=seed),
                "pymoo": evolve_with_pymoo(case.problem, "pymoo-nsga2", settings=PUBLISHED, seed=seed),
            }
            for name, run in runs.items():
                last = _after(run, ORACLE_EVALUATIONS)
                volume = hypervolume(last.F, case.problem.reference, case.problem.scale)
                found[name].append(volume / case.exact)
        test = ttest_ind(found["ours"], found["pymoo"], equal_var=False)
        low, high = test.confidence_interval(0.95)
        lines.append(
            {
                "case": case.name,
                "evaluations": ORACLE_EVALUATIONS,
                "seeds": ORACLE_SEEDS,
                "ours": float(np.mean(found["ours"])),
                "pymoo": float(np.mean(found["pymoo"])),
                "difference": f"{np.mean(found['ours']) - np.mean(found['pymoo']):+.4f}",
                "95 % interval": f"{low:+.4f} to {high:+.4f}",
                "p": float(test.pvalue),
            }
        )
    return pd.DataFrame(lines)


def impossible_budgets(space: SearchSpace, problem: Problem) -> pd.DataFrame:
    """Seconds until an impossible budget is named, with the shipped predictors, and what is said of it."""
    fast, slow = possible_range(problem, "latency_ms")
    _, best = possible_range(problem, "accuracy")
    asked: list[tuple[str, ...]] = [
        (f"latency_ms<={0.5 * fast:.4g}",),
        (f"accuracy>={best + 0.05:.4g}",),
        (f"latency_ms<={1.05 * fast:.4g}", f"accuracy>={best - 0.002:.4g}"),
        (f"latency_ms<={1.05 * fast:.4g}", f"accuracy>={best - 0.002:.4g}", f"latency_ms>={0.1 * slow:.4g}"),
    ]
    lines = []
    for constraints in asked:
        began, cpu = time.perf_counter(), time.process_time()
        try:
            feasible_rows(make_problem(space, problem.evaluate, NAMES, constraints))
            said = "possible"
        except InfeasibleBudget as error:
            said = f"{error.message} {error.remedy}"
        lines.append(
            {
                "constraints": ", ".join(constraints),
                "seconds": time.perf_counter() - began,
                "CPU seconds": time.process_time() - cpu,
                "answer": said,
            }
        )
    return pd.DataFrame(lines)


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


def compare_methods(
    case: Case, seeds: int, seconds: float, patience: float, console: Console
) -> list[dict[str, Any]]:
    """One line for each method, seed and moment of its curve; no new seed after `patience` seconds."""
    lines = []
    deadline = time.perf_counter() + patience
    for seed in range(seeds):
        if seed and time.perf_counter() > deadline:
            break
        for name, method in METHODS.items():
            meter = Meter(case.problem, seconds)
            method(meter, seed)
            rate = meter.evaluations / meter.elapsed
            for moment, evaluations, volume in meter.curve():
                lines.append(
                    {
                        "case": case.name,
                        "method": name,
                        "seed": seed,
                        "seconds": moment,
                        "evaluations": evaluations,
                        "hypervolume": volume / case.exact,
                        "rate": rate,
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


def _seconds_to(curve: pd.DataFrame, share: float) -> float:
    """Seconds until a curve has the share; infinite where it never did."""
    there = curve[curve["hypervolume"] >= share]["seconds"]
    return float(there.iloc[0]) if len(there) else float("inf")


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
                "seeds": len(runs),
                "evaluations/s": rate,
                "ours is faster by": our_rate / rate,
            }
            row[f"s to {GOOD:.1%}"] = np.median([_seconds_to(run, GOOD) for run in runs])
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
    for share in BUDGETS if seeds > 1 else BUDGETS[1:2]:
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


def main(argv: Sequence[str] | None = None) -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--full", action="store_true", help="eleven seeds everywhere, longer runs")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    plan = FULL if arguments.full else QUICK
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console = Console(width=160)
    about = about_this_machine() | {
        "command": "python benchmarks/bench_search.py" + " --full" * arguments.full,
        "versions": versions(),
        "plan": asdict(plan),
    }
    out: Path = arguments.out
    tables: dict[str, pd.DataFrame] = {}

    def keep(name: str, table: pd.DataFrame) -> None:
        """Show a table, and write all there are: a run that is cut short leaves what it had."""
        tables[name] = table
        parts = table.groupby("case", sort=False) if name == "summary" else [("", table)]
        for part, frame in parts:
            print_table(console, f"{TITLES[name]} {part}", frame.drop(columns="case") if part else frame)
        content = {known: json.loads(t.to_json(orient="records")) for known, t in tables.items()}
        write_atomic(out / "search.json", json.dumps({"about": about, **content}, indent=1) + "\n")
        write_atomic(out / "search.md", report(about, plan, tables))

    cases = [additive_case(27, 2, None), additive_case(45, 2, None), additive_case(27, 3, 30)]
    compared: list[dict[str, Any]] = []
    if shipped := shipped_problem():
        fronts = long_fronts(shipped[1], plan.long_run)
        cases.insert(0, shipped_case(shipped[1], fronts, plan.long_run))
        keep("under_budgets", under_budgets(*shipped, fronts, plan, errors))
        keep("profile", profile_engine(cases[0]))
        keep("impossible", impossible_budgets(*shipped))
    for case in cases:
        real = case.name == SHIPPED
        seeds = plan.seeds if real else plan.additive_seeds
        patience = plan.patience if real else plan.additive_patience
        compared += compare_methods(case, seeds, plan.seconds, patience, errors)
    lines = pd.DataFrame(compared)
    keep("summary", summarise(lines))
    with atomic_path(out / "search.csv") as temporary:
        lines.to_csv(temporary, index=False)
    plot_comparison(lines, out / "search-hypervolume.png")
    keep("oracle", oracle(cases[:2]))
    grown = growth(plan.growth_seeds, min(0.5, plan.seconds), errors)
    plot_growth(grown, out / "search-growth.png")
    keep("growth", grown.groupby(["grows", "value"], sort=False).median().drop(columns="seed").reset_index())
    keep("budget_queries", budget_queries(additive_space(27, 2, 1), plan.growth_seeds, errors))


TITLES = {
    "summary": "Methods, medians over seeds. HV: share of the exact (or best known) hypervolume, at times and at "
    "evaluations.",
    "oracle": "pymoo as the oracle: NSGA-II as published, equal operators, equal evaluations.",
    "under_budgets": "Our search under a budget with the shipped predictors. HV: share of all that was found inside "
    "the budget, by ten long runs without one and by the runs of this table.",
    "budget_queries": "One query: the most accurate subnet under a latency budget (a quantile of the exact front).",
    "impossible": "Impossible budgets with the shipped predictors: seconds until named.",
    "growth": "Growth of our engine.",
    "profile": "Where the time of a search goes with the shipped predictors (under a profiler).",
}


def report(about: dict[str, Any], plan: Plan, tables: dict[str, pd.DataFrame]) -> str:
    """The results as Markdown."""
    head = (
        "# The search engine against others\n\n"
        f"`{about['command']}` on {about['cores']} cores of {about['processor']}, load before the start "
        f"{about['load_before']:.1f}. Shipped predictors: hypervolume against the best of {LONG_RUNS} runs of "
        f"{plan.long_run:,} evaluations. Additive problems: against the front that dynamic programming finds. Every "
        f"method runs on one thread for {plan.seconds:g} s of processor time, which all seconds here are; they take "
        f"turns seed by seed. Growth: {plan.growth_seeds} seed{'s' * (plan.growth_seeds > 1)}.\n\n"
        "![Hypervolume over time and evaluations](search-hypervolume.png)\n\n"
        "![Growth](search-growth.png)\n"
    )
    parts = [f"\n## {TITLES[name]}\n\n{markdown(tables[name])}\n" for name in TITLES if name in tables]
    return head + "".join(parts)


if __name__ == "__main__":
    main()
