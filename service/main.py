"""Wires the service together and runs it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.access import Access
from service.artifacts import Artifacts
from service.benches import WorkbenchShelf
from service.context import READ, Context
from service.devices import Devices
from service.gates import Gate
from service.http import BodyLimit, RequestContext, add_error_handlers
from service.logs import set_up_logs
from service.measurements import Measurements
from service.metrics import Metrics
from service.patience import PatientProtocol
from service.ports import JobStore, Store
from service.processes import (
    Lane,
    WorkerProcess,
    clear_leftovers,
    database_url,
    open_benches,
    runners,
)
from service.routes import devices, exports, health, measurements, models, page, searches, subnets, supernets
from service.schemas import Problem
from service.settings import Settings
from service.store.sql import open_store
from service.trust import Guard, allowed_hosts
from service.upkeep import Upkeep
from service.use_cases import Exports, Limits, Searches, Subnets
from service.worker import Pace, Worker
from supernet.errors import SalnasError

log = logging.getLogger(__name__)

_STREAM_SECONDS = 5


def create_app(
    settings: Settings, *, store: Store | None = None, search_processes: int | None = None
) -> FastAPI:
    """The service as an ASGI application.

    `search_processes` is the number of search workers instead of `settings.workers`; with 0 searches run in a
    thread of this process, and only then a store that other processes cannot reach will do. Raises
    SettingsError, Unavailable.
    """
    processes = settings.workers if search_processes is None else search_processes
    jobs = store or open_store(database_url(settings))
    benches = open_benches(settings, jobs)
    artifacts = Artifacts(settings.state / "artifacts")
    crew = _Crew(settings, jobs, benches, artifacts, processes)
    searching = Searches(
        jobs,
        benches,
        default_supernet=settings.supernet,
        limits=Limits(settings.max_queue, settings.max_evaluations),
    )
    context = Context(
        settings=settings,
        store=jobs,
        benches=benches,
        searches=searching,
        exports=Exports(
            jobs, benches, artifacts, with_photos=bool(settings.photos), queue=settings.max_queue
        ),
        devices=Devices(jobs, benches, artifacts, queue=settings.max_queue),
        measurements=Measurements(jobs, benches, default_device=settings.device, queue=settings.max_queue),
        subnets=Subnets(searching, benches),
        access=Access(jobs, required=settings.needs_keys, rate=settings.rate, burst=4 * settings.rate),
        metrics=Metrics(),
        workers_alive=crew.alive,
        streams=Gate("streams of events", places=settings.max_streams),
    )

    upkeep = Upkeep(
        jobs,
        artifacts,
        days=settings.keep_days,
        most_bytes=settings.max_export_bytes,
        kept=frozenset({searching.default_id}),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        clear_leftovers(settings, artifacts)
        crew.start()
        await asyncio.to_thread(_attempt, "default front", lambda: _ensure_default(context, benches))
        crew.begin(lambda leaving: _attempt("preparation", lambda: _warm_up(benches)))
        crew.begin(upkeep.run)
        yield
        context.leaving.set()
        await asyncio.to_thread(crew.stop)
        if store is None:
            jobs.close()

    app = FastAPI(
        title="SalNAS",
        summary="Search for the best saliency network under a budget, and take it home.",
        version="1",
        lifespan=lifespan,
        responses={422: {"model": Problem, "description": "The request cannot be done."}},
    )
    app.state.context = context
    for module in (searches, subnets, exports, measurements, devices, supernets, models, health):
        app.include_router(module.router)
    app.include_router(page.router, dependencies=[READ])
    add_error_handlers(app)
    app.add_middleware(
        BodyLimit,
        limit=settings.max_body_bytes,
        limits={subnets.PREDICTIONS: settings.max_photo_bytes, devices.DEVICES: devices.MOST_BYTES},
    )
    app.add_middleware(Guard, hosts=allowed_hosts(settings.hosts, loopback=settings.is_local))
    app.add_middleware(RequestContext, metrics=context.metrics)
    return app


def serve(settings: Settings) -> None:
    """Run the service until it is told to end. Raises SettingsError, Unavailable."""
    set_up_logs(settings.logs)
    app = create_app(settings)
    if settings.needs_keys and not app.state.context.access.any_key():
        log.warning("no API key is in force, so nobody can get in: make one with `salnas keys add NAME`")
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=PatientProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_STREAM_SECONDS,
    )
    _Server(config, app.state.context.leaving).run()


class _Server(uvicorn.Server):
    """Ends the streams of events as soon as it is told to end, so that they do not hold it up."""

    def __init__(self, config: uvicorn.Config, leaving: asyncio.Event) -> None:
        super().__init__(config)
        self._streams_leaving = leaving

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self._streams_leaving.set()
        super().handle_exit(sig, frame)


class _Crew:
    """The workers of a service: processes, or, for none, threads."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        benches: WorkbenchShelf,
        artifacts: Artifacts,
        searching: int,
    ) -> None:
        self._leaving = threading.Event()
        lanes = [*[Lane.SEARCHES] * searching, Lane.CHORES] if searching else []
        self._processes = [WorkerProcess(settings, lane) for lane in lanes]
        pace = Pace(lease=settings.lease_seconds)
        workers = [
            Worker(store, runners(lane, settings, benches, artifacts), name=lane, pace=pace)
            for lane in ([] if searching else Lane)
        ]
        self._threads = [
            threading.Thread(target=worker.run, args=(self._leaving,), name="worker", daemon=True)
            for worker in workers
        ]
        self._size = len(lanes) + len(workers)

    def start(self) -> None:
        """Start all of them."""
        for process in self._processes:
            process.start()
        for thread in self._threads:
            thread.start()

    def begin(self, work: Callable[[threading.Event], None]) -> None:
        """Do something in the background, which ends by itself or when the event that it is given is set."""
        thread = threading.Thread(target=work, args=(self._leaving,), name="background", daemon=True)
        thread.start()
        self._threads.append(thread)

    def alive(self) -> tuple[int, int]:
        """How many workers live, and how many should."""
        dead = sum(process.pid is None for process in self._processes)
        return self._size - dead, self._size

    def stop(self) -> None:
        """Hand running jobs back and end."""
        self._leaving.set()
        for process in self._processes:
            process.dismiss()
        for process in self._processes:
            process.stop()
        for thread in self._threads:
            thread.join()


def _ensure_default(context: Context, shelf: WorkbenchShelf) -> None:
    context.searches.ensure_default(context.settings.results / "fronts", shelf.fingerprint())


def _warm_up(shelf: WorkbenchShelf) -> None:
    """Load what the first request would wait for."""
    bench = shelf.get()
    bench.describe(bench.space.largest())


def _attempt(what: str, work: Callable[[], None]) -> None:
    """A service that lacks something starts all the same, and says what it lacks."""
    try:
        work()
    except SalnasError as error:
        log.warning("%s: %s", what, error)
    except Exception:
        log.exception("%s failed", what)
