"""A recorded search run again, whatever engine it was: the same inputs give the identical front."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from search.engine import Settings
from search.executors import Executor, InProcess
from search.islands import ENGINE as ISLANDS
from search.islands import Ring, search_islands
from search.measuring import Measurement
from search.problem import Evaluate, IntArray, SearchSpace
from search.record import Manifest, front_digest, load_manifest, versions
from search.run import SearchResult, Stop, search
from search.verify import ENGINE as VERIFIED
from search.verify import Effort, verify
from supernet.errors import CheckpointError


@dataclass(frozen=True)
class Again:
    """What came of it: the result, whether its front is identical to the recorded one, and what else differs.

    `differences` maps a package or `machine` to its recorded and its present version.
    """

    result: SearchResult
    identical: bool
    differences: Mapping[str, tuple[str | None, str | None]]


def run_again(
    directory: Path | str,
    space: SearchSpace,
    evaluate: Evaluate,
    *,
    measurements: Sequence[Measurement] = (),
    executor: Executor | None = None,
    out: Path | str | None = None,
) -> Again:
    """Run the search recorded in `directory` again, with a record of its own in `out` if that is given.

    It goes on for as many generations as it did, however it ended. One that was verified takes its measured values
    from the record: nothing is measured twice. Raises CheckpointError where there is no record of a finished
    search, or it is of another space.
    """
    manifest = load_manifest(directory)
    if manifest.space_fingerprint != space.fingerprint:
        raise CheckpointError(
            f"The search in {directory} is of space {manifest.space}, not {space.name}.",
            field="space",
            value=space.name,
            remedy=f"Use a supernet of space {manifest.space}.",
        )
    if manifest.front_sha256 is None:
        raise CheckpointError(
            f"The search in {directory} has not finished.",
            field="directory",
            value=str(directory),
            remedy="Continue it with `salnas search --resume --out …` and the options it was started with.",
        )
    if manifest.engine == VERIFIED and manifest.state == "stopped":
        raise CheckpointError(
            f"The verification in {directory} was stopped half-way through a batch.",
            field="directory",
            value=str(directory),
            remedy="Continue it with `salnas search --verify --resume --out …` first.",
        )
    inputs: dict[str, Any] = {
        "objectives": manifest.objectives,
        "constraints": manifest.constraints,
        "seed": manifest.seed,
        "settings": Settings(**{"starts": 0, **_parts(Settings, manifest.settings)}),  # once there were none
        "warm_start": _rows(manifest),
        "provenance": {**manifest.provenance, "again": str(directory)},
    }
    if manifest.engine == VERIFIED:
        result: SearchResult = _verified_again(
            Path(directory), manifest, space, evaluate, measurements, executor, out, inputs
        )
    else:
        inputs["stop"] = _same_end(manifest)
        inputs["directory"] = out
        if manifest.engine == ISLANDS:
            ring = Ring(**_parts(Ring, manifest.settings))
            where = executor or InProcess()
            result = search_islands(space, evaluate, ring=ring, executor=where, **inputs)
        else:
            result = search(space, evaluate, engine=manifest.engine, adapt=False, **inputs)
    then, today = dict(manifest.versions), versions()
    differences = {
        name: (then.get(name), today.get(name))
        for name in sorted({*then, *today})
        if then.get(name) != today.get(name)
    }
    return Again(result, front_digest(result.pareto) == manifest.front_sha256, differences)


def _verified_again(
    directory: Path,
    manifest: Manifest,
    space: SearchSpace,
    evaluate: Evaluate,
    measurements: Sequence[Measurement],
    executor: Executor | None,
    out: Path | str | None,
    inputs: Mapping[str, Any],
) -> SearchResult:
    with TemporaryDirectory() as temporary:
        place = Path(out or temporary)
        place.mkdir(parents=True, exist_ok=True)
        for table in directory.glob("measured-*.parquet"):
            shutil.copyfile(table, place / table.name)
        return verify(
            space,
            evaluate,
            measurements,
            effort=Effort(**_parts(Effort, manifest.stop)),
            stop=Stop(**_parts(Stop, manifest.stop)),
            executor=executor,
            directory=place,
            **inputs,
        )


def _same_end(manifest: Manifest) -> Stop:
    """The condition that ends the search where it ended."""
    if not manifest.generations:
        return Stop(evaluations=manifest.evaluations)
    # A limit of evaluations decides more than the end: a small space is enumerated or it is not.
    return Stop(generations=manifest.generations, evaluations=manifest.stop.get("evaluations"))


def _parts(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a dataclass has fields for."""
    return {f.name: values[f.name] for f in fields(kind) if f.name in values}


def _rows(manifest: Manifest) -> IntArray | None:
    return None if manifest.warm_start is None else np.array(manifest.warm_start, dtype=np.int64)
