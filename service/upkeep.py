"""Keeps the service from filling its disk: old jobs and exported files go, by age, and files by their sum."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.artifacts import Artifacts
from service.jobs import JobKind
from service.ports import JobStore
from supernet.errors import SalnasError

log = logging.getLogger(__name__)

_DAY = 86_400.0
_EVERY = 3600.0
_FORGOTTEN = (JobKind.SEARCH, JobKind.EXPORT, JobKind.PACK, JobKind.MEASUREMENT)
"""Kinds of jobs that are forgotten; registered devices stay."""


@dataclass(frozen=True)
class Upkeep:
    """Forgets jobs that ended `days` ago, and files of that age; keeps files below `most_bytes` in sum."""

    store: JobStore
    artifacts: Artifacts
    days: float
    most_bytes: int
    kept: frozenset[str] = frozenset()
    """Ids of jobs that stay whatever their age."""

    clock: Callable[[], float] = time.time

    def run(self, leaving: threading.Event) -> None:
        """Tidy now and then until `leaving` is set."""
        while True:
            try:
                self.tidy()
            except (SalnasError, OSError) as error:
                log.warning("upkeep failed: %s", error)
            if leaving.wait(_EVERY):
                return

    def tidy(self) -> None:
        """Tidy once."""
        before = self.clock() - self.days * _DAY
        forgotten = [name for name in self.store.ended(_FORGOTTEN, before) if name not in self.kept]
        for name in forgotten:
            self.store.remove(name)
        removed = self.artifacts.tidy(before, self.most_bytes)
        if forgotten or removed:
            log.info("upkeep: %d jobs and %d files removed", len(forgotten), removed)
