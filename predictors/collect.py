"""Measuring subnets: how well they predict, how long they take. Resumable, chunk by chunk, into one table each.

Run as `python -m predictors.collect` to measure a supernet and to fit its predictors; see `predictors.fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from predictors.estimate import FloatArray
from predictors.executors import Executor, InProcess, WorkerLost
from predictors.tables import Table, append, gene_columns, known_ids, read_table
from predictors.timing import Prepare, TimingPlan, Timings, time_group
from supernet.data.sample import Dataset, Sample
from supernet.errors import DataError
from supernet.evaluate import EvaluationSet, score_net
from supernet.masked import MaskedNet
from supernet.metric_names import METRICS
from supernet.metrics import mean_scores
from supernet.network import Supernet, extract
from supernet.onnx_net import OnnxNet
from supernet.space import Rows, Space

HALF = "_half"
"""Ends the columns of means over every other photo: how far they rank alike says what the photos can tell."""

METRIC_COLUMNS = (*METRICS, *(f"{name}{HALF}" for name in METRICS), "n_photos", "seconds")

EVALUATORS = ("onnxruntime", "torch", "masked")
"""What a subnet can be evaluated with; masked is torch at the shapes of the largest subnet, for a GPU."""

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


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Measures one subnet on photos: genotype (d,) → means of all photos and of every other one, seconds.

    On "onnxruntime" a subnet runs as users export it, no slower than "torch"; scores are equal to five
    digits. "masked" is slow on a CPU, and meets no new shapes on a GPU (`supernet.masked`). Whatever goes
    wrong with a subnet is told as `error`, so that it does not stop the others.
    """

    supernet: Supernet
    photos: EvaluationSet
    runtime: str = "onnxruntime"
    batch_size: int = 2

    def __post_init__(self) -> None:
        if self.runtime not in EVALUATORS:
            raise DataError(
                f"Subnets cannot be evaluated on {self.runtime!r}.",
                field="runtime",
                value=self.runtime,
                remedy=f"Use one of {', '.join(EVALUATORS)}.",
            )

    def __call__(self, row: Rows) -> dict[str, Any]:
        """See the class."""
        try:
            return self.measure(row)
        except Exception as error:  # one subnet of many: the others are measured all the same
            return {"error": f"{type(error).__name__}: {error}"}

    def measure(self, row: Rows) -> dict[str, Any]:
        """As a call, but raises what goes wrong."""
        began = time.perf_counter()
        table = score_net(self._ready(row), self.photos, self.batch_size)
        scores = mean_scores(table)
        half = mean_scores({name: column[::2] for name, column in table.items()})
        found: dict[str, Any] = {name: float(getattr(scores, name)) for name in METRICS}
        if not np.isfinite(list(found.values())).all():
            raise DataError(
                "A score is not a number.",
                field="scores",
                value=found,
                remedy="Look for photos without fixations: `salnas data check`.",
            )
        found |= {f"{name}{HALF}": float(getattr(half, name)) for name in METRICS}
        return {**found, "n_photos": scores.n, "seconds": time.perf_counter() - began}

    def _ready(self, row: Rows) -> nn.Module:
        arch = self.supernet.space.decode(row)
        if self.runtime == "masked":
            return MaskedNet(self.supernet, arch).eval()
        net = extract(self.supernet, arch).eval()
        if self.runtime == "onnxruntime":
            return OnnxNet(net)
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def collect_accuracy(
    supernet: Supernet,
    rows: Rows,
    photos: EvaluationSet,
    path: Path | str,
    identity: Mapping[str, Any],
    *,
    command: str = "",
    runtime: str = "onnxruntime",
    batch_size: int = 2,
    chunk_seconds: float = 20.0,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Table:
    """Evaluate the subnets `rows` (n, d) that are not in the table at `path` yet, and add them to it.

    Subnets are extracted with the batch-norm statistics that ship. `identity` says what all lines share (weights,
    photos); a table with another one is refused with DataError. At most `chunk_seconds` of work, or one subnet, is
    lost to a kill. Workers of an `executor` only measure: this process alone writes, so a worker that dies costs
    its subnet's time, and no line is lost or doubled. Subnets that fail are left out and told at the end, by
    DataError, when all others are in the table.
    """
    space = supernet.space
    full = {**identity, **_about(space, "accuracy")}
    missing = _missing(space, rows, path, full)
    evaluator = Evaluator(supernet, photos, runtime, batch_size)
    done: dict[int, dict[str, Any]] = {}
    failed: dict[int, str] = {}
    began = time.perf_counter()
    if progress:
        progress(len(rows) - len(missing), len(rows))

    def save() -> None:
        if done:
            columns = {name: np.array([line[name] for line in done.values()]) for name in METRIC_COLUMNS}
            _add(space, path, missing[list(done)], columns, full, command)
            done.clear()

    try:
        for number, (index, found) in enumerate(_each(executor or InProcess(), evaluator, list(missing)), 1):
            if "error" in found:
                failed[index] = found["error"]
            else:
                done[index] = found
            if time.perf_counter() - began > chunk_seconds:
                save()
                began = time.perf_counter()
            if progress:
                progress(len(rows) - len(missing) + number, len(rows))
    finally:
        save()
    if failed:
        raise _failures(space, missing, failed)
    return read_table(path)


def _each(
    executor: Executor, evaluator: Evaluator, tasks: Sequence[Rows]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place and result of every task; one that kills its workers again and again is an error among the others."""
    left = list(range(len(tasks)))
    while left:
        places = tuple(left)
        try:
            for place, found in executor.run(evaluator, [tasks[index] for index in places]):
                left.remove(places[place])
                yield places[place], found
        except WorkerLost as error:
            left.remove(places[error.index])
            yield places[error.index], {"error": str(error)}


def _failures(space: Space, missing: Rows, failed: Mapping[int, str]) -> DataError:
    ids = space.ids(missing[list(failed)])
    return DataError(
        f"{len(failed)} of {len(missing)} subnets could not be evaluated; the first one, {ids[0]}: "
        f"{next(iter(failed.values()))}",
        field="subnets",
        value=ids[:10],
        remedy="All others are in the table. Run the command again to try these once more.",
    )


@dataclass(frozen=True, eq=False)
class GroupTimer:
    """Times a group of subnets: seed and genotypes (k, d) → their timings beside the smallest subnet."""

    space: Space
    prepare: Prepare
    plan: TimingPlan

    def __call__(self, task: tuple[int, Rows]) -> Timings:
        """See the class."""
        seed, group = task
        rng = np.random.default_rng(seed)
        return time_group(self.prepare, self.space.smallest(), self.space.decode_many(group), self.plan, rng)


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
    executor: Executor | None = None,
    device: str | None = None,
) -> Table:
    """Time the subnets `rows` (n, d) that are not in the table at `path` yet, group by group, and add them to it.

    `prepare` makes a subnet ready on the device. The smallest subnet is the reference; its latency in the first
    group sets the milliseconds of the whole table and is in its identity as `reference_ms`. On an `executor` the
    groups are timed where `device` is, one at a time on each machine.
    """
    plan = plan or TimingPlan()
    full = {**identity, **_about(space, "latency")}
    missing = _missing(space, rows, path, full)
    groups = [missing[start : start + plan.group] for start in range(0, len(missing), plan.group)]
    tasks = [(int(rng.integers(2**32)), group) for group in groups]
    done = len(rows) - len(missing)
    if progress:
        progress(done, len(rows))
    for index, timed in (executor or InProcess()).run(GroupTimer(space, prepare, plan), tasks, device=device):
        group = groups[index]
        if "reference_ms" not in full:
            stored = read_table(path).identity if Path(path).exists() else {}
            full["reference_ms"] = stored.get("reference_ms", timed.reference_ms)
        latency = timed.ratio * full["reference_ms"]
        measured = {
            "latency_ms": latency,
            "noise": timed.noise,
            "raw_ms": timed.raw_ms,
            "disturbed": timed.disturbed,
            "rounds": np.full(len(group), plan.rounds),
        }
        _add(space, path, group, measured, full, command)
        done += len(group)
        if progress:
            progress(done, len(rows))
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
