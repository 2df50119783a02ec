"""What a verification measures with: accuracy on held-out photos, latency on a device that is this machine.

Both are values that travel to workers whole: weights, photos and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from predictors.collect import LastPhotos
from predictors.devices import Device, how_timed
from predictors.runtimes import describe_machine, runtime
from predictors.timing import TimingPlan, time_group
from search.problem import FloatArray, IntArray
from supernet.data.registry import open_dataset
from supernet.errors import DeviceError
from supernet.evaluate import EvaluationSet, build_evaluation_set, evaluate_net
from supernet.metric_names import METRICS
from supernet.network import Supernet, extract

_SAME = ("processor", "instructions", "system", "gpu")
"""What two machines must share to be one device, as far as it is known of the device."""


@dataclass(frozen=True, eq=False)
class AccuracyMeter:
    """A `search.measuring.Measurement` of all metrics on photos; `metric` is the one that accuracy means."""

    supernet: Supernet
    photos: EvaluationSet
    metric: str
    identity: Mapping[str, Any]
    name: str = "accuracy"
    columns: tuple[str, ...] = ("accuracy", *METRICS)
    at_once: int = 1
    device: str | None = None

    def __call__(self, rows: IntArray) -> dict[str, FloatArray]:
        """(n, d) subnets → their mean scores (n,)."""
        space = self.supernet.space
        nets = (extract(self.supernet, arch) for arch in space.decode_many(rows))
        scores = [evaluate_net(net, self.photos) for net in nets]
        found = {name: np.array([float(getattr(s, name)) for s in scores]) for name in METRICS}
        return {"accuracy": found[self.metric], **found}


def accuracy_meter(
    supernet: Supernet, fingerprint: str, metric: str, *, data: str = "osie", photos: int = 80
) -> AccuracyMeter:
    """A meter on the last `photos` of the training split of `data`: those that no supernet is trained on.

    `fingerprint` is that of the weights. Raises DataError.
    """
    chosen = LastPhotos(open_dataset(data, split="train"), photos)
    identity = {
        "supernet_fingerprint": fingerprint,
        "data": f"{chosen.name} ({chosen.split}), last {photos} photos",
        "photos_fingerprint": chosen.fingerprint(),
        "metric": metric,
    }
    evaluation = build_evaluation_set(chosen, resolutions=supernet.space.resolutions)
    return AccuracyMeter(supernet, evaluation, metric, identity)


@dataclass(frozen=True, eq=False)
class LatencyMeter:
    """A `search.measuring.Measurement` of the latency of exported subnets, timed beside the smallest one.

    `reference_ms` is the latency of the smallest subnet in the table of the device: the unit in which a machine
    that is busy, or warm, still measures the same. `machine` describes the one that the device is.
    """

    supernet: Supernet
    device: str
    runtime: str
    threads: int
    reference_ms: float
    machine: Mapping[str, Any]
    columns: tuple[str, ...]
    plan: TimingPlan = field(default_factory=TimingPlan)
    at_once: int = 4

    @property
    def name(self) -> str:
        """Part of the name of its table."""
        return f"latency-{self.device}"

    @property
    def identity(self) -> dict[str, Any]:
        """Device and unit of all values."""
        about = {**self.machine, "runtime": self.runtime, "threads": self.threads}
        return {"device": self.device, "about": about, "reference_ms": self.reference_ms}

    def require_here(self) -> None:
        """Raise DeviceError where this machine is not the device."""
        here = describe_machine(self.runtime)
        if any(here.get(name) != self.machine.get(name, here.get(name)) for name in _SAME):
            raise DeviceError(
                f"This machine ({here['processor']}, {here['instructions']}) is not the device {self.device}.",
                field="device",
                value=self.device,
                remedy="Measure on that machine, or lend it to a Ray cluster as `device:NAME`.",
            )

    def __call__(self, rows: IntArray) -> dict[str, FloatArray]:
        """(n, d) subnets → milliseconds (n,). Raises DeviceError where this machine is not the device."""
        self.require_here()
        space = self.supernet.space
        prepare = runtime(self.runtime, self.supernet, self.threads)
        rng = np.random.default_rng(0)
        timed = time_group(prepare, space.smallest(), space.decode_many(rows), self.plan, rng)
        latency = np.asarray(timed.ratio * self.reference_ms, dtype=np.float64)
        return dict.fromkeys(self.columns, latency)


def latency_meter(supernet: Supernet, device: Device, columns: tuple[str, ...]) -> LatencyMeter:
    """A meter for a device whose predictor was fitted to measurements of this program.

    Raises DeviceError for a device that is known by a user's numbers alone.
    """
    timed_by, threads, reference = how_timed(device)
    return LatencyMeter(supernet, device.name, timed_by, threads, reference, dict(device.details), columns)
