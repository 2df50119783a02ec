"""Workers as processes of their own: started with the service, replaced when they die, ended with it.

They come in lanes. A search keeps a processor busy for seconds to hours; chores (exports, devices, packs,
measurements) are short and must not wait behind it. Neither runs in the process that answers requests, so that
answers stay quick.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from types import FrameType

from service.artifacts import Artifacts
from service.benches import WorkbenchShelf
from service.devices import DeviceRunner, PackRunner, RegisteredDevices
from service.islands import Islands, IslandsOnRay
from service.jobs import JobKind
from service.logs import set_up_logs
from service.measurements import MeasurementRunner
from service.ports import Benches, JobStore, Runner
from service.runner import ExportRunner, SearchRunner
from service.scratch import clear
from service.settings import Settings, variable
from service.standstill import end_at_standstill
from service.store.sql import open_store
from service.worker import Pace, Worker
from supernet.errors import SalnasError

log = logging.getLogger(__name__)

WORK = "work"
"""Folder, in that of the state, of jobs that run."""

_RESTART_SECONDS = 1.0
_LONGEST_RESTART_SECONDS = 30.0
_STEADY_SECONDS = 60.0
_ENDING_SECONDS = 20.0


class Lane(StrEnum):
    """What a worker takes."""

    SEARCHES = "searches"
    CHORES = "chores"


class WorkerProcess:
    """One worker in a process of its own, watched by a thread."""

    def __init__(self, settings: Settings, lane: Lane) -> None:
        self._lane = lane
        self._environment = environment_of(settings, lane)
        self._leaving = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="worker-watch", daemon=True)

    def start(self) -> None:
        """Start the process, and go on starting it whenever it dies."""
        self._process = self._spawn()
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Its process id, None where it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def dismiss(self) -> None:
        """Ask it to hand its job back and leave."""
        self._leaving.set()
        self._thread.join()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Wait for it to leave, which it was asked to; end it where it does not."""
        self.dismiss()
        process = self._process
        if process is None:
            return
        try:
            process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "service.processes", self._lane.value]
        return subprocess.Popen(
            command, env=self._environment, stdin=subprocess.PIPE, cwd=Path(__file__).resolve().parents[1]
        )

    def _watch(self) -> None:
        pause = _RESTART_SECONDS
        began = time.monotonic()
        while not self._leaving.wait(0.2):
            if self._process is None or self._process.poll() is None:
                continue
            if self._process.stdin is not None:
                self._process.stdin.close()
            pause = _RESTART_SECONDS if time.monotonic() - began > _STEADY_SECONDS else 2 * pause
            log.error(
                "a worker for %s died with status %s; it is replaced", self._lane, self._process.returncode
            )
            if self._leaving.wait(min(pause, _LONGEST_RESTART_SECONDS) / 2):
                return
            began = time.monotonic()
            self._process = self._spawn()


def environment_of(settings: Settings, lane: Lane) -> dict[str, str]:
    """What the process of a worker finds: the settings, and for searches a BLAS of one thread.

    Ray starts its processes by fork beside the search, and a fork ends the threads of OpenBLAS: what they were
    multiplying is then waited for without end. Predictions bring threads of their own.
    """
    alone = {"OPENBLAS_NUM_THREADS": "1"} if lane is Lane.SEARCHES else {}
    return {**os.environ, **as_environment(settings), **alone}


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, so that a process of its own reads the same."""
    return {variable(item.name): str(getattr(settings, item.name)) for item in fields(settings)}


def database_url(settings: Settings) -> str:
    """Where the jobs are."""
    return settings.database or f"sqlite:///{settings.state.absolute() / 'jobs.db'}"


def runners(
    lane: Lane,
    settings: Settings,
    benches: Benches,
    artifacts: Artifacts,
    islands: Islands | None = None,
) -> dict[JobKind, Runner]:
    """Who does the jobs of a lane; islands are computed here unless something else is given."""
    work = settings.state / WORK
    if lane is Lane.SEARCHES:
        return {JobKind.SEARCH: SearchRunner(benches, settings.save_seconds, islands, work=work)}
    return {
        JobKind.EXPORT: ExportRunner(benches, artifacts, Path(settings.photos) if settings.photos else None),
        JobKind.DEVICE: DeviceRunner(benches),
        JobKind.PACK: PackRunner(benches, artifacts),
        JobKind.MEASUREMENT: MeasurementRunner(benches, work=work),
    }


def clear_leftovers(settings: Settings, artifacts: Artifacts) -> None:
    """Remove what workers that were killed left on the disk."""
    clear(settings.state / WORK, "salnas-")
    artifacts.clear()


def open_benches(settings: Settings, store: JobStore) -> WorkbenchShelf:
    """The supernets at hand, with the devices registered in the store."""
    return WorkbenchShelf(
        settings.results,
        settings.supernet,
        cached_nets=settings.cached_nets,
        registered=RegisteredDevices(store),
    )


def main() -> None:
    """A worker: works until its standard input closes, which is when the service ends, or a signal."""
    settings = Settings.from_environment()
    lane = Lane(sys.argv[1])
    set_up_logs(settings.logs)
    end_at_standstill()
    leaving = threading.Event()

    def leave(number: int, frame: FrameType | None) -> None:
        leaving.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service passes an interrupt on by closing the pipe

    def follow_parent() -> None:
        os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer cannot be left at the end of the process
        leaving.set()

    threading.Thread(target=follow_parent, name="parent", daemon=True).start()
    store = open_store(database_url(settings))
    benches = open_benches(settings, store)
    islands = _islands_on_ray(settings, benches, leaving) if lane is Lane.SEARCHES else None
    artifacts = Artifacts(settings.state / "artifacts")
    clear_leftovers(settings, artifacts)
    jobs = runners(lane, settings, benches, artifacts, islands)
    if lane is Lane.CHORES:
        threading.Thread(target=_rehearse, args=(benches, artifacts), name="rehearsal", daemon=True).start()
    name = f"{socket.gethostname()}:{os.getpid()}:{lane}"
    try:
        Worker(store, jobs, name=name, pace=Pace(lease=settings.lease_seconds)).run(leaving)
    finally:
        store.close()
        if islands is not None and not islands.close():
            os._exit(0)  # Ray cannot be interrupted, and what it started leaves with this process


def _rehearse(benches: Benches, artifacts: Artifacts) -> None:
    """Load what the first export would wait for."""
    try:
        bench = benches.get()
        with artifacts.incoming(".onnx") as path:
            bench.export(bench.space.smallest(), path)
    except (SalnasError, OSError) as error:
        log.warning("exports could not be prepared: %s", error)


def _islands_on_ray(
    settings: Settings, benches: WorkbenchShelf, leaving: threading.Event
) -> IslandsOnRay | None:
    if settings.ray == "off":
        return None
    workers = max(1, (os.cpu_count() or 1) // settings.workers)
    islands = IslandsOnRay(leaving, workers=workers, devices=lambda: benches.get().estimates.devices)
    if settings.ray == "start":
        islands.begin()
    return islands


if __name__ == "__main__":
    main()
