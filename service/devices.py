"""Devices that users register: measurements in, predictors of latency and energy out, and the pack that measures one.

A registered device is a job: its measurements and its predictor are kept with it, so every worker that reaches the
store knows the device. It belongs to a space, not to weights, and never changes; to correct one, remove it.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.artifacts import Artifacts
from service.errors import AlreadyExists, IllegalTransition, NotFound
from service.estimates import Estimates, Predictor
from service.jobs import Job, JobKind, JobState
from service.ports import Bench, Benches, JobStore, Outcome, Session
from service.use_cases import idempotency_key
from supernet.errors import DeviceError
from supernet.space import Space

if TYPE_CHECKING:
    from predictors.devices import Registration
    from predictors.latency import LatencyPredictor

CSV = "csv"
PREDICTOR = "predictor"
ENERGY_PREDICTOR = "energy-predictor"
MOST_DEVICES = 200
"""Of one space; each is loaded by every worker."""

PACK_MODELS = 30


@dataclass(frozen=True)
class KnownDevice:
    """A device as users see it. `job` is None for one that was there from the start."""

    id: str
    runtime: str
    threads: int | None
    description: str
    supernets: tuple[str, ...]
    quality: Mapping[str, float] | None
    notes: tuple[str, ...] = ()
    job: Job | None = None
    energy_quality: Mapping[str, float] | None = None
    held_out: Mapping[str, list[float]] | None = None


class Devices:
    """What can be done with devices."""

    def __init__(
        self,
        store: JobStore,
        benches: Benches,
        artifacts: Artifacts,
        *,
        queue: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._benches = benches
        self._artifacts = artifacts
        self._queue = queue
        self._clock = clock

    def all(self) -> list[KnownDevice]:
        """The devices of all supernets, those that were there from the start first, then by name."""
        found: dict[str, KnownDevice] = {}
        for file in self._benches.files():
            bench = self._benches.get(file.id)
            for device in (
                *_given(bench),
                *(_registered(job) for job in device_jobs(self._store, bench.space)),
            ):
                known = found.get(device.id, device)
                found[device.id] = replace(known, supernets=(*known.supernets, file.id))
        return sorted(found.values(), key=lambda device: (device.job is not None, device.id))

    def get(self, name: str) -> KnownDevice:
        """Raises NotFound."""
        known = self.all()
        for device in known:
            if device.id == name:
                return device
        raise NotFound(
            f"There is no device {name[:80]!r}.",
            field="device",
            value=name[:80],
            remedy=f"There are: {', '.join(device.id for device in known)}." if known else None,
        )

    def register(
        self,
        registration: Registration,
        content: bytes,
        *,
        unit: str | None,
        supernet: str | None,
        key: str | None = None,
    ) -> KnownDevice:
        """Queue the fit of a predictor to the CSV in `content`; the same device again is found, not made.

        Raises DeviceError (the measurements, the name), AlreadyExists (the name is taken), QueueFull,
        IdempotencyMismatch.
        """
        from predictors.device_csv import read_measurements
        from predictors.devices import check_device_name

        bench = self._benches.get(supernet)
        check_device_name(registration.name)
        read_measurements(content, bench.space, unit=unit)
        if any(device.id == registration.name for device in _given(bench)):
            raise _taken(registration.name)
        request = {
            "supernet": bench.id,
            "space": bench.space.name,
            "space_fingerprint": bench.space.fingerprint,
            "unit": unit,
            "sha256": hashlib.sha256(content).hexdigest(),
            **asdict(registration),
        }
        job = Job(_job_id(bench.space, registration.name), JobKind.DEVICE, request, self._clock())
        named = idempotency_key(key, request)
        if named is not None and (found := self._store.find(job.kind, named)) is not None:
            return replace(_registered(found), supernets=(bench.id,))
        known = self._known(job.id)
        if known is not None and known.state in (JobState.FAILED, JobState.CANCELLED):
            self._store.remove(job.id)
            known = None
        if known is not None and known.request != request:
            raise _taken(registration.name)
        if known is None:
            self._require_room(bench.space)
            known, _ = self._store.add(job, key=named, blobs={CSV: content}, room=self._queue)
        return replace(_registered(known), supernets=(bench.id,))

    def remove(self, name: str) -> None:
        """Forget a registered device. Raises NotFound, IllegalTransition (it was there from the start)."""
        device = self.get(name)
        if device.job is None:
            raise IllegalTransition(
                f"Device {name} came with the supernet and cannot be removed.", field="device", value=name
            )
        self._store.remove(device.job.id)

    def pack(self, models: int, supernet: str | None) -> Job | None:
        """The job that makes, or has made, the pack of a space; None where there is none of use."""
        known = self._known(_pack_id(self._benches.get(supernet).space, models))
        return known if known is not None and self._is_usable(known) else None

    def begin_pack(self, models: int, supernet: str | None) -> Job:
        """The same, queued where there is none. Raises QueueFull."""
        known = self.pack(models, supernet)
        if known is not None:
            return known
        bench = self._benches.get(supernet)
        request = {"supernet": bench.id, "models": models}
        job = Job(_pack_id(bench.space, models), JobKind.PACK, request, self._clock())
        self._store.remove(job.id)
        try:
            return self._store.add(job, room=self._queue)[0]
        except AlreadyExists:  # another request was quicker
            return self._store.get(job.id)

    def pack_file(self, job: Job) -> Path:
        """The zip of a pack that has been made. Raises NotFound."""
        return self._artifacts.path(str(job.result["artifact"]))

    def _require_room(self, space: Space) -> None:
        if len(device_jobs(self._store, space)) >= MOST_DEVICES:
            raise DeviceError(
                f"There are {MOST_DEVICES} devices already.", field="device", remedy="Remove some first."
            )

    def _is_usable(self, job: Job) -> bool:
        if job.state is not JobState.SUCCEEDED:
            return not job.state.is_final
        try:
            self.pack_file(job)
        except NotFound:
            return False
        return True

    def _known(self, job_id: str) -> Job | None:
        try:
            return self._store.get(job_id)
        except NotFound:
            return None


class DeviceRunner:
    """Fits the predictor of a registered device."""

    def __init__(self, benches: Benches) -> None:
        self._benches = benches

    def run(self, session: Session) -> Outcome:
        """See `Runner.run`."""
        from predictors.device_csv import read_measurements
        from predictors.devices import Registration, list_devices, make_device

        request = session.job.request
        bench = self._benches.get(request["supernet"])
        content = session.blob(CSV) or b""
        measured = read_measurements(content, bench.space, unit=request["unit"])
        registration = Registration(**{name: request[name] for name in Registration.__dataclass_fields__})
        known = list_devices(bench.results / "predictors" / bench.id, bench.space)
        rng = np.random.default_rng(int(request["sha256"][:16], 16))
        device = make_device(bench.space, registration, measured, known, rng)
        result: dict[str, Any] = {
            "runtime": device.runtime,
            "threads": device.threads,
            "quality": device.predictor.quality.to_json(),
            "held_out": device.predictor.held_out_to_json(),
            "notes": list(device.details.get("notes", ())),
        }
        blobs = {PREDICTOR: _bytes_of(device.predictor)}
        if device.energy is not None:
            result["energy_quality"] = device.energy.quality.to_json()
            blobs[ENERGY_PREDICTOR] = _bytes_of(device.energy)
        return Outcome(result, complete=True, blobs=blobs)


class PackRunner:
    """Makes the pack that measures a device."""

    def __init__(self, benches: Benches, artifacts: Artifacts) -> None:
        self._benches = benches
        self._artifacts = artifacts

    def run(self, session: Session) -> Outcome:
        """See `Runner.run`."""
        from predictors.pack import pack_rows, write_pack
        from predictors.runtimes import exporter

        request = session.job.request
        bench = self._benches.get(request["supernet"])
        rows = pack_rows(bench.space, request["models"])
        with self._artifacts.incoming(".zip") as path:
            write_pack(bench.space, rows, exporter(bench.supernet), path)
            artifact = self._artifacts.keep(path)
        return Outcome({"artifact": artifact.name, "models": len(rows)}, complete=True, blobs={})


@dataclass(frozen=True, eq=False)
class _Known:
    """What a registered device adds: predictors, and measured values by column and subnet id."""

    latency: Predictor
    energy: Predictor | None
    measured: Mapping[str, Mapping[str, float]]


class RegisteredDevices:
    """The predictors of registered devices, loaded once each."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._loaded: dict[str, dict[tuple[str, str], _Known]] = {}

    def added_to(self, estimates: Estimates) -> Estimates:
        """The estimates with the registered devices of their space."""
        jobs = [job for job in device_jobs(self._store, estimates.space) if job.state is JobState.SUCCEEDED]
        self._forget(estimates.space, jobs)
        if not jobs:
            return estimates
        latency, energy, measured = dict(estimates.latency), dict(estimates.energy), dict(estimates.measured)
        for job in jobs:
            name = str(job.request["name"])
            known = self._load(job, estimates.space)
            latency[name] = known.latency
            if known.energy is not None:
                energy[name] = known.energy
            measured |= {f"{column}@{name}": values for column, values in known.measured.items()}
        return replace(estimates, latency=latency, energy=energy, measured=measured)

    def _load(self, job: Job, space: Space) -> _Known:
        from predictors.device_csv import read_measurements
        from predictors.devices import by_column
        from predictors.latency import load_latency

        key = _content(job)
        with self._lock:
            loaded = self._loaded.setdefault(space.fingerprint, {})
            if key not in loaded:
                with _file(self._store.blob(job.id, PREDICTOR) or b"", ".safetensors") as path:
                    latency = load_latency(path, space)
                energy = None
                if job.result.get("energy_quality") is not None:
                    with _file(self._store.blob(job.id, ENERGY_PREDICTOR) or b"", ".safetensors") as path:
                        energy = load_latency(path, space, "energy")
                content = self._store.blob(job.id, CSV) or b""
                try:
                    measured = by_column(read_measurements(content, space, unit=job.request["unit"]))
                except DeviceError:  # an older version took a file that is refused today
                    measured = {}
                loaded[key] = _Known(latency, energy, measured)
            return loaded[key]

    def _forget(self, space: Space, jobs: Sequence[Job]) -> None:
        """Let go of what was loaded for devices of a space that are gone."""
        there = {_content(job) for job in jobs}
        with self._lock:
            loaded = self._loaded.get(space.fingerprint, {})
            for key in loaded.keys() - there:
                del loaded[key]


def _content(job: Job) -> tuple[str, str]:
    """Names a device and what was measured of it."""
    return job.id, str(job.request["sha256"])


def device_jobs(store: JobStore, space: Space) -> list[Job]:
    """The devices registered for a space, in whatever state."""
    jobs = store.page(kind=JobKind.DEVICE, limit=5 * MOST_DEVICES)
    return [job for job in jobs if job.request["space_fingerprint"] == space.fingerprint]


def _given(bench: Bench) -> Iterator[KnownDevice]:
    for about in bench.devices():
        yield KnownDevice(
            id=about["name"],
            runtime=about["runtime"],
            threads=about["threads"],
            description=about["description"],
            supernets=(),
            quality=about["quality"],
            energy_quality=about["energy_quality"],
            held_out=about["held_out"],
        )


def _registered(job: Job) -> KnownDevice:
    return KnownDevice(
        id=str(job.request["name"]),
        runtime=str(job.result.get("runtime") or job.request["runtime"]),
        threads=job.result.get("threads") or job.request["threads"],
        description=str(job.request["description"]),
        supernets=(),
        quality=job.result.get("quality"),
        energy_quality=job.result.get("energy_quality"),
        held_out=job.result.get("held_out"),
        notes=tuple(job.result.get("notes", ())),
        job=job,
    )


def _job_id(space: Space, name: str) -> str:
    """Names differ by case too, and ids are short, so the name itself is not in it."""
    digest = hashlib.sha256(f"{space.fingerprint}/{name}".encode()).hexdigest()[:24]
    return f"device-{digest}"


def _pack_id(space: Space, models: int) -> str:
    return f"pack-{space.name}-{space.fingerprint}-{models}"


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"There is a device {name!r} already, with other measurements.",
        field="device",
        value=name,
        remedy="Choose another name, or remove the device first.",
    )


def _bytes_of(predictor: LatencyPredictor) -> bytes:
    with _file(None, ".safetensors") as path:
        predictor.save(path)
        return path.read_bytes()


@contextmanager
def _file(content: bytes | None, suffix: str) -> Iterator[Path]:
    """A temporary path, with that content if any."""
    with tempfile.TemporaryDirectory(prefix="salnas-device-") as folder:
        path = Path(folder) / f"device{suffix}"
        if content is not None:
            path.write_bytes(content)
        yield path
