"""Where work is done: the same interface for this process and for workers elsewhere (`search.distributed`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from supernet.errors import SalnasError

T = TypeVar("T")
R = TypeVar("R")


class WorkerLost(SalnasError):
    """A task whose worker died again and again; `index` is its place among the tasks of the call."""

    kind = "worker-lost"

    def __init__(self, message: str, *, index: int = 0, **about: Any) -> None:
        super().__init__(message, **about)
        self.index = index


class Executor(Protocol):
    """Applies a function to many tasks."""

    @property
    def workers(self) -> int:
        """How many tasks run at the same time."""
        ...

    def run(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str | None = None
    ) -> Iterator[tuple[int, R]]:
        """Yield the place of a task and its result as soon as it is done, in any order.

        The function depends on nothing but its task, so a task whose worker died is repeated elsewhere. With
        `device` a task runs only where that device is, and nothing else is timed on that machine meanwhile.
        Raises what the function raises, WorkerLost, and SettingsError where no machine has the device. Closing
        the iterator drops the tasks that wait.
        """
        ...


class InProcess:
    """One task after the other, here; every device that can be measured in this process is at hand."""

    workers = 1

    def run(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str | None = None
    ) -> Iterator[tuple[int, R]]:
        """See `Executor.run`."""
        for index, task in enumerate(tasks):
            yield index, function(task)
