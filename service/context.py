"""What the routes get at: the use cases and settings of one running service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from service.metrics import Metrics
from service.ports import Benches, JobStore
from service.settings import Settings
from service.use_cases import Exports, Searches, Subnets


@dataclass(frozen=True)
class Context:
    """Built once in `service.main`."""

    settings: Settings
    store: JobStore
    benches: Benches
    searches: Searches
    exports: Exports
    subnets: Subnets
    metrics: Metrics
    workers_alive: Callable[[], int]
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    predicting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(2))


def _context(request: Request) -> Context:
    return cast("Context", request.app.state.context)


Service = Annotated[Context, Depends(_context)]
