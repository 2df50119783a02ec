"""Does measuring a front pay? Verification against a predicted front, at the same number of real measurements.

    python benchmarks/bench_verify.py [--seeds 5] [--minutes 3.5] [--budget-ms MS] [--measurements 20] [--photos 80]
                                      [--results DIR]

The device must be this machine. Where it is not, copy results/supernets and results/predictors to a DIR, remove the
latencies there, and time and fit anew: `python -m predictors.collect latency --results DIR --supernet FILE`, then the
same with `fit`.

Accuracy is measured on photos that no supernet is trained on, latency by timing the exported subnet. Every value is
kept under runs/bench-verify, so a run that is out of minutes is continued by the next one: the seeds that are
complete count. Writes verify.json, verify.md and verify.png to results/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402

mpl.use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from benchmarks.report import OUT, about_this_machine, markdown, print_table  # noqa: E402
from predictors.devices import Device, load_device  # noqa: E402
from search.executors import InProcess  # noqa: E402
from search.front import hypervolume, nondominated  # noqa: E402
from search.improvement import best_batch  # noqa: E402
from search.instruments import accuracy_meter, latency_meter  # noqa: E402
from search.measuring import MeasuredTable, Measurement  # noqa: E402
from search.problem import FloatArray, IntArray, Problem, make_problem  # noqa: E402
from search.run import search  # noqa: E402
from search.verify import ROUND, Effort, verify  # noqa: E402
from service.workbench import DEFAULT_CHOICE, Workbench  # noqa: E402
from supernet.files import atomic_path, write_atomic  # noqa: E402

SHIPPED = ROOT / "results"
NAMES = ("accuracy", "latency_ms")
BATCH = 5
VERIFIED, PREDICTED = "verified", "predicted front, measured"
COLOURS = {VERIFIED: "#0b6e4f", PREDICTED: "#d94801"}
PUBLISHED = (
    ("Once-for-All (Cai et al. 2020)", "16,000 evaluated subnets, for its accuracy predictor"),
    ("DyNAS-T (Cummings et al. 2022)", "1,000 evaluated subnets, for its accuracy predictor"),
    ("LaMOO (Zhao et al. 2024)", "600 evaluated networks, in its search on CIFAR10"),
)


class OutOfTime(Exception):
    """The minutes of this run are over."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """A measurement that asks a table on disk first, so that every value is measured once for all runs."""

    table: MeasuredTable
    deadline: float
    at_once: int = 1
    device: str | None = None

    @property
    def name(self) -> str:
        """See `Measurement`."""
        return self.table.measurement.name

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Measurement`."""
        return self.table.measurement.columns

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Measurement`."""
        return self.table.measurement.identity

    def __call__(self, rows: IntArray, /) -> Mapping[str, FloatArray]:
        """(n, d) subnets → the columns (n,). Raises OutOfTime before something new is measured too late."""
        for row in rows[~self.table.holds(rows)]:
            if time.perf_counter() > self.deadline:
                raise OutOfTime
            for _ in self.table.measure(row[None], InProcess()):
                pass
        return self.table.columns(rows)


@dataclass(frozen=True)
class Arm:
    """What one way of searching had measured, in that order: `values` (n, 2) and what was `predicted` (n, 2).

    `known` (n,): the predictor of accuracy had been fitted to it, so that its error says nothing.
    """

    seed: int
    name: str
    values: FloatArray
    predicted: FloatArray
    known: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Setting:
    """One supernet with predictors and meters, under a latency budget."""

    bench: Workbench
    device: Device
    meters: Sequence[Pooled]
    budget: float
    measurements: int

    @property
    def bound(self) -> str:
        """The budget as users state it."""
        return f"latency_ms<={self.budget:g}"

    @cached_property
    def evaluate(self) -> Callable[[IntArray], Mapping[str, Any]]:
        """The predictors."""
        return partial(self.bench.estimates.evaluate, names=NAMES, choice=DEFAULT_CHOICE)

    @cached_property
    def problem(self) -> Problem:
        """The problem by predictions."""
        return make_problem(self.bench.space, self.evaluate, NAMES, (self.bound,))

    def verified(self, seed: int) -> Arm:
        """Rounds of a few measurements, the predictors corrected after each."""
        rows: list[IntArray] = []

        def noted(meter: Pooled, some: IntArray) -> Mapping[str, FloatArray]:
            if meter is self.meters[0]:
                rows.append(some)
            return meter(some)

        verify(
            self.bench.space,
            self.evaluate,
            [_Watched(meter, partial(noted, meter)) for meter in self.meters],
            objectives=NAMES,
            constraints=(self.bound,),
            seed=seed,
            effort=Effort(self.measurements, BATCH, 0.0),
        )
        return self._arm(seed, VERIFIED, np.vstack(rows))

    def predicted(self, seed: int) -> Arm:
        """The subnets of the predicted front that together dominate most by predictions, all measured."""
        found = search(
            self.bench.space,
            self.evaluate,
            objectives=NAMES,
            constraints=(self.bound,),
            seed=seed,
            stop=ROUND,
        )
        rows = self.bench.rows_of(found.front)
        F = self.problem.minimised(self.problem.values(rows)) / self.problem.scale
        reference = self.problem.reference / self.problem.scale
        certain = np.ones((1, len(F)), dtype=bool)
        places, _ = best_batch(F[None], certain, np.empty((0, 2)), reference, self.measurements)
        return self._arm(seed, PREDICTED, rows[places])

    def _arm(self, seed: int, name: str, rows: IntArray) -> Arm:
        values = self.problem.values(rows)
        measured = {column: v for meter in self.meters for column, v in meter(rows).items()}
        known = np.isin(self.bench.space.ids(rows), _measured_ids(self.bench, "accuracy"))
        return Arm(
            seed, name, np.column_stack([measured[n] for n in NAMES]), values[:, [*self._places]], known
        )

    @property
    def _places(self) -> Iterator[int]:
        return (self.problem.columns.index(name) for name in NAMES)


@dataclass(frozen=True, eq=False)
class _Watched:
    """A pooled measurement whose calls are seen by somebody else."""

    meter: Pooled
    function: Callable[[IntArray], Mapping[str, FloatArray]]
    at_once: int = 1
    device: str | None = None

    @property
    def name(self) -> str:
        return self.meter.name

    @property
    def columns(self) -> tuple[str, ...]:
        return self.meter.columns

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.meter.identity

    def __call__(self, rows: IntArray, /) -> Mapping[str, FloatArray]:
        return self.function(rows)


def make_setting(arguments: argparse.Namespace, deadline: float) -> Setting:
    """The shipped supernet, its meters with a table each; another supernet or number of photos has its own."""
    bench = Workbench.open(arguments.results, arguments.supernet)
    device = load_device(bench.results / "predictors" / bench.id, DEFAULT_CHOICE.device, bench.space)
    meters: list[Measurement] = [
        accuracy_meter(
            bench.supernet, bench.file.fingerprint, DEFAULT_CHOICE.metric, photos=arguments.photos
        ),
        latency_meter(bench.supernet, device, ("latency_ms",)),
    ]
    folder = arguments.folder / f"{bench.file.fingerprint}-{arguments.photos}-photos"
    pooled = [Pooled(MeasuredTable(bench.space, meter, folder), deadline) for meter in meters]
    least = float(device.predictor.predict(bench.space.encode(bench.space.smallest())[None]).mean[0])
    budget = arguments.budget_ms or round(1.2 * least, 1)
    return Setting(bench, device, pooled, budget, arguments.measurements)


@dataclass(frozen=True)
class Judge:
    """Measured hypervolume of subnets inside the budget, as a share of that of all subnets that were measured.

    The box reaches from the budget and the lowest accuracy measured inside it.
    """

    budget: float
    worst: float
    scale: FloatArray
    whole: float

    @classmethod
    def of(cls, arms: Sequence[Arm], budget: float) -> Judge:
        """The judge of all arms together."""
        values = np.vstack([arm.values for arm in arms])
        inside = values[values[:, 1] <= budget]
        worst = float(inside[:, 0].min())
        scale = np.array([np.ptp(inside[:, 0]), budget - inside[:, 1].min()])
        judge = cls(budget, worst, scale, 1.0)
        return cls(budget, worst, scale, judge.volume(values))

    def volume(self, values: FloatArray) -> float:
        """(n, 2) measured accuracy and latency → share."""
        inside = values[values[:, 1] <= self.budget]
        F = np.column_stack([-inside[:, 0], inside[:, 1]])
        return hypervolume(F, np.array([-self.worst, self.budget]), self.scale) / self.whole


def summary(arms: Sequence[Arm], judge: Judge) -> pd.DataFrame:
    """One line for each seed and arm."""
    lines = []
    for arm in arms:
        inside = arm.values[:, 1] <= judge.budget
        kept = arm.values[inside]
        front = kept[nondominated(np.column_stack([-kept[:, 0], kept[:, 1]]))]
        lines.append(
            {
                "seed": str(arm.seed),
                "way": arm.name,
                "measured subnets": len(arm.values),
                "hypervolume": judge.volume(arm.values),
                "best accuracy in budget": float(kept[:, 0].max()),
                "subnets of the front": len(front),
                # What a verified search measured outside the budget it paid for and did not return.
                "returned inside the budget": "100%" if arm.name == VERIFIED else f"{inside.mean():.0%}",
                "evaluated before": int(arm.known.sum()),
                "error of predicted accuracy, others": float(
                    np.abs(arm.predicted - arm.values)[~arm.known, 0].mean()
                    if not arm.known.all()
                    else np.nan
                ),
                "error of predicted latency": f"{np.abs(arm.predicted / arm.values - 1)[:, 1].mean():.1%}",
            }
        )
    return pd.DataFrame(lines)


def curves(arms: Sequence[Arm], judge: Judge) -> pd.DataFrame:
    """Hypervolume after each number of measurements, one line for each arm and number."""
    return pd.DataFrame(
        [
            {
                "seed": arm.seed,
                "way": arm.name,
                "measurements": n,
                "hypervolume": judge.volume(arm.values[:n]),
            }
            for arm in arms
            for n in range(1, len(arm.values) + 1)
        ]
    )


def verdict(table: pd.DataFrame, lines: pd.DataFrame) -> list[str]:
    """What the figures say, in sentences."""
    wide = table.pivot_table(index="seed", columns="way", values="hypervolume")
    ratio = wide[VERIFIED] / wide[PREDICTED]
    best = table.pivot_table(index="seed", columns="way", values="best accuracy in budget")
    gain = best[VERIFIED] - best[PREDICTED]
    enough = []
    for seed, volume in wide[PREDICTED].items():
        mine = lines[(lines["way"] == VERIFIED) & (lines["seed"].astype(str) == seed)]
        there = mine[mine["hypervolume"] >= volume]["measurements"]
        enough.append(f"{int(there.iloc[0])} measurements" if len(there) else "none of them")
    pays = "pays" if (ratio > 1).all() else "does not always pay" if ratio.mean() > 1 else "does not pay"
    share = table[table["way"] == PREDICTED]["returned inside the budget"]
    return [
        f"At equal cost verification {pays} in hypervolume: measured hypervolume {ratio.mean():.3f} times that of "
        f"measuring the predicted front (by seed {', '.join(f'{r:.3f}' for r in ratio)}), "
        f"best accuracy inside the budget {gain.mean():+.4f}.",
        f"It reaches the hypervolume of the whole predicted front after {', '.join(enough)} (by seed).",
        f"Of the predicted front {', '.join(share)} is inside the budget when measured; of the verified one 100%.",
    ]


def plot(lines: pd.DataFrame, path: Path) -> None:
    """Measured hypervolume over measurements: each seed thin, the mean thick."""
    figure, axis = plt.subplots(figsize=(7.6, 4.6), layout="constrained")
    for way, colour in COLOURS.items():
        of_way = lines[lines["way"] == way]
        for _, run in of_way.groupby("seed"):
            axis.step(run["measurements"], run["hypervolume"], color=colour, alpha=0.3, where="post", lw=1)
        mean = of_way.groupby("measurements")["hypervolume"].mean()
        axis.step(mean.index, mean, color=colour, where="post", lw=2.4, label=way)
    axis.set_xlabel("subnets evaluated and timed")
    axis.set_ylabel("measured hypervolume inside the budget\n(share of all that was measured)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, color="#e4e4e4", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=160)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure until all seeds are complete or the minutes are over, then report what is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--supernet", default="salnas-osie")
    parser.add_argument("--results", type=Path, default=SHIPPED, help="folder of supernets, predictors")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=3.5)
    parser.add_argument("--budget-ms", type=float, help="by default 1.2 times that of the smallest subnet")
    parser.add_argument("--measurements", type=int, default=20)
    parser.add_argument("--photos", type=int, default=80)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench-verify")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    console = Console() if Console().is_terminal else Console(width=160)
    about = about_this_machine()
    began = time.perf_counter()
    setting = make_setting(arguments, began + 60 * arguments.minutes)
    arms: list[Arm] = []
    try:
        for seed in range(arguments.seeds):
            pair = [setting.predicted(seed), setting.verified(seed)]
            arms += pair
            console.print(f"seed {seed + 1} of {arguments.seeds}: {time.perf_counter() - began:.0f} s")
    except OutOfTime:
        console.print(f"Out of minutes after {len(arms) // 2} seeds; run it again to go on.")
    if not arms:
        return
    judge = Judge.of(arms, setting.budget)
    table, lines = summary(arms, judge), curves(arms, judge)
    print_table(console, "Verified or not, at equal cost", table)
    sentences = verdict(table, lines)
    console.print(*sentences, sep="\n")
    publish(arguments, about, setting, table, lines, sentences)


def publish(
    arguments: argparse.Namespace,
    about: Mapping[str, Any],
    setting: Setting,
    table: pd.DataFrame,
    lines: pd.DataFrame,
    sentences: Sequence[str],
) -> None:
    """Write the results."""
    fitted = _fitted_to(setting.bench)
    ours = f"{fitted}, then {arguments.measurements} for a verified front"
    samples = pd.DataFrame([("SalNAS", ours), *PUBLISHED], columns=["method", "real evaluations"])
    command = (
        f"python benchmarks/bench_verify.py --seeds {arguments.seeds} --budget-ms {setting.budget:g} "
        f"--measurements {arguments.measurements} --photos {arguments.photos}"
        f"{'' if arguments.results == SHIPPED else ' --results DIR'}"
    )
    content = {
        "about": {**about, "command": command, "supernet_fingerprint": setting.bench.file.fingerprint},
        "summary": json.loads(table.to_json(orient="records")),
        "curves": json.loads(lines.to_json(orient="records")),
        "verdict": list(sentences),
    }
    text = (
        "# Does measuring a front pay?\n\n"
        f"`{command}` on {about['cores']} cores of {about['processor']}, load before the start "
        f"{about['load_before']:.1f}, one thread. Supernet {setting.bench.id}, budget {setting.bound} on "
        f"{DEFAULT_CHOICE.device} ({setting.device.description}); {DEFAULT_CHOICE.metric} on the last "
        f"{arguments.photos} training photos of OSIE, which training leaves out. Both ways have the "
        "same predictors and the same number of subnets evaluated and timed for real; hypervolume counts measured "
        "subnets inside the budget only, as a share of that of all subnets measured here together.\n\n"
        + "".join(f"- {sentence}\n" for sentence in sentences)
        + f"\n![Hypervolume over measurements](verify.png)\n\n{markdown(table)}\n\n"
        "## Real evaluations, against published numbers\n\nOther spaces and data sets, so an order of magnitude "
        f"only.\n\n{markdown(samples)}\n"
    )
    write_atomic(arguments.out / "verify.json", json.dumps(content, indent=1) + "\n")
    write_atomic(arguments.out / "verify.md", text)
    plot(lines, arguments.out / "verify.png")


def _measured_ids(bench: Workbench, name: str) -> list[str]:
    table = bench.results / "predictors" / bench.id / f"{name}.parquet"
    return [str(identity) for identity in pd.read_parquet(table, columns=["id"])["id"]]


def _fitted_to(bench: Workbench) -> str:
    """How many real evaluations the shipped predictors took."""
    evaluated, timed = (
        len(_measured_ids(bench, n)) for n in ("accuracy", f"latency-{DEFAULT_CHOICE.device}")
    )
    return f"{evaluated} evaluated and {timed} timed subnets, for its predictors"


if __name__ == "__main__":
    main()
