"""What the routes get at: the use cases and settings of one running service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from service.access import Access
from service.devices import Devices
from service.gates import Gate
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
    streams: Gate
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    predictions: Gate = field(default_factory=lambda: Gate("predictions", places=2, waiting=30))
    fresh: Gate = field(default_factory=lambda: Gate("fresh searches", places=1, waiting=10))
    packs: Gate = field(default_factory=lambda: Gate("requests for packs", places=20))
    checking: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    """Threads of their own for keys, so that none waits for a request that is being answered."""


async def service_of(request: Request) -> Context:
    """The running service behind a request."""
    return cast("Context", request.app.state.context)


Service = Annotated[Context, Depends(service_of)]

_bearer = HTTPBearer(auto_error=False, description="An API key; demanded unless the service is on loopback.")


async def demand(request: Request, service: Context, scope: Scope) -> None:
    """Raises what `Access.check` raises where the key of a request does not allow this."""
    if service.access.required:
        header = request.headers.get("authorization")
        await to_thread.run_sync(service.access.check, header, scope, limiter=service.checking)


def _require(scope: Scope) -> Any:
    # Asynchronous, because a dependency that is not takes a thread, which costs more than it does.
    async def check(request: Request, service: Service, shown: Annotated[object, Depends(_bearer)]) -> None:
        await demand(request, service, scope)

    return Depends(check)


READ = _require(Scope.READ)
SUBMIT = _require(Scope.SUBMIT)
