"""Measurements that users ask for: subnets scored on photos and timed on this machine, as jobs.

What was measured is kept with the job subnet by subnet, so a worker that dies costs the last few of them. The values
stay with the job; no predictor learns from them.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import NotFound
from service.estimates import LATENCY, METRICS, Choice
from service.jobs import Job, JobKind, Progress
from service.ports import Benches, JobStore, Outcome, Session
from service.runner import MEASURED, restore_measured, saved_measured
from service.scratch import scratch
from service.use_cases import idempotency_key, new_id
from service.workbench import rows_of_ids
from supernet.errors import SettingsError

if TYPE_CHECKING:
    from search.measuring import Outcome as Measured

MOST_SUBNETS = 20
PHOTOS = 40


class Measurements:
    """Jobs that measure subnets."""

    def __init__(
        self,
        store: JobStore,
        benches: Benches,
        *,
        default_device: str,
        queue: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._benches = benches
        self._default_device = default_device
        self._queue = queue
        self._clock = clock

    def submit(
        self,
        archs: Sequence[Any],
        *,
        accuracy: bool = False,
        latency: bool = True,
        device: str | None = None,
        metric: str = "cc",
        photos: int = PHOTOS,
        supernet: str | None = None,
        key: str | None = None,
    ) -> tuple[Job, bool]:
        """Queue the measurement of subnets; one that is named twice is measured once.

        Returns the job and whether it is new. Raises InvalidArch, CheckpointError, SettingsError (nothing to
        measure), DeviceError (the device is unknown, or known by a user's numbers alone), QueueFull,
        IdempotencyMismatch.
        """
        bench = self._benches.get(supernet)
        request = {
            "supernet": bench.id,
            "subnets": list(dict.fromkeys(bench.space.id_of(bench.arch(arch)) for arch in archs)),
            "accuracy": accuracy,
            "latency": latency,
            "device": device or self._default_device,
            "metric": metric,
            "photos": photos,
        }
        if not _names(request):
            raise SettingsError(
                "There is nothing to measure.",
                field="latency",
                value=latency,
                remedy="Ask for accuracy, latency or both.",
            )
        bench.check_measurable(_names(request), _choice(request))
        job = Job(new_id("measurement", self._clock()), JobKind.MEASUREMENT, request, self._clock())
        return self._store.add(job, key=idempotency_key(key, request), room=self._queue)

    def get(self, measurement_id: str) -> Job:
        """Raises NotFound."""
        job = self._store.get(measurement_id)
        if job.kind is not JobKind.MEASUREMENT:
            shown = measurement_id[:80]
            raise NotFound(f"There is no measurement {shown!r}.", field="id", value=shown)
        return job


class MeasurementRunner:
    """Measures subnets on the machine of the worker."""

    def __init__(self, benches: Benches, *, work: Path | None = None) -> None:
        self._benches = benches
        self._work = work or Path(tempfile.gettempdir())

    def run(self, session: Session) -> Outcome:
        """See `Runner.run`."""
        request = session.job.request
        bench = self._benches.get(request["supernet"])
        rows = rows_of_ids(bench.space, request["subnets"])
        choice = _choice(request)
        with scratch(self._work, "salnas-measurement-") as directory:
            restore_measured(session, directory)
            began = time.perf_counter()

            def save(done: int, most: int) -> None:
                seconds = time.perf_counter() - began
                progress = Progress(
                    0, 0, len(rows), 0.0, seconds, done / most, seconds * (most - done) / done
                )
                session.report(progress, blobs=saved_measured(directory), saved=True)

            measured = bench.measure(
                rows,
                _names(request),
                choice,
                photos=request["photos"],
                directory=directory,
                on_measured=save,
                should_stop=session.should_stop,
            )
        if measured is None:
            return Outcome({}, complete=False, blobs={})
        described = bench.estimates.describe(rows, choice)
        subnets = [_result(subnet, measured, i) for i, subnet in enumerate(described)]
        return Outcome({"subnets": subnets}, complete=True, blobs={MEASURED: None})


def _names(request: Mapping[str, Any]) -> list[str]:
    """The columns that a request asks for."""
    return [name for name, wanted in (("accuracy", "accuracy"), (LATENCY, "latency")) if request[wanted]]


def _choice(request: Mapping[str, Any]) -> Choice:
    return Choice(request["metric"], request["device"])


def _result(described: Mapping[str, Any], measured: Measured, i: int) -> dict[str, Any]:
    """What was measured of subnet i beside what is predicted of it."""
    found = {name: _finite(column[i]) for name, column in measured.columns.items()}
    quantities = {
        name: {"predicted": None, "low": None, "high": None}
        | described.get(name, {})
        | {"measured": found.get(name)}
        for name in ("accuracy", LATENCY)
    }
    scores = {name: found[name] for name in METRICS} if "accuracy" in found else None
    return {"id": described["id"], **quantities, "scores": scores, "failure": measured.failures[i] or None}


def _finite(value: float) -> float | None:
    """JSON has no NaN, which stands for what could not be measured."""
    return float(value) if math.isfinite(value) else None
