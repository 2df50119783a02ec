"""How many subnets a minute are evaluated: by torch and onnxruntime, in this process and on Ray workers.

Runtimes take turns subnet by subnet, so that whatever else the machine does slows both; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import ROOT, publish
from predictors.collect import Evaluator, LastPhotos, collect_accuracy
from predictors.measure_pack import find_meters
from predictors.memory import measure_memory
from supernet.checkpoint import load_supernet
from supernet.cost import cost
from supernet.data.registry import open_dataset
from supernet.evaluate import EvaluationSet, build_evaluation_set
from supernet.network import Supernet, extract
from supernet.onnx_graph import saliency_model
from supernet.sampling import covering_rows
from supernet.space import Rows

SUPERNET = ROOT / "results" / "supernets" / "salnas-osie.safetensors"
COMMAND = "make bench-collect"


def by_runtime(supernet: Supernet, rows: Rows, photos: EvaluationSet) -> pd.DataFrame:
    """Seconds of torch and of onnxruntime for the same subnets in turn."""
    evaluators = {name: Evaluator(supernet, photos, name) for name in ("torch", "onnxruntime")}
    found = {name: [evaluator.measure(rows[0])] for name, evaluator in evaluators.items()}  # warm-up
    for row in rows:
        for name, evaluator in evaluators.items():
            found[name].append(evaluator.measure(row))
    slow = np.array([one["seconds"] for one in found["torch"][1:]])
    apart = max(abs(a["cc"] - b["cc"]) for a, b in zip(*found.values(), strict=True))
    lines = []
    for name, measured in found.items():
        seconds = np.array([one["seconds"] for one in measured[1:]])
        lines.append(
            {
                "runtime": name,
                "subnets": len(rows),
                "photos": len(photos),
                "a minute": 60.0 / seconds.mean(),
                "times torch (median)": float(np.median(slow / seconds)),
                "largest difference of CC": apart,
            }
        )
    return pd.DataFrame(lines)


def by_workers(supernet: Supernet, rows: Rows, photos: EvaluationSet, counts: list[int]) -> pd.DataFrame:
    """Throughput of a whole collection, table and all: in this process and on Ray workers."""
    from search.distributed import RayExecutor

    lines = []
    for workers in (0, *counts):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "a.parquet"
            if workers:
                with RayExecutor(workers=workers) as executor:
                    collect_accuracy(supernet, rows[:workers], photos, path, {}, executor=executor)  # warm-up
                    began = time.perf_counter()
                    collect_accuracy(supernet, rows, photos, path, {}, executor=executor)
                    took, new = time.perf_counter() - began, len(rows) - workers
            else:
                began = time.perf_counter()
                collect_accuracy(supernet, rows, photos, path, {})
                took, new = time.perf_counter() - began, len(rows)
        where = f"{workers} on Ray" if workers else "this process"
        lines.append({"workers": where, "subnets": new, "photos": len(photos), "a minute": 60.0 * new / took})
    return pd.DataFrame(lines)


def by_memory(supernet: Supernet, rows: Rows) -> pd.DataFrame:
    """Measured memory of subnets beside the exact activation table."""
    space, exact = supernet.space, cost(supernet.space, rows)
    lines = []
    for row, identity, activations, parameters in zip(
        rows, space.ids(rows), exact.memory_bytes, exact.parameters, strict=True
    ):
        model = saliency_model(extract(supernet, space.decode(row)).eval())
        used = measure_memory(model.SerializeToString())
        lines.append(
            {
                "subnet": identity,
                "activations, exact (MB)": activations / 1e6,
                "activations, peak measured (MB)": used.activations / 1e6,
                "times": used.activations / activations,
                "weights (MB)": 4 * parameters / 1e6,
                "weights, measured (MB)": used.weights / 1e6,
            }
        )
    return pd.DataFrame(lines)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subnets", type=int, default=6)
    parser.add_argument("--photos", type=int, default=80)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    asked = parser.parse_args()
    supernet, _ = load_supernet(SUPERNET)
    rows = covering_rows(supernet.space, np.random.default_rng(0), asked.subnets)
    dataset = LastPhotos(open_dataset("osie", split="train"), asked.photos)
    photos = build_evaluation_set(dataset, resolutions=supernet.space.resolutions)
    publish(
        "predictors-collect",
        "Collecting accuracies, by runtime",
        by_runtime(supernet, rows, photos),
        command=COMMAND,
        note="Runtimes take turns subnet by subnet on one thread, so the ratio holds on a busy machine too.",
    )
    meters = find_meters()
    publish(
        "predictors-memory",
        "Memory of subnets on onnxruntime",
        by_memory(supernet, rows[:6]),
        command=COMMAND,
        note="Peak of the first photo in a process of its own, without an arena, beside the exact table. "
        + (
            f"Energy can be read from {', '.join(meters)}."
            if meters
            else "This machine has no meter of energy, so none is stated."
        ),
    )
    publish(
        "predictors-workers",
        "Collecting accuracies, by workers",
        by_workers(supernet, rows, photos, asked.workers),
        command=COMMAND,
        note="Includes writing the table. More workers than idle cores bring nothing.",
    )


if __name__ == "__main__":
    main()
