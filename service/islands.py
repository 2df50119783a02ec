"""Where searches on islands are computed: in this process, or on Ray, which is started beside the work.

Starting Ray takes seconds, so nobody but a search on islands waits for it. Where Ray's head dies, calls into Ray hang
for a minute; so the head is watched, and without it the whole worker leaves, is replaced, and the next one goes on
from the last saved generation.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from search.executors import Executor, InProcess
from service.errors import Unavailable
from supernet.errors import SalnasError

if TYPE_CHECKING:
    from search.distributed import RayExecutor

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)

RAY_LOST = 75
"""Exit status of a worker that was stuck without Ray's head."""

_LOOK_EVERY = 0.5
_MISSES = 4
_RETRY_SECONDS = 5.0
_PATIENCE = 120.0
_GRACE = 5.0


class Islands(Protocol):
    """Gives out what islands are computed on."""

    def executor(self, should_stop: Callable[[], bool]) -> Executor | None:
        """An executor, waited for while it starts; None where `should_stop` came first. Raises Unavailable."""
        ...


class IslandsHere:
    """Islands in turn, in this process: the same fronts as anywhere else."""

    def executor(self, should_stop: Callable[[], bool]) -> Executor | None:
        """See `Islands.executor`."""
        return InProcess()


class IslandsOnRay:
    """Islands on a local Ray or, with RAY_ADDRESS, on a cluster; one executor for the life of this process."""

    def __init__(
        self, leaving: threading.Event, *, workers: int, devices: Callable[[], Sequence[str]]
    ) -> None:
        self._leaving = leaving
        self._workers = workers
        self._devices = devices
        self._ready = threading.Event()
        self._begun = threading.Lock()
        self._executor: RayExecutor | None = None
        self._guarded: Executor | None = None
        self._trouble = "It is still starting."

    def begin(self) -> None:
        """Start or join Ray in the background, where that is not under way yet."""
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._run, name="ray", daemon=True).start()

    def executor(self, should_stop: Callable[[], bool]) -> Executor | None:
        """See `Islands.executor`."""
        self.begin()
        deadline = time.monotonic() + _PATIENCE
        while not self._ready.wait(0.2):
            if should_stop():
                return None
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Ray does not answer, and islands are computed on it. {self._trouble}",
                    field="islands",
                    remedy="Resume the search when Ray is back, or search without islands.",
                )
        return self._guarded

    def close(self) -> bool:
        """End the local Ray, or leave the cluster; False where that is still being started or joined."""
        if self._executor is not None:
            self._executor.__exit__(None, None, None)
        return self._executor is not None or not self._begun.locked()

    def _run(self) -> None:
        from search.distributed import RayExecutor

        while not self._leaving.is_set():
            try:
                executor = RayExecutor(workers=self._workers, devices=self._devices()).__enter__()
            except SalnasError as error:
                self._trouble = str(error)
                log.warning("no Ray: %s", error)
                self._leaving.wait(_RETRY_SECONDS)
                continue
            self._executor = executor
            self._guarded = _Guarded(executor)
            self._ready.set()
            log.info("Ray is ready with %d workers", executor.workers)
            self._watch(executor.address)
            return

    def _watch(self, address: str) -> None:
        """Let this process end when the head is gone, in good order if it can."""
        misses = 0
        while misses < _MISSES:
            if self._leaving.wait(_LOOK_EVERY):
                return
            misses = 0 if is_listening(address) else misses + 1
        log.error("the head of Ray at %s is gone: this worker leaves", address)
        self._leaving.set()
        time.sleep(_GRACE)
        os._exit(RAY_LOST)


@dataclass(frozen=True)
class _Guarded:
    """An executor whose errors, where its head is gone, say that."""

    inner: RayExecutor

    @property
    def workers(self) -> int:
        """See `Executor.workers`."""
        return self.inner.workers

    def run(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str | None = None
    ) -> Iterator[tuple[int, R]]:
        """See `Executor.run`. Raises Unavailable."""
        address = self.inner.address
        try:
            yield from self.inner.run(function, tasks, device=device)
        except SalnasError:
            raise
        except Exception as error:
            if is_listening(address):
                raise
            raise Unavailable(f"The head of Ray at {address} is gone: {error}", field="islands") from error


def is_listening(address: str) -> bool:
    """Whether something accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except OSError:
        return False
    return True
