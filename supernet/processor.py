"""How a training uses the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
