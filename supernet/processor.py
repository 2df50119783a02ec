"""How a training uses the processor."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def training_threads(threads: int) -> Iterator[None]:
    """So many threads and no denormal numbers within, both as they were before afterwards.

    Squeezing gates and faded channels make denormal numbers, which slow a CPU down several times.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        # Both belong to the whole process, whose other work needs them as they were.
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


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
