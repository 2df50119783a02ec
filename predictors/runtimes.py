"""Subnets made ready to run: each runtime as a function from a subnet to one timed inference."""

from __future__ import annotations

import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from predictors.pack import Export
from predictors.timing import ON_CUDA, RUNTIMES, Prepare, Runner
from supernet.errors import DeviceError, ExportError
from supernet.export import Photos, Precision, export_onnx
from supernet.network import Supernet, extract
from supernet.onnx_graph import saliency_model
from supernet.runtime import CPU, CUDA, import_for_export, import_openvino, onnx_session, random_photos
from supernet.space import Arch

_TELLING = {
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
}


def runtime(name: str, supernet: Supernet, threads: int) -> Prepare:
    """The runtime called `name` with `threads` threads; DeviceError lists those there are."""
    if name == "onnxruntime":
        return onnx_runtime(supernet, threads)
    if name == "onnxruntime-int8":
        return onnx_runtime(supernet, threads, "int8")
    if name == ON_CUDA:
        return cuda_runtime(supernet)
    if name == "openvino":
        return openvino_runtime(supernet, threads)
    if name == "torch":
        return torch_runtime(supernet, threads)
    raise DeviceError(
        f"There is no runtime {name!r}.",
        field="runtime",
        value=name,
        remedy=f"Use one of {', '.join(RUNTIMES)}.",
    )


def onnx_runtime(
    supernet: Supernet, threads: int, precision: Precision = "fp32", provider: str = CPU
) -> Prepare:
    """onnxruntime: each subnet is exported as users export it, and checked against torch.

    On a GPU a photo's way there and its map's way back count.
    """

    @contextmanager
    def prepare(arch: Arch) -> Iterator[Runner]:
        photos = _noise(arch, 2) if precision == "int8" else None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "subnet.onnx"
            export_onnx(extract(supernet, arch), path, precision=precision, photos=photos)
            session = onnx_session(path, threads, provider)
        feed = random_photos(session, np.random.default_rng(0))
        yield lambda: _milliseconds(lambda: session.run(None, feed))

    return prepare


def cuda_runtime(supernet: Supernet) -> Prepare:
    """onnxruntime on the first NVIDIA GPU. Raises DeviceError where onnxruntime was built without CUDA."""
    onnxruntime = import_for_export("onnxruntime")
    if CUDA not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"onnxruntime {onnxruntime.__version__} was built without CUDA.",
            field="runtime",
            value=ON_CUDA,
            remedy="On a machine with an NVIDIA GPU: pip uninstall onnxruntime, then pip install onnxruntime-gpu.",
        )
    return onnx_runtime(supernet, 1, provider=CUDA)


def openvino_runtime(supernet: Supernet, threads: int) -> Prepare:
    """OpenVINO on the CPU, in single precision, tuned for the latency of one photo.

    Raises DeviceError where it is not installed.
    """
    try:
        openvino = import_openvino()
    except ExportError as error:
        raise DeviceError(
            "OpenVINO is not installed.", field="runtime", value="openvino", remedy=error.remedy
        ) from error
    core = openvino.Core()
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }

    @contextmanager
    def prepare(arch: Arch) -> Iterator[Runner]:
        model = saliency_model(extract(supernet, arch).eval()).SerializeToString()
        read = core.read_model(model)
        read.reshape([1, 3, *arch.resolution])
        request = core.compile_model(read, "CPU", hints).create_infer_request()
        photo = _noise(arch, 1)
        yield lambda: _milliseconds(lambda: request.infer([photo]))

    return prepare


def exporter(supernet: Supernet) -> Export:
    """Makes the ONNX model of a subnet, the one that users export; for `predictors.pack`."""
    return lambda arch: saliency_model(extract(supernet, arch).eval())


def torch_runtime(supernet: Supernet, threads: int) -> Prepare:
    """torch as it is, without any compilation."""

    @contextmanager
    def prepare(arch: Arch) -> Iterator[Runner]:
        net = extract(supernet, arch).eval()
        photo = torch.from_numpy(_noise(arch, 1)).float() / 127.5 - 1.0

        def run() -> float:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                with torch.inference_mode():
                    return _milliseconds(lambda: net(photo))
            finally:
                torch.set_num_threads(before)

        yield run

    return prepare


def describe_machine(runtime: str = "onnxruntime") -> dict[str, str]:
    """Processor and versions, for provenance; OpenVINO's, or the GPU, where it is the `runtime`; nothing that names
    the machine or its user.

    `instructions` are the vector instructions that runtimes choose their kernels by: processors of one name differ.
    """
    found = {
        "processor": _cpu_info("model name") or platform.processor() or platform.machine(),
        "instructions": " ".join(
            sorted(_TELLING & set((_cpu_info("flags") or _cpu_info("Features")).split()))
        ),
        "system": platform.system(),
        "onnxruntime": import_for_export("onnxruntime").__version__,
        "torch": version("torch").partition("+")[0],
    }
    if runtime == ON_CUDA:
        return found | {"gpu": _gpu()}
    return found | {"openvino": version("openvino")} if runtime == "openvino" else found


def _gpu() -> str:
    """What NVIDIA's driver says of the first GPU; empty without one."""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.partition("\n")[0].strip()


def _noise(arch: Arch, n: int) -> Photos:
    return np.random.default_rng(0).integers(0, 256, (n, 3, *arch.resolution), dtype=np.uint8)


def _milliseconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - began)


def _cpu_info(name: str) -> str:
    """What Linux says of the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
