"""Export to ONNX against torch.onnx in the same run: time, size, difference, and latency of what comes out.

Subnets run in turns, so that the machine's drift meets all of them alike; ratios are medians over the rounds of
neighbours. With one thread the time is that of the processor, which is the latency on a machine with nothing else
to do; with two it is wall time, so leave the machine alone for that.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import publish
from supernet.calibrate import recalibrate
from supernet.checkpoint import load_supernet
from supernet.data.synthetic import synthetic
from supernet.export import export_onnx
from supernet.images import normalise
from supernet.network import SaliencyNet, extract
from supernet.runtime import onnx_session
from supernet.space import get_space

ANCHOR = "torch.onnx (dynamo)"
SHIPPED = Path(__file__).parents[1] / "results" / "supernets" / "salnas-osie.safetensors"
PHOTOS = 8
NOTE = (
    "One thread: processor time, medians of runs in turns. More: wall time, which other work lengthens, so measure "
    "it where the load is low. Differences are to torch, on one synthetic photo. Ours take "
    "photos of 0 to 255 and include normalisation; their time includes the check against torch."
)
WEIGHTS = {
    True: "Weights: the shipped supernet.",
    False: "Weights: random, with the statistics of the photos; those of a trained network lose far less in int8.",
}


@dataclass(frozen=True)
class Exported:
    """A file, the seconds that it took and the feed of one photo."""

    path: Path
    seconds: float
    feed: dict[str, np.ndarray[Any, Any]]


def prepared(word: str) -> tuple[SaliencyNet, np.ndarray[Any, Any]]:
    """A subnet, of the shipped supernet where there is one, and synthetic photos (n, 3, H, W) uint8."""
    space = get_space("salnas")
    arch = space.parse_arch(word)
    drawn = synthetic(PHOTOS, size=arch.resolution)
    photos = np.stack([drawn[i].image for i in range(PHOTOS)]).transpose(0, 3, 1, 2).copy()
    if SHIPPED.exists():
        return extract(load_supernet(SHIPPED)[0], arch).requires_grad_(False), photos
    torch.manual_seed(0)
    net = SaliencyNet(arch).requires_grad_(False)
    return recalibrate(net, [normalise(torch.from_numpy(photos))]), photos


def export_with_torch(net: SaliencyNet, photos: np.ndarray[Any, Any], path: Path) -> Exported:
    """The exporter of torch, on the network alone: its input is normalised."""
    example = normalise(torch.from_numpy(photos[:2]))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example,),
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        )
    return Exported(path, time.perf_counter() - began, {"x": example[:1].numpy()})


def export_with_salnas(
    net: SaliencyNet, photos: np.ndarray[Any, Any], path: Path, **options: Any
) -> Exported:
    """Ours; checked against torch inside the time."""
    calibration = photos if options.get("precision") == "int8" else None
    report = export_onnx(net, path, photos=calibration, **options)
    return Exported(path, report.seconds, {"image": photos[:1]})


def latencies(exported: dict[str, Exported], threads: int, rounds: int) -> dict[str, np.ndarray[Any, Any]]:
    """Milliseconds (rounds,) of each file, run in turns."""
    clock: Callable[[], int] = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    sessions = {name: onnx_session(file.path, threads) for name, file in exported.items()}
    times = {name: np.empty(rounds) for name in exported}
    rng = np.random.default_rng(0)
    for index in range(-3, rounds):
        for name in rng.permutation(list(sessions)):
            began = clock()
            sessions[name].run(None, exported[name].feed)
            if index >= 0:
                times[name][index] = 1e-6 * (clock() - began)
    return times


def measure(label: str, word: str, folder: Path, rounds: int, threads: list[int]) -> list[dict[str, Any]]:
    """The rows of one subnet."""
    import onnx

    net, photos = prepared(word)
    with torch.no_grad():
        expected = net(normalise(torch.from_numpy(photos[:1]))).numpy()
    export_with_salnas(net, photos, folder / "first.onnx")  # imports onnx and onnxruntime
    variants: dict[str, Callable[[Path], Exported]] = {
        ANCHOR: lambda path: export_with_torch(net, photos, path),
        "salnas": lambda path: export_with_salnas(net, photos, path),
        "salnas, plain head": lambda path: export_with_salnas(net, photos, path, head="plain"),
        "salnas, fp16": lambda path: export_with_salnas(net, photos, path, precision="fp16"),
        "salnas, int8": lambda path: export_with_salnas(net, photos, path, precision="int8"),
    }
    exported = {name: write(folder / f"{i}.onnx") for i, (name, write) in enumerate(variants.items())}
    times = {count: latencies(exported, count, rounds) for count in threads}
    rows = []
    for name, file in exported.items():
        (maps,) = onnx_session(file.path).run(None, file.feed)
        row = {
            "subnet": label,
            "exporter": name,
            "export s": file.seconds,
            "MB": file.path.stat().st_size / 1e6,
            "nodes": len(onnx.load(file.path).graph.node),
            "largest difference": f"{np.abs(maps - expected).max():.1e}",
        }
        for count, found in times.items():
            row[f"ms, threads: {count}"] = float(np.median(found[name]))
            row[f"of torch.onnx, threads: {count}"] = float(np.median(found[name] / found[ANCHOR]))
        rows.append(row)
    return rows


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="runs of each file")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of onnxruntime")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for label, word in (("XS 256x192", "min"), ("XL 384x288", "max"))
            for row in measure(label, word, Path(folder), chosen.rounds, chosen.threads)
        ]
    publish(
        "export",
        "Export of the smallest and the largest subnet to ONNX, and onnxruntime's latency of one photo",
        pd.DataFrame(rows),
        command=" ".join(["python benchmarks/bench_export.py", *sys.argv[1:]]),
        note=f"{NOTE} {WEIGHTS[SHIPPED.exists()]}",
    )


if __name__ == "__main__":
    main()
