"""What benchmarks share: a stopwatch; a table on the terminal, and as JSON and Markdown in results/benchmarks/."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from supernet.files import write_atomic

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "benchmarks"


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def publish(
    name: str,
    title: str,
    frame: pd.DataFrame,
    *,
    command: str,
    note: str = "",
    about: dict[str, Any] | None = None,
) -> None:
    """Print `frame` and write results/benchmarks/`name`.json and .md; `about` is the machine, this one by default."""
    print_table(Console(), title, frame)
    about = (about or about_this_machine()) | {"command": command}
    rows = json.loads(frame.to_json(orient="records"))
    write_atomic(OUT / f"{name}.json", json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    head = f"# {title}\n\n`{command}` on {about['cores']} cores of {about['processor']}"
    head += f", load {about['load_before']:.1f}.\n\n"
    write_atomic(OUT / f"{name}.md", head + markdown(frame) + (f"\n\n{note}\n" if note else "\n"))


def about_this_machine() -> dict[str, Any]:
    """Processor, cores and present load."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None)
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
    }


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
    """A data frame as a table on the terminal."""
    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        table.add_column(str(column), justify="left" if frame[column].dtype.kind not in "fi" else "right")
    for line in frame.itertuples(index=False):
        table.add_row(*map(shown, line))
    console.print(table)
