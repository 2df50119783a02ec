"""Devices on which latency is known, and perhaps energy: where it was measured, and the predictors fitted to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.device_csv import FEWEST, Measurements, read_measurements
from predictors.latency import LatencyPredictor, load_latency
from predictors.tables import read_table
from predictors.timing import RUNTIMES
from predictors.transfer import transfer_latency
from supernet.cost import cost
from supernet.errors import DeviceError
from supernet.files import write_atomic
from supernet.space import Space

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX = "latency-"
_ENERGY_PREFIX = "energy-"
_SUFFIX = ".safetensors"

_LEAST_RANK = 0.3
"""Rank correlation under which measurements are of something else than the subnets."""

_OTHER_UNIT = 100.0
"""Factor from a proportion to the next unit; no disturbance reaches it."""

_FAR = 6.0
"""Deviations, of a normal distribution of the usual width, from which on a measurement was disturbed."""


@dataclass(frozen=True, eq=False)
class Device:
    """A machine and a runtime, with a predictor of latency on it, and one of energy where that was measured.

    table is the path of its measurements, None where only the predictor is at hand.
    """

    name: str
    predictor: LatencyPredictor
    runtime: str = ""
    threads: int | None = None
    description: str = ""
    table: Path | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    energy: LatencyPredictor | None = None


def check_device_name(name: str) -> str:
    """`name` where it can be part of a file name; DeviceError otherwise."""
    if _NAME.fullmatch(name) is None:
        raise DeviceError(
            f"A device cannot be called {name[:80]!r}.",
            field="device",
            value=name[:80],
            remedy="Use up to 64 letters, digits, dots, hyphens and underscores.",
        )
    return name


def table_path(folder: Path, device: str) -> Path:
    """Where the measurements of a device lie."""
    return folder / f"{_PREFIX}{check_device_name(device)}.parquet"


def predictor_path(folder: Path, device: str) -> Path:
    """Where the predictor of a device lies."""
    return folder / f"{_PREFIX}{check_device_name(device)}{_SUFFIX}"


def energy_path(folder: Path, device: str) -> Path:
    """Where the predictor of the energy on a device lies, if there is one."""
    return folder / f"{_ENERGY_PREFIX}{check_device_name(device)}{_SUFFIX}"


def list_devices(folder: Path, space: Space) -> list[Device]:
    """All devices with a predictor in `folder`, by name. PredictorError names one that is damaged."""
    return [load_device(folder, name, space) for name in _names(folder)]


def _names(folder: Path) -> list[str]:
    return sorted(path.name[len(_PREFIX) : -len(_SUFFIX)] for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"))


def load_device(folder: Path, name: str, space: Space) -> Device:
    """One device of `folder`; DeviceError lists those there are."""
    path = predictor_path(folder, name)
    if not path.is_file():
        known = ", ".join(_names(folder))
        there = f"There are: {known}." if known else "There is none yet: `make predictors`."
        raise DeviceError(f"There is no device {name!r}.", field="device", value=name, remedy=there)
    predictor = load_latency(path, space)
    energy = energy_path(folder, name)
    about = dict(predictor.provenance.get("device", {}))
    tables = (table_path(folder, name), folder / f"{_PREFIX}{name}.csv")
    runtime, threads = str(about.pop("runtime", "")), about.pop("threads", None)
    return Device(
        name,
        predictor,
        runtime=runtime,
        threads=threads,
        description=str(about.pop("description", "")) or _machine(about, runtime, threads),
        table=next((path for path in tables if path.is_file()), None),
        details=about,
        energy=load_latency(energy, space, "energy") if energy.is_file() else None,
    )


def _machine(about: Mapping[str, Any], runtime: str, threads: int | None) -> str:
    """Processor, or GPU, threads and runtime in one line, as far as they are known."""
    count = f"{threads} thread{'s' if threads > 1 else ''}" if threads else ""
    version = about.get(runtime.partition("-")[0], "")
    computes = about.get("gpu") or about.get("processor", "")
    return ", ".join(filter(None, [computes, count, f"{runtime} {version}".strip()]))


def how_timed(device: Device) -> tuple[str, int, float]:
    """Runtime and threads of a device that this program timed, and the latency of the smallest subnet there in ms.

    Raises DeviceError for a device that is known by a user's numbers alone.
    """
    reference = device.predictor.provenance.get("reference_ms")
    if reference is None or device.runtime not in RUNTIMES or device.threads is None:
        raise DeviceError(
            f"Subnets cannot be timed on {device.name} from here.",
            field="device",
            value=device.name,
            remedy="Search for its latency without verification, measure subnets there, and register it again.",
        )
    return device.runtime, device.threads, float(reference)


def measured_on(device: Device, space: Space) -> dict[str, dict[str, float]]:
    """What was measured on a device, by column (latency_ms, energy_mj) and subnet id; nothing without a table."""
    if device.table is None:
        return {}
    if device.table.suffix == ".parquet":
        table = read_table(device.table)
        return {"latency_ms": dict(zip(table.ids, table.column("latency_ms").tolist(), strict=True))}
    return by_column(read_measurements(device.table, space, unit="ms"))


def by_column(measured: Measurements) -> dict[str, dict[str, float]]:
    """The values of measurements by column and subnet id; energy only where it was measured."""
    found = {"latency_ms": dict(zip(measured.ids, measured.latency_ms.tolist(), strict=True))}
    if measured.energy_mj is not None:
        energies = zip(measured.ids, measured.energy_mj.tolist(), strict=True)
        found["energy_mj"] = {identity: value for identity, value in energies if math.isfinite(value)}
    return found


@dataclass(frozen=True)
class Registration:
    """What a user says of a device."""

    name: str
    runtime: str = ""
    threads: int | None = None
    description: str = ""


def make_device(
    space: Space,
    registration: Registration,
    measured: Measurements,
    known: Sequence[Device],
    rng: np.random.Generator,
) -> Device:
    """A device from a user's measurements, its predictor transferred from the best of the `known` ones.

    Single measurements that are far off are left out (at most one in ten). Raises DeviceError where latencies do not
    go with the subnets, and where some are in another unit than the others.
    """
    name = check_device_name(registration.name)
    if registration.threads is not None and registration.threads < 1:
        raise DeviceError(
            f"A device has {registration.threads} threads.",
            field="threads",
            value=registration.threads,
            remedy="It is at least 1, or left out.",
        )
    if None not in (registration.threads, measured.threads) and registration.threads != measured.threads:
        raise DeviceError(
            f"The file was measured with {measured.threads} threads, not {registration.threads}.",
            field="threads",
            value=registration.threads,
            remedy="Leave the number out, or measure with as many.",
        )
    threads = registration.threads or measured.threads
    keep, notes = _plausible(space, measured, known)
    rows, latency_ms = measured.rows[keep], measured.latency_ms[keep]
    runtime, description = (
        (registration.runtime or measured.runtime)[:200],
        registration.description[:2000],
    )
    details = {"notes": [*measured.notes, *notes]}
    about = {"runtime": runtime, "threads": threads, "description": description, **details}
    provenance = {"device": about, "subnets": len(rows)}
    starts = {
        device.name: device.predictor
        for device in known
        if device.name != name and not _shares(device, measured, space)
    }
    predictor = transfer_latency(space, starts, rows, latency_ms, rng, provenance=provenance)
    if predictor.quality.spearman < _LEAST_RANK:
        raise DeviceError(
            f"The latencies do not go with the subnets: held-out rank correlation {predictor.quality.spearman:.2f}.",
            field="latency_ms",
            value=round(predictor.quality.spearman, 3),
            remedy="Check that each latency stands beside its own id, and that nothing else ran on the device.",
        )
    energy = _learn_energy(space, name, measured, keep, predictor, rng)
    return Device(name, predictor, runtime, threads, description, details=details, energy=energy)


def _shares(device: Device, measured: Measurements, space: Space) -> bool:
    """Whether a device was fitted to these very measurements, or most of them: nothing would be held out then."""
    known = measured_on(device, space).get("latency_ms", {})
    pairs = zip(measured.ids, measured.latency_ms.tolist(), strict=True)
    equal = [known[identity] == latency_ms for identity, latency_ms in pairs if identity in known]
    return bool(2 * sum(equal) > len(equal))


def _learn_energy(
    space: Space,
    name: str,
    measured: Measurements,
    keep: NDArray[np.bool_],
    latency: LatencyPredictor,
    rng: np.random.Generator,
) -> LatencyPredictor | None:
    """A predictor of energy, starting from the device's own latency; None where too little was measured."""
    if measured.energy_mj is None:
        return None
    known = keep & np.isfinite(measured.energy_mj)
    if known.sum() < FEWEST:
        return None
    rows, energy_mj = measured.rows[known], measured.energy_mj[known]
    found = transfer_latency(space, {name: latency}, rows, energy_mj, rng, quantity="energy")
    if found.quality.spearman < _LEAST_RANK:
        raise DeviceError(
            f"The energies do not go with the subnets: held-out rank correlation {found.quality.spearman:.2f}.",
            field="energy_mj",
            value=round(found.quality.spearman, 3),
            remedy="Measure each subnet for longer, or remove the column.",
        )
    return found


def save_device(folder: Path, device: Device, measured: Measurements) -> Device:
    """Keep a device: its measurements as CSV and its predictors. One of that name is replaced."""
    table = folder / f"{_PREFIX}{device.name}.csv"
    columns = by_column(measured)
    lines = (
        ",".join(
            [identity, *(repr(values[identity]) if identity in values else "" for values in columns.values())]
        )
        for identity in measured.ids
    )
    write_atomic(table, "\n".join([",".join(["id", *columns]), *lines, ""]))
    energy = energy_path(folder, device.name)
    if device.energy is not None:
        device.energy.save(energy)
    else:
        energy.unlink(missing_ok=True)
    device.predictor.save(predictor_path(folder, device.name))
    return replace(device, table=table)


def remove_device(folder: Path, name: str, space: Space) -> None:
    """Forget a device that was learnt from a user's measurements. DeviceError for one that was timed here."""
    device = load_device(folder, name, space)
    if device.table is not None and device.table.suffix == ".parquet":
        raise DeviceError(
            f"The device {name} was timed by this program, subnet by subnet.",
            field="device",
            value=name,
            remedy=f"If it is to go nevertheless, remove {device.table} and {predictor_path(folder, name)}.",
        )
    for path in (predictor_path(folder, name), energy_path(folder, name), device.table):
        if path is not None:
            path.unlink(missing_ok=True)


def _plausible(
    space: Space, measured: Measurements, known: Sequence[Device]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which measurements to keep, by comparison with a known device (with macs where there is none)."""
    expected = (
        known[0].predictor.model(measured.rows) if known else cost(space, measured.rows).macs.astype(float)
    )
    ratio = np.log(measured.latency_ms / expected)
    off = np.abs(ratio - np.median(ratio))
    wrong = np.flatnonzero(off > np.log(_OTHER_UNIT))
    if len(wrong):
        first = int(wrong[0])
        raise DeviceError(
            f"{measured.ids[first]} took {measured.latency_ms[first]:g} ms, out of all proportion to the others.",
            field=measured.ids[first],
            value=float(measured.latency_ms[first]),
            remedy="Give all latencies in one unit, and measure again what was disturbed.",
        )
    usual = 1.4826 * float(np.median(off))
    far = off > max(_FAR * usual, np.log(1.5))
    if far.sum() > len(measured) // 10 or len(measured) - far.sum() < FEWEST:
        far[:] = False
    names = ", ".join(np.array(measured.ids)[far])
    return ~far, [f"Left out as disturbed: {names}."] if far.any() else []
