"""Islands on Ray: evaluations a second with one worker and with more, and what a killed worker costs.

    python benchmarks/bench_islands.py [--workers 1 2] [--islands 4] [--seconds 5] [--rounds 2]

Every number of workers has a Ray of its own in a process of its own, on this machine, and they take turns. Islands
search with the predictors of the shipped supernet. The same islands without Ray, in one process, are the unit. Where
other programs use the cores, so many evaluations a second of processor time are the steadier figure. Writes
islands.json and islands.md to results/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd  # noqa: E402

from benchmarks.report import publish  # noqa: E402
from search.distributed import RayExecutor  # noqa: E402
from search.engine import Generation, Settings  # noqa: E402
from search.executors import Executor, InProcess  # noqa: E402
from search.islands import Ring, search_islands  # noqa: E402
from search.measuring import Measure  # noqa: E402
from search.problem import FloatArray, IntArray  # noqa: E402
from search.record import front_digest  # noqa: E402
from search.run import SearchResult, Stop  # noqa: E402
from search.synthetic import additive_space  # noqa: E402
from search.verify import Effort, verify  # noqa: E402
from service.workbench import DEFAULT_CHOICE, Workbench  # noqa: E402
from tests.fixtures.serving import RAY_WORKERS, descendants, kill_ray_workers  # noqa: E402

NAMES = ("accuracy", "latency_ms")
KILLED_GENERATIONS = 400
PATIENCE = 90.0
"""Seconds after which no new round begins."""
MEASURED = 24
MEASURED_SECONDS = 0.2
MEASURED_COLUMN = f"s for {MEASURED} measurements of {MEASURED_SECONDS} s"


def islands(executor: Executor, count: int, stop: Stop, **options: Any) -> SearchResult:
    """Search with the shipped predictors."""
    bench = Workbench.open(ROOT / "results")
    evaluate = partial(bench.estimates.evaluate, names=NAMES, choice=DEFAULT_CHOICE)
    return search_islands(
        bench.space,
        evaluate,
        ring=Ring(count, every=200),
        executor=executor,
        stop=stop,
        settings=Settings(population=400),
        **options,
    )


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of processes so far, by /proc; 0 for those that are gone."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(workers: int, count: int, seconds: float) -> dict[str, Any]:
    """Evaluations a second of islands with so many workers; 0 is this process, without Ray."""
    if not workers:
        began, cpu = time.perf_counter(), time.process_time()
        result = islands(InProcess(), count, Stop(seconds=seconds))
        spent = time.process_time() - cpu
        return _line(workers, result.evaluations, time.perf_counter() - began, spent)
    with RayExecutor(workers=workers) as executor:
        islands(executor, count, Stop(generations=10))  # workers start and fetch the predictors
        pids = descendants(os.getpid(), RAY_WORKERS)
        began, cpu = time.perf_counter(), time.process_time() + cpu_seconds(pids)
        result = islands(executor, count, Stop(seconds=seconds))
        spent = time.process_time() + cpu_seconds(pids) - cpu
        line = _line(workers, result.evaluations, time.perf_counter() - began, spent)
        return line | {MEASURED_COLUMN: measured(executor)}


def _line(workers: int, evaluations: int, wall: float, cpu: float) -> dict[str, Any]:
    return {
        "workers": workers,
        "evaluations": evaluations,
        "seconds": wall,
        "processor seconds": cpu,
        "evaluations/s": evaluations / wall,
        "per processor second": evaluations / cpu,
        "cores at work": cpu / wall,
    }


def killed(count: int) -> dict[str, Any]:
    """One search on two workers, all of which get SIGKILL under way, against the same search undisturbed."""
    stop = Stop(generations=KILLED_GENERATIONS)
    gone: list[int] = []

    def kill(generation: Generation) -> None:
        if not gone and generation.number > 0:
            threading.Timer(0.2, lambda: gone.extend(kill_ray_workers(os.getpid()))).start()

    with RayExecutor(workers=2) as executor:
        began = time.perf_counter()
        calm = islands(executor, count, stop)
        undisturbed = time.perf_counter() - began
        began = time.perf_counter()
        hit = islands(executor, count, stop, on_generation=kill)
        disturbed = time.perf_counter() - began
    return {
        "killed workers": len(gone),
        "identical front": front_digest(calm.pareto) == front_digest(hit.pareto),
        "evaluations lost": calm.evaluations - hit.evaluations,
        "seconds": disturbed,
        "seconds undisturbed": undisturbed,
    }


def measured(executor: Executor) -> float:
    """Seconds that a verification takes, where each of its measurements takes a fixed time."""
    space = additive_space(27, 2, 1)

    def wait(rows: IntArray) -> dict[str, FloatArray]:
        time.sleep(MEASURED_SECONDS * len(rows))
        return space(rows)

    effort = Effort(MEASURED, MEASURED // 2, 0.0)
    measurement = Measure(wait, ("accuracy", "latency_ms"))
    began = time.perf_counter()
    verify(space, space, [measurement], executor=executor, stop=Stop(evaluations=2_000), effort=effort)
    return time.perf_counter() - began


def apart(task: str, *values: float) -> Any:
    """What a function of this file finds, called in a process of its own."""
    command = [sys.executable, __file__, "--task", task, *(f"{value:g}" for value in values)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


TASKS: dict[str, Callable[..., Any]] = {
    "measure": lambda workers, count, seconds: measure(int(workers), int(count), seconds),
    "killed": lambda count: killed(int(count)),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--islands", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.task:
        name, *values = arguments.task
        print(json.dumps(TASKS[name](*map(float, values))))
        return
    lines: list[dict[str, Any]] = []
    began = time.perf_counter()
    for number in range(arguments.rounds):
        if number and time.perf_counter() - began > PATIENCE:
            break
        for workers in (0, *arguments.workers):
            lines.append(apart("measure", workers, arguments.islands, arguments.seconds))
    table = pd.DataFrame(lines).groupby("workers").median().reset_index()
    one = table[table["workers"] == 1].iloc[0] if 1 in arguments.workers else table.iloc[0]
    table["times one worker"] = table["evaluations/s"] / one["evaluations/s"]
    table["of one worker per processor second"] = table["per processor second"] / one["per processor second"]
    table["evaluations"] = table["evaluations"].astype(int)
    hit = apart("killed", arguments.islands)
    note = (
        f"Workers 0: the same {arguments.islands} islands in one process, without Ray. Medians of "
        f"{len(lines) // (1 + len(arguments.workers))} rounds in turn.\n\n"
        f"{hit['killed workers']} workers got SIGKILL during one search: the front is "
        f"{'identical' if hit['identical front'] else 'NOT identical'} to that of the same search undisturbed, "
        f"{hit['evaluations lost']} evaluations are missing; it took {hit['seconds']:.1f} s instead of "
        f"{hit['seconds undisturbed']:.1f} s."
    )
    command = (
        f"python benchmarks/bench_islands.py --workers {' '.join(map(str, arguments.workers))} "
        f"--islands {arguments.islands} --seconds {arguments.seconds:g} --rounds {arguments.rounds}"
    )
    publish("islands", "Islands on Ray", table, command=command, note=note)


if __name__ == "__main__":
    main()
