"""One thread for BLAS while subnets are scored, whatever the process has.

Sums that OpenBLAS splits among threads are rounded in another order, and a front that depends on the number of
threads cannot be found again. It is no loss either: matrices of a few hundred rows are multiplied in less time than
it takes to wake a second thread, and far less where another process holds the core that it waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which has to be known below)
from threadpoolctl import ThreadpoolController


class _Limit:
    """Counts who is inside: limits belong to the process, so the first sets them and the last restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._limiter = _blas().limit(limits=1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limiter.restore_original_limits()


_LIMIT = _Limit()


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it numpy and scipy multiply on one thread; others that are inside at the same time do, too."""
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
