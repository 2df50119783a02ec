"""Memory that a subnet takes on onnxruntime, measured: what loading it adds to a process, and running it on top.

`supernet.cost` counts activations exactly; a runtime adds workspaces and layouts of its own, and frees when it likes.
Each subnet is measured in a process of its own, without onnxruntime's arena and with an allocator that gives large
blocks back at once, so that the peak is what was alive and not what was kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from supernet.errors import DeviceError

_SCRIPT = """
import json, re, sys
import numpy, onnxruntime

def memory(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

options = onnxruntime.SessionOptions()
options.enable_cpu_mem_arena = False
options.enable_mem_pattern = False
options.intra_op_num_threads = int(sys.argv[2])
before = memory("VmRSS")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
loaded = memory("VmRSS")
wanted = session.get_inputs()[0]
photo = numpy.zeros([1, *wanted.shape[1:]], numpy.uint8 if "uint8" in wanted.type else numpy.float32)
with open("/proc/self/clear_refs", "w") as stream:
    stream.write("5")  # the peak begins anew
start = memory("VmRSS")
session.run(None, {wanted.name: photo})
print(json.dumps({"weights": loaded - before, "activations": memory("VmHWM") - start}))
"""
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
_PATIENCE = 120.0


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that loading a model adds to a process, and that its first photo adds at the peak."""

    weights: int
    activations: int


def measure_memory(model: bytes, *, threads: int = 1) -> MemoryUse:
    """Memory of the ONNX `model` for one photo. Raises DeviceError where the system does not tell (not Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subnet.onnx"
        path.write_bytes(model)
        command = [sys.executable, "-c", _SCRIPT, str(path), str(threads)]
        try:
            done = subprocess.run(
                command,
                env=os.environ | _ENVIRONMENT,
                capture_output=True,
                text=True,
                check=True,
                timeout=_PATIENCE,
            )
            return MemoryUse(**json.loads(done.stdout))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            told = getattr(error, "stderr", "") or str(error)
            raise DeviceError(
                f"The memory of a subnet cannot be measured here: {told.strip()[-300:]}",
                field="memory",
                value=sys.platform,
                remedy="It takes Linux with /proc; the activation memory of `salnas describe` is exact anywhere.",
            ) from error
