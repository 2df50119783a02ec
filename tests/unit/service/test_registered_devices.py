"""Registered devices answer with what was stored of them, even where it would be refused today."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from predictors.device_csv import read_measurements
from predictors.devices import load_device, predictor_path
from service.devices import CSV, PREDICTOR, RegisteredDevices
from service.jobs import Job, JobKind, JobState
from service.ports import JobStore
from service.workbench import Workbench
from supernet.errors import DeviceError
from tests.fixtures.tiny import TINY


class OneJob:
    """A store with the job of one device."""

    def __init__(self, job: Job, blobs: dict[str, bytes]) -> None:
        self.job, self.blobs = job, blobs

    def page(self, **_: Any) -> list[Job]:
        return [self.job]

    def blob(self, _: str, name: str) -> bytes | None:
        return self.blobs.get(name)


@pytest.mark.parametrize("factor", [1.1, 1.6])
def test_a_device_that_was_taken_once_stays(results: Path, factor: float) -> None:
    bench = Workbench.open(results, TINY)
    folder = results / "predictors" / TINY
    rows = bench.space.sample(np.random.default_rng(0), 12)
    latency_ms = load_device(folder, "cpu-1-thread", bench.space).predictor.predict(rows).mean.tolist()
    lines = [f"{identity},{ms}" for identity, ms in zip(bench.space.ids(rows), latency_ms, strict=True)]
    repeated = f"{bench.space.ids(rows)[0]},{factor * latency_ms[0]}"
    content = "\n".join(["id,latency_ms", *lines, repeated]).encode()
    refused = factor > 1.25
    if refused:
        with pytest.raises(DeviceError, match="disagree"):
            read_measurements(content, bench.space, unit="ms")
    request = {"name": "old", "space_fingerprint": bench.space.fingerprint, "unit": "ms", "sha256": "0"}
    job = Job("device-0", JobKind.DEVICE, request, 0.0, JobState.SUCCEEDED)
    blobs = {CSV: content, PREDICTOR: predictor_path(folder, "cpu-1-thread").read_bytes()}
    store = cast(JobStore, OneJob(job, blobs))
    found = RegisteredDevices(store).added_to(bench.estimates)
    assert "old" in found.latency
    assert len(found.measured.get("latency_ms@old", {})) == (0 if refused else 12)
