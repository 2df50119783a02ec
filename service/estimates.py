"""What is known of subnets without running them: exact costs, predicted accuracy, latency and energy, as columns.

Notation: rows (n, d) genotypes; a column is (n,) float64, one value a subnet. Column names are those of
objectives and constraints: macs, parameters, memory_bytes, accuracy (by the chosen metric), cc, nss, sim, auc,
kld, latency_ms and energy_mj (of the chosen device), latency_ms@DEVICE and energy_mj@DEVICE.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.supernets import SupernetFile
from supernet.cost import Costs, cost
from supernet.errors import DeviceError, PredictorError, SalnasError
from supernet.space import Rows, Space

COSTS = ("macs", "parameters", "memory_bytes")
ACCURACY_PREDICTOR = "accuracy.safetensors"
ACCURACY_TABLE = "accuracy.parquet"
METRICS = ("cc", "nss", "sim", "auc", "kld")
LATENCY = "latency_ms"
ENERGY = "energy_mj"
ON_DEVICE = (LATENCY, ENERGY)
"""Columns that mean something on a device only."""

MEASURE = (
    "Measure subnets and fit them with `make predictors`, or leave accuracy and latency out: search over"
)


class Interval(Protocol):
    """Predictions for n subnets with their bounds, each (n,)."""

    @property
    def mean(self) -> NDArray[np.float64]: ...
    @property
    def low(self) -> NDArray[np.float64]: ...
    @property
    def high(self) -> NDArray[np.float64]: ...


class Quality(Protocol):
    """How good a predictor is on subnets that it was not fitted to."""

    def to_json(self) -> dict[str, float]: ...


class Predictor(Protocol):
    """Genotypes (n, d) to predictions."""

    @property
    def quality(self) -> Quality: ...
    def mean(self, rows: Rows, /) -> NDArray[np.float64]: ...
    def predict(self, rows: Rows, /) -> Interval: ...


@dataclass(frozen=True)
class Choice:
    """What the words accuracy, latency_ms and energy_mj stand for."""

    metric: str
    device: str


@dataclass(frozen=True)
class Estimates:
    """The predictors of one supernet by metric and by device; each may be empty.

    Without a supernet only costs are known. Energy is known of the devices where it was measured.
    `measured` maps a column's full name (cc, latency_ms@DEVICE) to values by subnet id. `refusal` says why the
    accuracy predictors on disk cannot be used.
    """

    supernet: str | None
    space: Space
    accuracy: Mapping[str, Predictor] = field(default_factory=dict)
    latency: Mapping[str, Predictor] = field(default_factory=dict)
    energy: Mapping[str, Predictor] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    refusal: PredictorError | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices whose latency can be predicted."""
        return tuple(self.latency)

    def columns(self, choice: Choice) -> tuple[str, ...]:
        """Names of all columns there are; accuracy, latency_ms and energy_mj only where the choice is known."""
        names = []
        for kind in ON_DEVICE:
            names += [kind] if choice.device in self._by_kind(kind) else []
            names += [f"{kind}@{device}" for device in self._by_kind(kind)]
        accuracy = ["accuracy"] if choice.metric in self.accuracy else []
        return (*accuracy, *names, *COSTS, *self.accuracy)

    def evaluate(self, rows: Rows, names: Iterable[str], choice: Choice) -> dict[str, NDArray[Any]]:
        """The named columns of subnets; PredictorError or DeviceError where a predictor is missing."""
        costs: Costs | None = None
        found: dict[str, NDArray[Any]] = {}
        for name in names:
            if name in COSTS:
                costs = costs or cost(self.space, rows)
                found[name] = getattr(costs, name)
            else:
                found[name] = np.asarray(self.predictor(name, choice).mean(rows), dtype=np.float64)
        return found

    def predictor(self, name: str, choice: Choice) -> Predictor:
        """The predictor behind a column; PredictorError or DeviceError with the remedy where there is none."""
        kind, known = self._resolve(name, choice)
        if known in self._by_kind(kind):
            return self._by_kind(kind)[known]
        raise self._missing(kind, known)

    def full_name(self, name: str, choice: Choice) -> str:
        """accuracy → cc, latency_ms → latency_ms@cpu-1-thread; other names as they are."""
        kind, known = self._resolve(name, choice)
        return f"{kind}@{known}" if kind in ON_DEVICE else known

    def is_predicted(self, name: str) -> bool:
        """Whether a column of that name comes from a predictor, be it there or not."""
        return name.partition("@")[0] in ON_DEVICE or name in ("accuracy", *METRICS)

    def describe(self, rows: Rows, choice: Choice) -> list[dict[str, Any]]:
        """For each subnet its id, resolution, predictions with bounds and measured values, and costs."""
        ids = self.space.ids(rows)
        costs = cost(self.space, rows)
        known = self.columns(choice)
        predicted = {
            name: self._values(name, rows, ids, choice) for name in ("accuracy", *ON_DEVICE) if name in known
        }
        return [
            {
                "id": ids[i],
                "resolution": list(arch.resolution),
                **{name: values[i] for name, values in predicted.items()},
                **{name: int(getattr(costs, name)[i]) for name in COSTS},
            }
            for i, arch in enumerate(self.space.decode_many(rows))
        ]

    def predictions(self, row: Rows) -> dict[str, dict[str, Any]]:
        """(1, d) genotype → accuracy by metric, latency and energy by device, with bounds and measured value."""
        ids = self.space.ids(row)
        return {
            "accuracy": {m: self._values(m, row, ids, Choice(m, ""))[0] for m in self.accuracy},
            **{
                kind: {d: self._values(kind, row, ids, Choice("", d))[0] for d in self._by_kind(kind)}
                for kind in ON_DEVICE
            },
        }

    def quality(self) -> dict[str, dict[str, dict[str, float]]]:
        """Held-out quality of the accuracy predictors by metric, of those of latency and energy by device."""
        return {
            kind: {name: predictor.quality.to_json() for name, predictor in self._by_kind(kind).items()}
            for kind in ("accuracy", *ON_DEVICE)
        }

    def _by_kind(self, kind: str) -> Mapping[str, Predictor]:
        """Predictors of latency or energy by device, any others by metric."""
        return {LATENCY: self.latency, ENERGY: self.energy}.get(kind, self.accuracy)

    def _values(self, name: str, rows: Rows, ids: list[str], choice: Choice) -> list[dict[str, float | None]]:
        estimate = self.predictor(name, choice).predict(rows)
        measured = self.measured.get(self.full_name(name, choice), {})
        return [
            {
                "predicted": _finite(mean),
                "low": _finite(low),
                "high": _finite(high),
                "measured": measured.get(identity),
            }
            for mean, low, high, identity in zip(estimate.mean, estimate.low, estimate.high, ids, strict=True)
        ]

    def _resolve(self, name: str, choice: Choice) -> tuple[str, str]:
        head, _, device = name.partition("@")
        if head in ON_DEVICE:
            return head, device or choice.device
        return "accuracy", choice.metric if name == "accuracy" else name

    def _missing(self, kind: str, wanted: str) -> SalnasError:
        if kind == ENERGY:
            there = f"Energy is known on: {', '.join(self.energy)}. " if self.energy else ""
            return DeviceError(
                f"The energy of subnets on device {wanted!r} is not known.",
                field="device",
                value=wanted,
                remedy=f"{there}Register a device with a column energy_mj beside its latencies.",
            )
        if kind == LATENCY:
            known = (
                f"Devices: {', '.join(self.latency)}." if self.latency else f"{MEASURE} {', '.join(COSTS)}."
            )
            message = f"Supernet {self.supernet} has no latency predictor for device {wanted!r}."
            return DeviceError(message, field="device", value=wanted, remedy=known)
        if self.refusal is not None:
            return self.refusal
        known = f"Metrics: {', '.join(self.accuracy)}." if self.accuracy else f"{MEASURE} {', '.join(COSTS)}."
        message = f"Supernet {self.supernet} has no accuracy predictor for {wanted!r}."
        return PredictorError(message, field="accuracy_metric", value=wanted, remedy=known)


def load_estimates(results: Path, file: SupernetFile) -> Estimates:
    """The predictors of a supernet under `results`, with what was measured of it.

    Accuracy predictors that are damaged or were fitted to other weights are left out and say so when they are
    asked for. Raises PredictorError or DataError where a file of a device is damaged or of another space.
    """
    folder = results / "predictors" / file.id
    accuracy, refusal = _load_accuracy(folder / ACCURACY_PREDICTOR, file)
    measured = _measured(folder / ACCURACY_TABLE, accuracy, fingerprint=file.fingerprint) if accuracy else {}
    latency: dict[str, Predictor] = {}
    energy: dict[str, Predictor] = {}
    if any(folder.glob("latency-*.safetensors")):
        from predictors.devices import list_devices, measured_on

        for device in list_devices(folder, file.space):
            latency[device.name] = device.predictor
            if device.energy is not None:
                energy[device.name] = device.energy
            found = measured_on(device, file.space)
            measured |= {f"{name}@{device.name}": values for name, values in found.items()}
    return Estimates(file.id, file.space, accuracy, latency, energy, measured, refusal)


def _load_accuracy(path: Path, file: SupernetFile) -> tuple[Mapping[str, Predictor], PredictorError | None]:
    if not path.is_file():
        return {}, None
    from predictors.accuracy import load_accuracy

    try:
        return load_accuracy(path, file.space, supernet=file.fingerprint).by_metric, None
    except PredictorError as error:
        return {}, error


def _measured(path: Path, names: Iterable[str], *, fingerprint: str) -> dict[str, Mapping[str, float]]:
    """Columns of a table of measurements by subnet id; none where it is of other weights than `fingerprint`."""
    if not path.is_file():
        return {}
    from predictors.tables import read_table

    table = read_table(path)
    if table.identity.get("supernet_fingerprint") != fingerprint:
        return {}
    return {name: dict(zip(table.ids, table.column(name).tolist(), strict=True)) for name in names}


def _finite(value: float) -> float | None:
    """JSON has no infinity; a bound that promises nothing is null."""
    return float(value) if math.isfinite(value) else None
