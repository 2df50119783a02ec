"""Whether the service lives, is ready, and how it fares."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Response

from service.context import READ, Context, Service
from service.errors import NotFound
from service.jobs import JobState
from service.metrics import CONTENT_TYPE, Gauge
from service.routes.problems import PROBLEMS
from service.schemas import Health
from supernet.errors import SalnasError

router = APIRouter(tags=["health"], responses={403: PROBLEMS[403]})


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="alive")


@router.get("/readyz", responses={503: {"model": Health, "description": "A part is not ready."}})
def readyz(service: Service, response: Response) -> Health:
    """Database, supernet and workers are ready; `default_front` tells of it without being required."""
    required = {
        "database": _outcome(service.store.check),
        "supernet": _outcome(lambda: service.benches.get().estimates),
        "workers": _workers(service),
    }
    ready = all(outcome == "ready" for outcome in required.values()) and not service.leaving.is_set()
    response.status_code = 200 if ready else 503
    checks = {**required, "default_front": _default_front(service)}
    return Health(status="ready" if ready else "not ready", checks=checks)


@router.get("/metrics", dependencies=[READ], responses={**PROBLEMS, 200: {"content": {"text/plain": {}}}})
def read_metrics(service: Service) -> Response:
    """Requests, jobs and workers in the text format of Prometheus."""
    counts = service.store.counts()
    now = time.time()
    alive, wanted = service.workers_alive()
    waiting = [count.oldest for count in counts if count.state is JobState.QUEUED]
    gauges = [
        Gauge(
            "salnas_jobs",
            "Jobs by kind and state.",
            [({"kind": c.kind.value, "state": c.state.value}, c.jobs) for c in counts],
        ),
        Gauge(
            "salnas_oldest_waiting_seconds",
            "Age of the oldest job that waits.",
            [({}, max((now - created for created in waiting), default=0.0))],
        ),
        Gauge("salnas_workers", "Workers alive.", [({}, alive)]),
        Gauge("salnas_workers_wanted", "Workers that should be alive.", [({}, wanted)]),
        Gauge(
            "salnas_queue_limit",
            "Searches that may wait before others are refused.",
            [({}, service.settings.max_queue)],
        ),
        Gauge(
            "salnas_disk_free_bytes",
            "Room where searches and exports are kept.",
            [({}, _free_bytes(service.settings.state))],
        ),
    ]
    return Response(service.metrics.text(gauges), media_type=CONTENT_TYPE)


def _free_bytes(folder: Path) -> int:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _outcome(check: Callable[[], object]) -> str:
    try:
        check()
    except SalnasError as error:
        return str(error)
    return "ready"


def _workers(service: Context) -> str:
    alive, wanted = service.workers_alive()
    return "ready" if alive == wanted else f"{alive} of {wanted} alive"


def _default_front(service: Context) -> str:
    try:
        return service.searches.get("default").state.value
    except NotFound:
        return "none"
    except SalnasError as error:
        return str(error)
