"""What the routes get at: the use cases and settings of one running service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer

from service.access import Access
from service.devices import Devices
from service.keys import Scope
from service.measurements import Measurements
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
    devices: Devices
    measurements: Measurements
    subnets: Subnets
    access: Access
    metrics: Metrics
    workers_alive: Callable[[], tuple[int, int]]
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    predicting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(2))


async def service_of(request: Request) -> Context:
    """The running service behind a request."""
    return cast("Context", request.app.state.context)


Service = Annotated[Context, Depends(service_of)]

_bearer = HTTPBearer(auto_error=False, description="An API key; demanded unless the service is on loopback.")


def _require(scope: Scope) -> Any:
    # Asynchronous, because a dependency that is not takes a thread, which costs more than it does.
    async def check(request: Request, service: Service, shown: Annotated[object, Depends(_bearer)]) -> None:
        if service.access.required:
            await run_in_threadpool(service.access.check, request.headers.get("authorization"), scope)

    return Depends(check)


READ = _require(Scope.READ)
SUBMIT = _require(Scope.SUBMIT)
