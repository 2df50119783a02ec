"""Subnets made ready to run: each runtime as a function from a subnet to one timed inference."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from predictors.timing import Prepare, Runner
from supernet.export import export_onnx
from supernet.network import Supernet, extract
from supernet.runtime import onnx_session
from supernet.space import Arch


def onnx_runtime(supernet: Supernet, threads: int) -> Prepare:
    """onnxruntime on the CPU with `threads` threads: each subnet is exported as users export it."""

    @contextmanager
    def prepared(arch: Arch) -> Iterator[Runner]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "subnet.onnx"
            export_onnx(extract(supernet, arch), path, metadata={})
            session = onnx_session(path, threads)
        yield one_inference(session)

    def prepare(arch: Arch) -> AbstractContextManager[Runner]:
        return prepared(arch)

    return prepare


def one_inference(session: Any) -> Runner:
    """A function that runs one photo of noise through an onnxruntime session and returns the milliseconds."""
    expected = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in expected.shape]
    rng = np.random.default_rng(0)
    if "uint8" in expected.type:
        photo: Any = rng.integers(0, 256, shape, dtype=np.uint8)
    else:
        photo = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    feed = {expected.name: photo}

    def run() -> float:
        began = time.perf_counter()
        session.run(None, feed)
        return 1e3 * (time.perf_counter() - began)

    return run


def describe_machine() -> dict[str, str]:
    """Processor and versions, for provenance; nothing that names the machine or its user."""
    import onnxruntime

    return {"processor": _processor(), "system": platform.system(), "onnxruntime": onnxruntime.__version__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
