"""A search on disk: a directory with its manifest, its front and the state to resume from.

    manifest.json   inputs, seed, versions, fingerprints, times, history of hypervolume
    front.csv       the front, one subnet a line
    front.parquet   the same with exact types
    state.npz       the last saved generation (arrays and JSON, no pickles)

Every file is replaced whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.engine import Generation
from search.front import Front
from search.problem import IntArray, Objective, Problem, SearchSpace
from supernet.errors import CheckpointError
from supernet.files import atomic_path, write_atomic

_FORMAT = 1
_PACKAGES = ("numpy", "moocore", "pandas", "pymoo", "salnas")
_INPUTS = ("space_fingerprint", "objectives", "constraints", "seed", "engine", "settings", "warm_start")


@dataclass(frozen=True)
class Moment:
    """A point in the history of a search; `seconds` of search time, `hypervolume` of the front so far."""

    generation: int
    evaluations: int
    seconds: float
    hypervolume: float


@dataclass(frozen=True)
class Manifest:
    """All that is needed to run a search again, and what came of it. `state`: running, done or stopped."""

    space: str
    space_fingerprint: str
    objectives: tuple[Objective, ...]
    constraints: tuple[str, ...]
    seed: int
    engine: str
    settings: Mapping[str, Any]
    stop: Mapping[str, Any]
    warm_start: Sequence[Sequence[int]] | None
    provenance: Mapping[str, Any]
    started: str
    state: str = "running"
    reason: str | None = None
    finished: str | None = None
    generations: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    hypervolume: float = 0.0
    history: tuple[Moment, ...] = ()
    front_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it stands in manifest.json."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`; ValueError, KeyError or TypeError where it is no manifest."""
        fields = dict(content)
        if fields.pop("format") != _FORMAT:
            raise ValueError(f"unknown format {content['format']}")
        fields["objectives"] = tuple(Objective(**o) for o in fields["objectives"])
        fields["constraints"] = tuple(fields["constraints"])
        fields["history"] = tuple(Moment(**moment) for moment in fields["history"])
        return cls(**fields)


def new_manifest(
    space: SearchSpace,
    problem: Problem,
    *,
    constraints: Sequence[str],
    seed: int,
    engine: str,
    settings: Mapping[str, Any],
    stop: Mapping[str, Any],
    warm_start: IntArray | None,
    provenance: Mapping[str, Any] | None,
) -> Manifest:
    """The manifest of a search that begins now."""
    return Manifest(
        space=space.name,
        space_fingerprint=space.fingerprint,
        objectives=problem.objectives,
        constraints=tuple(constraints),
        seed=seed,
        engine=engine,
        settings=settings,
        stop=stop,
        warm_start=plain_rows(warm_start),
        provenance=dict(provenance or {}),
        started=now(),
        versions=versions(),
    )


def require_same_inputs(directory: Path | str, saved: Manifest, wanted: Manifest) -> None:
    """CheckpointError, naming the first input that differs, where `saved` is of another search than `wanted`."""
    for name in _INPUTS:
        if getattr(saved, name) != getattr(wanted, name):
            raise CheckpointError(
                f"The search in {directory} has another {name}.",
                field=name,
                value=getattr(wanted, name),
                remedy="Resume it with its own inputs, or start a new one in another directory.",
            )


@dataclass(frozen=True)
class Record:
    """A search read back from its directory; `front` is None until it has finished."""

    directory: Path
    manifest: Manifest
    front: Front | None


def save_manifest(directory: Path | str, manifest: Manifest) -> None:
    """Write manifest.json."""
    write_atomic(Path(directory) / "manifest.json", json.dumps(manifest.to_json(), indent=1) + "\n")


def save_state(directory: Path | str, generation: Generation) -> None:
    """Write state.npz."""
    generation.save(state_path(directory))


def state_path(directory: Path | str) -> Path:
    """Where a search keeps the generation to resume from."""
    return Path(directory) / "state.npz"


def save_front(directory: Path | str, front: Front) -> str:
    """Write front.csv and front.parquet; returns `front_digest`."""
    folder = Path(directory)
    with atomic_path(folder / "front.parquet") as temporary:
        front.table.to_parquet(temporary, index=False)
    write_atomic(folder / "front.csv", front.table.to_csv(index=False))
    return front_digest(front)


def front_digest(front: Front) -> str:
    """SHA-256 of the front as CSV: equal for identical fronts on any machine."""
    return hashlib.sha256(front.table.to_csv(index=False).encode()).hexdigest()


def load_record(directory: Path | str) -> Record:
    """Read a search back; CheckpointError where the directory holds none, or files that do not match."""
    folder = Path(directory)
    manifest = load_manifest(folder)
    front = None
    if manifest.front_sha256 is not None:
        try:
            front = Front(pd.read_parquet(folder / "front.parquet"), manifest.objectives)
        except (OSError, ValueError) as error:
            raise _unreadable(folder / "front.parquet", error) from error
        if front_digest(front) != manifest.front_sha256:
            raise CheckpointError(
                f"The front in {folder} is not the one of its manifest.",
                field="directory",
                value=str(folder),
                remedy="Run the search again.",
            )
    return Record(folder, manifest, front)


def load_manifest(directory: Path | str) -> Manifest:
    """Read manifest.json; CheckpointError where it is missing or corrupt."""
    path = Path(directory) / "manifest.json"
    try:
        return Manifest.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def versions() -> dict[str, str]:
    """Versions of Python, the packages a search depends on, and the machine's architecture."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def plain_rows(rows: Any) -> list[list[int]] | None:
    """(n, d) genotypes as nested lists for JSON, None for none."""
    return None if rows is None else np.asarray(rows).astype(int).tolist()


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read: {error}.",
        field="directory",
        value=str(path.parent),
        remedy="Give the directory of a search.",
    )
