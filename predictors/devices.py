"""Devices on which latency is known: where it was measured, and the predictor fitted to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predictors.latency import LatencyPredictor, load_latency
from supernet.errors import DeviceError
from supernet.space import Space

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX = "latency-"
_SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Device:
    """A machine and a runtime, with a predictor of latency on it.

    table is the path of its measurements, None where only the predictor is at hand.
    """

    name: str
    predictor: LatencyPredictor
    runtime: str = ""
    threads: int | None = None
    description: str = ""
    table: Path | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


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


def list_devices(folder: Path, space: Space) -> list[Device]:
    """All devices with a predictor in `folder`, by name. PredictorError names one that is damaged."""
    names = (path.name[len(_PREFIX) : -len(_SUFFIX)] for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")))
    return [load_device(folder, name, space) for name in names]


def load_device(folder: Path, name: str, space: Space) -> Device:
    """One device of `folder`; DeviceError lists those there are."""
    path = predictor_path(folder, name)
    if not path.is_file():
        known = sorted(p.name[len(_PREFIX) : -len(_SUFFIX)] for p in folder.glob(f"{_PREFIX}*{_SUFFIX}"))
        there = f"There are: {', '.join(known)}." if known else "There is none yet: `make predictors`."
        raise DeviceError(f"There is no device {name!r}.", field="device", value=name, remedy=there)
    predictor = load_latency(path, space)
    about = dict(predictor.provenance.get("device", {}))
    table = table_path(folder, name)
    return Device(
        name,
        predictor,
        runtime=str(about.pop("runtime", "")),
        threads=about.pop("threads", None),
        description=str(about.pop("description", "")),
        table=table if table.is_file() else None,
        details=about,
    )
