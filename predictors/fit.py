"""From a supernet to its predictors, as commands: measure accuracy, measure latency, fit both."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as Display
from torch.backends import cudnn

from predictors.accuracy import AccuracyPredictors, fit_accuracy
from predictors.collect import LastPhotos, collect_accuracy, collect_latency
from predictors.devices import predictor_path, table_path
from predictors.executors import Executor, InProcess
from predictors.latency import LatencyPredictor, fit_latency
from predictors.pack import pack_rows
from predictors.ranking import FOLDS, Quality
from predictors.tables import read_table, rows_of_ids
from predictors.threads import one_blas_thread
from predictors.timing import ON_CUDA, RUNTIMES, TimingPlan
from supernet.checkpoint import file_fingerprint, load_supernet
from supernet.data.registry import open_dataset
from supernet.errors import DataError, DeviceError, SalnasError
from supernet.evaluate import build_evaluation_set
from supernet.metric_names import METRICS
from supernet.network import Supernet
from supernet.processor import chosen_device, torch_threads
from supernet.progress import shown_progress
from supernet.sampling import covering_rows
from supernet.space import Rows, Space

ROOT = Path(__file__).resolve().parents[1]
FEWEST_TIMED = FOLDS
"""Timed subnets from which on a table gives a predictor of its own; a user's device needs fewer, see `transfer`."""

ACCURACY_TABLE = "accuracy.parquet"
ACCURACY_PREDICTOR = "accuracy.safetensors"

app = typer.Typer(help="Measure the subnets of a supernet and fit its predictors.", add_completion=False)
console = Console() if sys.stdout.isatty() else Console(width=120)


@dataclass(frozen=True)
class Job:
    """A supernet file, where its tables and predictors go, and the seed of the subnets that are drawn."""

    supernet: Path
    results: Path
    seed: int

    @property
    def folder(self) -> Path:
        return self.results / "predictors" / self.supernet.stem

    def load(self) -> Supernet:
        return load_supernet(self.supernet)[0]


SupernetOption = Annotated[Path | None, typer.Option(help="The supernet's .safetensors file.")]
ResultsOption = Annotated[
    Path, typer.Option(envvar="SALNAS_RESULTS", help="Folder of supernets/, predictors/.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of the subnets that are drawn.")]
SubnetsOption = Annotated[int, typer.Option(min=2, help="Subnets to evaluate.")]
TimedOption = Annotated[int, typer.Option(min=2, help="Subnets to time.")]
PhotosOption = Annotated[int, typer.Option(min=1, help="Photos at the end of the training split.")]
DataOption = Annotated[str, typer.Option(help="Data set, by name or folder.")]
ThreadsOption = Annotated[list[int], typer.Option(help="Threads of onnxruntime; repeat for several devices.")]
RoundsOption = Annotated[int, typer.Option(min=3, help="Inferences of each subnet.")]

MachineOption = Annotated[
    str,
    typer.Option(help="What to call this machine: devices NAME-1-thread and so on. Default cpu, or cuda."),
]

RESULTS = ROOT / "results"

_ON_A_GPU = 16
"""Photos that a GPU evaluates at once."""


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Without a command: measure accuracy and latency with the defaults, then fit."""
    if context.invoked_subcommand is None:
        results = Path(os.environ.get("SALNAS_RESULTS", RESULTS))
        job = _job(None, results, 0)
        measure_accuracy(job, subnets=300, photos=80, data="osie")
        measure_latency(job, subnets=200, threads=[1, 2], rounds=15)
        fit_all(job)


@app.command()
def accuracy(
    supernet: SupernetOption = None,
    results: ResultsOption = RESULTS,
    subnets: SubnetsOption = 300,
    photos: PhotosOption = 80,
    data: DataOption = "osie",
    seed: SeedOption = 0,
    front: Annotated[
        Path | None,
        typer.Option(help="CSV with a column id: evaluate subnets spread over it, not drawn ones."),
    ] = None,
    part: Annotated[
        str, typer.Option(help="K/N: every N-th subnet only; N processes with K from 1 to N share the work.")
    ] = "1/1",
    runtime: Annotated[str, typer.Option(help="On a CPU: onnxruntime (fast) or torch.")] = "onnxruntime",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Evaluate subnets on photos that were held out of training.

    A search finds what a predictor overrates. Evaluating its front and fitting again takes that back.
    """
    job = _job(supernet, results, seed)
    measure_accuracy(
        job,
        subnets=subnets,
        photos=photos,
        data=data,
        front=front,
        part=part,
        runtime_name=runtime,
        device=device,
    )


@app.command()
def latency(
    supernet: SupernetOption = None,
    results: ResultsOption = RESULTS,
    subnets: TimedOption = 200,
    threads: ThreadsOption = [1, 2],  # noqa: B006
    rounds: RoundsOption = 15,
    runtime: Annotated[
        str, typer.Option(help=f"{', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]}.")
    ] = "onnxruntime",
    machine: MachineOption = "",
    seed: SeedOption = 0,
) -> None:
    """Export subnets to ONNX and time them on this machine."""
    job = _job(supernet, results, seed)
    measure_latency(
        job, subnets=subnets, threads=threads, rounds=rounds, runtime_name=runtime, machine=machine
    )


@app.command()
def fit(supernet: SupernetOption = None, results: ResultsOption = RESULTS, seed: SeedOption = 0) -> None:
    """Fit predictors to the tables there are and show their held-out rank correlations."""
    fit_all(_job(supernet, results, seed))


@app.command()
def report(
    supernet: SupernetOption = None,
    results: ResultsOption = RESULTS,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report, results/benchmarks if not given.")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Write tables and plots of what the predictors say of subnets that they have not seen."""
    job = _job(supernet, results, seed)
    console.print(f"Wrote {write_report(job, out or job.results / 'benchmarks')}")


def measure_accuracy(
    job: Job,
    *,
    subnets: int,
    photos: int,
    data: str,
    front: Path | None = None,
    part: str = "1/1",
    runtime_name: str = "onnxruntime",
    device: str = "cpu",
    executor: Executor | None = None,
) -> None:
    """Add evaluated subnets to the accuracy table: drawn ones, or some that are spread over a front.

    `part` "K/N" takes every N-th of them, from the K-th on, and an N-th of the threads: processes with all of
    them wait for one another. Workers of an `executor` share the work, on their CPUs.
    Another `device` than the CPU evaluates masked subnets, without TF32, which would cost digits.
    """
    if device != "cpu" and executor is not None:
        raise DataError(
            "Workers evaluate on CPUs.",
            field="device",
            value=device,
            remedy="Leave out the workers, or the device.",
        )
    first, step_of_part = parse_part(part)
    supernet = job.load().to(chosen_device(device))
    chosen = LastPhotos(open_dataset(data, split="train"), photos)
    evaluation = build_evaluation_set(chosen, resolutions=supernet.space.resolutions)
    identity = {
        "supernet_fingerprint": file_fingerprint(job.supernet),
        "data": f"{chosen.name} ({chosen.split}), last {photos} photos",
        "photos_fingerprint": chosen.fingerprint(),
    }
    if front:
        rows = spread(rows_of_ids(supernet.space, _ids_of(front)), subnets)
    else:
        rows = covering_rows(supernet.space, np.random.default_rng(job.seed), subnets)
    path = job.folder / ACCURACY_TABLE
    with (
        _counted(path, "evaluated"),
        shown_progress("Evaluating subnets") as step,
        cudnn.flags(enabled=True, allow_tf32=False),
        torch_threads(max(1, torch.get_num_threads() // step_of_part)),
    ):
        collect_accuracy(
            supernet,
            rows[first::step_of_part],
            evaluation,
            path,
            identity,
            command=_command(),
            runtime=runtime_name if device == "cpu" else "masked",
            batch_size=2 if device == "cpu" else _ON_A_GPU,
            progress=step,
            executor=executor,
        )


def parse_part(text: str) -> tuple[int, int]:
    """ "K/N" → K - 1 and N; DataError where it is none."""
    try:
        number, of = (int(word) for word in text.split("/"))
        if 1 <= number <= of:
            return number - 1, of
    except ValueError:
        pass
    raise DataError(f"{text!r} is no part.", field="part", value=text, remedy="Say 1/2 for the first of two.")


def spread(rows: Rows, count: int) -> Rows:
    """At most `count` of the rows (n, d), evenly taken from the first to the last."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    chosen: Rows = rows[places]
    return chosen


def _ids_of(path: Path) -> list[str]:
    try:
        return [str(identity) for identity in pd.read_csv(path)["id"]]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is no table with a column id: {error}.",
            field="front",
            value=str(path),
            remedy="Give the subnets.csv that `salnas search --out` writes.",
        ) from error


def measure_latency(
    job: Job,
    *,
    subnets: int,
    threads: list[int],
    rounds: int,
    runtime_name: str = "onnxruntime",
    machine: str = "",
    executor: Executor | None = None,
) -> None:
    """Add timed subnets to the latency table of each device; on an `executor`, where that device is.

    Devices are called by the name of the `machine`, see `timed_devices`. Raises DeviceError where one of that name
    is another machine.
    """
    from predictors.runtimes import describe_machine, runtime

    supernet = job.load()
    rng = np.random.default_rng(job.seed)
    rows = np.concatenate([pack_rows(supernet.space), covering_rows(supernet.space, rng, subnets)])[:subnets]
    for device, number in timed_devices(threads, runtime_name, machine).items():
        prepare = runtime(runtime_name, supernet, number)
        # Where the device is: on an executor that is another machine.
        ((_, described),) = (executor or InProcess()).run(describe_machine, [runtime_name], device=device)
        about = {**described, "runtime": runtime_name, "threads": number}
        plan, path = TimingPlan(rounds=rounds), table_path(job.folder, device)
        _require_same_machine(path, device, about)
        with _counted(path, f"timed on {device}"), shown_progress(f"Timing subnets on {device}") as step:
            collect_latency(
                supernet.space,
                rows,
                prepare,
                path,
                {"device": about},
                rng,
                plan=plan,
                command=_command(),
                progress=step,
                executor=executor,
                device=device,
            )


@one_blas_thread()
def fit_all(job: Job) -> None:
    """Fit and save a predictor for every table in the folder of the supernet, and show how good each is."""
    space = job.load().space
    shown = []
    path = job.folder / ACCURACY_TABLE
    if path.is_file():
        predictors = fit_accuracy_table(path, space, job.seed)
        predictors.save(job.folder / ACCURACY_PREDICTOR, supernet=file_fingerprint(job.supernet))
        shown += [(name, p.quality, f"± {p.usual_radius:.4f}") for name, p in predictors.by_metric.items()]
    for table in _latency_tables(job):
        device = table.stem.removeprefix("latency-")
        fitted = fit_latency_table(table, space, job.seed)
        fitted.save(predictor_path(job.folder, device))
        shown.append((f"latency_ms@{device}", fitted.quality, f"± {100 * np.expm1(fitted.radius):.1f} %"))
    if not shown:
        raise typer.BadParameter(f"There is no table in {job.folder}; measure accuracy or latency first.")
    console.print(quality_table(shown))


@one_blas_thread()
def write_report(job: Job, out: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Write predictors.md, its figures as JSON, and its plots, for all tables of the supernet."""
    from predictors.report import Page, accuracy_report, latency_report, sampling_report, transfer_report

    space, rng = job.load().space, np.random.default_rng(job.seed)
    page = Page(out)
    page.say(f"# Predictors of {job.supernet.stem}", f"`{_command()}`")
    sampling_report(page, space, rng)
    if (job.folder / ACCURACY_TABLE).is_file():
        say("Judging the accuracy predictors")
        accuracy_report(page, read_table(job.folder / ACCURACY_TABLE), space, rng)
    tables = {path.stem.removeprefix("latency-"): read_table(path) for path in _latency_tables(job)}
    if tables:
        say("Judging the latency predictors")
        latency_report(page, tables, space, rng)
        transfer_report(page, tables, space, rng)
    return page.save("predictors")


def _latency_tables(job: Job) -> list[Path]:
    """The tables of devices that hold enough subnets to be judged; the others are still growing."""
    paths = sorted(job.folder.glob("latency-*.parquet"), key=lambda path: path.stem)
    return [path for path in paths if len(read_table(path)) >= FEWEST_TIMED]


def fit_accuracy_table(path: Path, space: Space, seed: int) -> AccuracyPredictors:
    """Predictors of every metric that the table holds for all its subnets."""
    table = read_table(path)
    scores = {name: table.column(name) for name in METRICS}
    usable = {name: column for name, column in scores.items() if np.isfinite(column).all()}
    provenance = {**table.identity, "history": list(table.history)}
    return fit_accuracy(space, table.rows(space), usable, np.random.default_rng(seed), provenance=provenance)


def fit_latency_table(path: Path, space: Space, seed: int) -> LatencyPredictor:
    """The predictor of a device from its table."""
    table = read_table(path)
    provenance = {**table.identity, "history": list(table.history)}
    rng = np.random.default_rng(seed)
    return fit_latency(space, table.rows(space), table.column("latency_ms"), rng, provenance=provenance)


def timed_devices(threads: list[int], runtime_name: str = "onnxruntime", machine: str = "") -> dict[str, int]:
    """What `machine` is called with each number of threads, or its GPU; the usual runtime goes without saying."""
    if runtime_name == ON_CUDA:
        return {f"{machine}-cuda" if machine else "cuda": 1}
    suffix = runtime_name.removeprefix("onnxruntime").strip("-")
    end = f"-{suffix}" if suffix else ""
    return {f"{machine or 'cpu'}-{count}-thread{'s' * (count > 1)}{end}": count for count in threads}


def _require_same_machine(path: Path, device: str, about: Mapping[str, Any]) -> None:
    known = read_table(path).identity.get("device", {}) if path.exists() else about
    differing = [
        f"{name} {known.get(name)}, here {about[name]}" for name in about if known.get(name) != about[name]
    ]
    if differing:
        raise DeviceError(
            f"The device {device} is not this one: {'; '.join(differing)}.",
            field="device",
            value=device,
            remedy="Give this machine a name of its own, such as --machine laptop.",
        )


@contextmanager
def _counted(path: Path, what: str) -> Iterator[None]:
    """Say how many subnets the table at `path` has after the block, however that ends."""

    def count() -> int:
        return len(read_table(path)) if path.exists() else 0

    before = count()
    try:
        yield
    finally:
        new = count() - before
        learn = "; `fit` learns from them" if new else ""
        console.print(f"{before + new:,} subnets {what}, {new:,} of them now{learn}")


def quality_table(lines: list[tuple[str, Quality, str]]) -> Display:
    """Held-out quality of predictors for the terminal: Kendall τ, Spearman ρ, errors, 90 % intervals."""
    display = Display(title="Held-out quality (cross-validation)", box=SIMPLE, padding=(0, 1))
    for heading in ("target", "n", "τ", "ρ", "MAE", "≤5 %", "≤10 %", "interval"):
        is_name = heading == "target"
        display.add_column(
            heading, justify="left" if is_name else "right", no_wrap=True, min_width=26 * is_name
        )
    for name, q, interval in lines:
        figures = (f"{q.kendall:.3f}", f"{q.spearman:.3f}", f"{q.mae:.3g}")
        display.add_row(name, str(q.n), *figures, f"{q.within_5:.0%}", f"{q.within_10:.0%}", interval)
    return display


def main() -> None:
    """Run the commands; errors that a user can mend end in one line."""
    try:
        app(prog_name="python -m predictors.collect")
    except SalnasError as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        sys.exit(1)


def _job(supernet: Path | None, results: Path, seed: int) -> Job:
    return Job(supernet or results / "supernets" / "salnas-osie.safetensors", results, seed)


def _command() -> str:
    """What was typed, with files by their names: a table says how it was made, not on whose disk."""
    words = [Path(word).name if word.startswith(("/", "~")) else word for word in sys.argv[1:]]
    program = ["salnas"] if Path(sys.argv[0]).name == "salnas" else ["python", "-m", "predictors.collect"]
    return shlex.join([*program, *words])


if __name__ == "__main__":
    main()
