"""One thread for BLAS while subnets are scored or predictors are fitted, whatever the process has.

Sums that OpenBLAS splits among threads are rounded in another order, and a front that depends on the number of
threads cannot be found again. It is no loss either: matrices of a few hundred rows are multiplied in less time than
it takes to wake a second thread, and far less where another process, or scipy's own threads beside numpy's, hold the
core that it waits for: a report took four times as long on two threads as on one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Task = TypeVar("Task")
Result = TypeVar("Result")


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
    import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which has to be known below)

    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it numpy and scipy multiply on one thread; others that are inside at the same time do, too."""
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()


def in_threads(run: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """`run` of every task in their order: on all cores, each with a BLAS of one thread, where there are several."""
    if len(tasks) < 2:
        return [run(task) for task in tasks]
    with one_blas_thread(), ThreadPoolExecutor(min(len(tasks), os.cpu_count() or 1)) as pool:
        return list(pool.map(run, tasks))
