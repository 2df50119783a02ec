"""Run exported subnets with onnxruntime, and time them.

onnxruntime is imported when a session is opened, so that a machine without it can train.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.errors import ExportError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True)
class Latency:
    """Wall time of one run: median and median absolute deviation in milliseconds over `n` runs; lower is better."""

    median_ms: float
    mad_ms: float
    n: int


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
"""What onnxruntime computes with."""


def onnx_session(model: Path | str | bytes, threads: int = 1, provider: str = CPU) -> InferenceSession:
    """A session for a file, or the bytes of one, with the settings that latencies are measured with.

    All graph optimisations stay on: without the blocked layout of the last level a subnet takes 1.7 times as long.
    Raises ExportError for what is not a model, and where onnxruntime is missing or lacks the `provider`.
    """
    runtime = import_for_export("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads of a session that rests would otherwise take the cores from the one that runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors
    source = model if isinstance(model, bytes) else str(model)
    try:
        session: InferenceSession = runtime.InferenceSession(source, options, providers=[provider])
    except Exception as error:  # the errors of onnxruntime have no base of their own
        label = "these bytes" if isinstance(model, bytes) else str(model)
        raise ExportError(
            f"onnxruntime cannot load {label}: {error}",
            field="model",
            value=label,
            remedy="Export the subnet again.",
        ) from error
    if provider not in session.get_providers():  # onnxruntime takes the CPU instead, and hardly says so
        raise ExportError(
            f"onnxruntime {runtime.__version__} does not run on {provider} here.",
            field="provider",
            value=provider,
            remedy="For CUDA install onnxruntime-gpu instead of onnxruntime, with the CUDA that it was built for.",
        )
    return session


def random_photos(
    session: InferenceSession, rng: np.random.Generator, batch: int = 1
) -> dict[str, NDArray[Any]]:
    """The feed of a session: `batch` photos of noise from 0 to 255, in the type and size that its model wants."""
    wanted = session.get_inputs()[0]
    photos = rng.integers(0, 256, (batch, *wanted.shape[1:]), dtype=np.uint8)
    return {wanted.name: photos if wanted.type == "tensor(uint8)" else photos.astype(np.float32)}


def measure_latency(
    session: InferenceSession, *, runs: int = 30, warm_up: int = 5, batch: int = 1, seed: int = 0
) -> Latency:
    """Time `runs` runs on `batch` photos of noise, after `warm_up` that do not count."""
    feed = random_photos(session, np.random.default_rng(seed), batch)
    for _ in range(warm_up):
        session.run(None, feed)
    times = np.empty(runs)
    for index in range(runs):
        began = time.perf_counter()
        session.run(None, feed)
        times[index] = 1e3 * (time.perf_counter() - began)
    median = float(np.median(times))
    return Latency(median, float(np.median(np.abs(times - median))), runs)


def quick_latency_ms(session: InferenceSession) -> float:
    """Median latency of one photo in milliseconds, of 3 runs, 10 where one takes less than 50 ms.

    The session has run before.
    """
    median = measure_latency(session, runs=3, warm_up=0).median_ms
    return median if median >= 50 else measure_latency(session, runs=10, warm_up=0).median_ms


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports every import. Raises ExportError where it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_for_export("openvino", "'salnas[openvino]'")


def import_for_export(name: str, install: str = "onnx onnxruntime") -> Any:
    """A package that training does without. Raises ExportError, with what to `install`, where it is missing."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"Exports need the package {name}.",
            field="package",
            value=name,
            remedy=f"Install it: pip install {install}.",
        ) from error
