"""Measuring subnets: how well they predict, how long they take. Resumable, chunk by chunk, into one table each.

Run as `python -m predictors.collect` to measure a supernet and to fit its predictors; see `predictors.fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from predictors.estimate import FloatArray
from predictors.tables import Table, append, gene_columns, known_ids, read_table
from predictors.timing import Prepare, TimingPlan, time_group
from supernet.data.sample import Dataset, Sample
from supernet.errors import DataError
from supernet.evaluate import EvaluationSet, score_net
from supernet.metrics import METRICS, mean_scores
from supernet.network import Supernet, extract
from supernet.space import Rows, Space

HALF = "_half"
"""Ends the columns of means over every other photo: how far they rank alike says what the photos can tell."""

Progress = Callable[[int, int], None]
"""Called with the number of subnets done and of all subnets."""


@dataclass(frozen=True, eq=False)
class LastPhotos:
    """The last `count` photos of a data set: those that training holds out."""

    dataset: Dataset
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.dataset):
            raise DataError(
                f"{self.dataset.name} ({self.dataset.split}) has {len(self.dataset)} photos, not {self.count}.",
                field="photos",
                value=self.count,
                remedy=f"Choose from 1 to {len(self.dataset)}.",
            )

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def split(self) -> str:
        return self.dataset.split

    @property
    def names(self) -> tuple[str, ...]:
        return self.dataset.names[-self.count :]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Sample:
        return self.dataset[len(self.dataset) - self.count + index]

    def fingerprint(self) -> str:
        return f"{self.dataset.fingerprint()}[-{self.count}:]"


def collect_accuracy(
    supernet: Supernet,
    rows: Rows,
    photos: EvaluationSet,
    path: Path | str,
    identity: Mapping[str, Any],
    *,
    command: str = "",
    batch_size: int = 2,
    chunk_seconds: float = 20.0,
    progress: Progress | None = None,
) -> Table:
    """Evaluate the subnets `rows` (n, d) that are not in the table at `path` yet, and add them to it.

    Subnets are extracted with the batch-norm statistics that ship. `identity` says what all lines share (weights,
    photos); a table with another one is refused with DataError. At most `chunk_seconds` of work, or one subnet, is
    lost to a kill. Two photos at a time, channels last, is what a CPU does fastest.
    """
    space = supernet.space
    full = {**identity, **_about(space, "accuracy")}

    def measure(row: Rows) -> dict[str, float]:
        began = time.perf_counter()
        net: nn.Module = extract(supernet, space.decode(row))
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        table = score_net(net, photos, batch_size)
        scores = mean_scores(table)
        half = mean_scores({name: column[::2] for name, column in table.items()})
        found = {name: float(getattr(scores, name)) for name in METRICS}
        found |= {f"{name}{HALF}": float(getattr(half, name)) for name in METRICS}
        return {**found, "n_photos": scores.n, "seconds": time.perf_counter() - began}

    missing = _missing(space, rows, path, full)
    done: list[dict[str, float]] = []
    began, saved = time.perf_counter(), 0
    for number, row in enumerate(missing):
        done.append(measure(row))
        last = number + 1 == len(missing)
        if last or time.perf_counter() - began > chunk_seconds:
            columns = {name: np.array([line[name] for line in done]) for name in done[0]}
            _add(space, path, missing[saved : number + 1], columns, full, command)
            done, saved, began = [], number + 1, time.perf_counter()
        if progress:
            progress(len(rows) - len(missing) + number + 1, len(rows))
    return read_table(path)


def collect_latency(
    space: Space,
    rows: Rows,
    prepare: Prepare,
    path: Path | str,
    identity: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    plan: TimingPlan | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Table:
    """Time the subnets `rows` (n, d) that are not in the table at `path` yet, group by group, and add them to it.

    `prepare` makes a subnet ready on the device. The smallest subnet is the reference; its latency in the first
    group sets the milliseconds of the whole table and is in its identity as `reference_ms`.
    """
    plan = plan or TimingPlan()
    full = {**identity, **_about(space, "latency")}
    reference = space.smallest()
    missing = _missing(space, rows, path, full)
    for start in range(0, len(missing), plan.group):
        group = missing[start : start + plan.group]
        timed = time_group(prepare, reference, space.decode_many(group), plan, rng)
        if "reference_ms" not in full:
            stored = read_table(path).identity if Path(path).exists() else {}
            full["reference_ms"] = stored.get("reference_ms", timed.reference_ms)
        latency = timed.ratio * full["reference_ms"]
        done = {
            "latency_ms": latency,
            "noise": timed.noise,
            "raw_ms": timed.raw_ms,
            "disturbed": timed.disturbed,
            "rounds": np.full(len(group), plan.rounds),
        }
        _add(space, path, group, done, full, command)
        if progress:
            progress(len(rows) - len(missing) + start + len(group), len(rows))
    return read_table(path)


def _about(space: Space, kind: str) -> dict[str, str]:
    return {"kind": kind, "space": space.name, "space_fingerprint": space.fingerprint}


def _missing(space: Space, rows: Rows, path: Path | str, identity: Mapping[str, Any]) -> Rows:
    """The rows that are not measured yet, in their order, each once."""
    known = known_ids(path, identity)
    _, first = np.unique(space.indices(rows), return_index=True)
    unique = rows[np.sort(first)]
    fresh = np.array([identity not in known for identity in space.ids(unique)], dtype=bool)
    missing: Rows = unique[fresh]
    return missing


def _add(
    space: Space,
    path: Path | str,
    rows: Rows,
    measured: Mapping[str, FloatArray],
    identity: Mapping[str, Any],
    command: str,
) -> None:
    append(path, pd.DataFrame({**gene_columns(space, rows), **measured}), identity, command)


if __name__ == "__main__":
    from importlib import import_module

    import_module("predictors.fit").main()
