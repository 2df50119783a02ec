"""How a training uses the processor, and which one."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator, contextmanager
from threading import Lock
from typing import Any

import torch

from supernet.errors import DeviceError

# Parameters of glibc's mallopt, and what they are unless somebody sets them.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_NEVER_RETURNED = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """So many threads of torch within, as many as before afterwards: the whole process shares them."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def training_threads(threads: int) -> Iterator[None]:
    """So many threads and no denormal numbers within, both as they were before afterwards.

    Squeezing gates and faded channels make denormal numbers, which slow a CPU down several times.
    """
    with torch_threads(threads):
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)


@contextmanager
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, each of which computes with one thread and without denormal numbers.

    Several networks side by side take less time than one after the other with all threads: small layers leave
    threads idle, and layers that are not parallel leave all but one. Whoever leaves early waits for no work that has
    not begun.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=_alone)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _alone() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def memory_is_set(environment: Mapping[str, str]) -> bool:
    """Whether somebody said there how glibc keeps memory: no call can read that back, to restore it."""
    return "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in environment
    )


class _KeptMemory(ContextDecorator):
    """See `kept_memory`; it may be entered again within, and by several threads."""

    def __init__(self) -> None:
        is_glibc = platform.libc_ver()[0] == "glibc"
        self._glibc = ctypes.CDLL(None) if is_glibc and not memory_is_set(os.environ) else None
        self._lock, self._entered = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._entered += 1
            if self._glibc and self._entered == 1:
                for parameter, value in _NEVER_RETURNED.items():
                    self._glibc.mallopt(parameter, value)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if self._glibc and self._entered == 0:
                for parameter, value in _DEFAULTS.items():
                    self._glibc.mallopt(parameter, value)
                self._glibc.malloc_trim(0)


kept_memory = _KeptMemory()
"""Keeps what is freed within for the tensors to come, and gives it back to the system afterwards.

glibc gives every large tensor back at once, and the system has to clear the pages of the next one, which takes a good
part of a step on large photos (`make bench-training`). With another C library nothing changes, nor where variables
say how memory is kept (`MALLOC_…`, `GLIBC_TUNABLES`).
"""


def chosen_device(name: str) -> torch.device:
    """The device called `name`, such as "cpu" or "cuda:1"; DeviceError where torch does not find it."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an assertion where torch was built without CUDA
        raise DeviceError(
            f"torch finds no device {name!r}: {str(error).splitlines()[0].rstrip('.')}.",
            field="device",
            value=name,
            remedy="Use cpu, or install a torch that was built for this GPU.",
        ) from error
    return device


def chosen_precision(wanted: str, device: str = "cpu") -> str:
    """`wanted`, or for "auto" bf16 where `device` computes in it and fp32 elsewhere.

    Without the instructions for it, bf16 on a CPU takes many times as long as fp32.
    """
    if wanted != "auto":
        return wanted
    if device == "cpu":
        backends: Any = torch.backends
        native = backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if platform.machine().lower() in ("x86_64", "amd64"):
            # There the library also supports what has AVX-512 alone, five times slower than fp32.
            cpu: Any = torch.cpu
            native = native and (cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
    else:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"
