"""The supernets at hand: what their files say of themselves, read without loading a weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from service.settings import check_name
from supernet.errors import CheckpointError
from supernet.space import Space, get_space, list_spaces

FORMAT = "salnas-supernet-1"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class SupernetFile:
    """One supernet on disk: its id, where it lies, its space and how it came about."""

    id: str
    path: Path
    space: Space
    provenance: Mapping[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the file; equal to `supernet.checkpoint.file_fingerprint`."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """The JSON card beside the file (data, recipe, scores); empty where there is none."""
        try:
            content = json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"The card of supernet {self.id} cannot be read: {error}.",
                field="supernet",
                value=self.id,
                remedy="Restore or delete the .json file beside the supernet.",
            ) from error
        return content if isinstance(content, dict) else {}

    def to_json(self) -> dict[str, Any]:
        """Plain data without places on this machine."""
        return {
            "id": self.id,
            "space": self.space.name,
            "space_fingerprint": self.space.fingerprint,
            "provenance": dict(self.provenance),
            "card": dict(self.card),
        }


def list_supernets(results: Path) -> list[SupernetFile]:
    """The readable supernets under `results`/supernets, by id; damaged files are left out."""
    found = []
    for path in sorted((results / "supernets").glob(f"*{SUFFIX}")):
        try:
            found.append(read_supernet_file(path))
        except CheckpointError:
            continue
    return found


def find_supernet(results: Path, name: str | Path) -> SupernetFile:
    """The supernet with the id `name` under `results`, or, where `name` is a `Path`, the one in that file.

    CheckpointError lists the ids there are, or says what is wrong with the file.
    """
    if isinstance(name, Path):
        return read_supernet_file(name)
    check_name("supernet", name)
    path = results / "supernets" / f"{name}{SUFFIX}"
    if not path.is_file():
        known = [item.id for item in list_supernets(results)]
        there = f"There are: {', '.join(known)}." if known else "There is none yet: `make train-supernet`."
        raise CheckpointError(f"There is no supernet {name!r}.", field="supernet", value=name, remedy=there)
    return read_supernet_file(path)


def read_supernet_file(path: Path) -> SupernetFile:
    """Read the header of a checkpoint; CheckpointError where it is corrupt, foreign or of another space."""
    try:
        with safe_open(str(path), "np") as tensors:
            metadata = tensors.metadata() or {}
        provenance = json.loads(metadata.get("provenance", "{}"))
    except FileNotFoundError as error:
        raise _refused(
            path, f"There is no supernet at {path}.", "Give the path of a .safetensors file."
        ) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise _refused(
            path,
            f"{path} cannot be read as a supernet: {error}.",
            "The file is damaged or foreign: fetch or train it again.",
        ) from error
    if metadata.get("format") != FORMAT:
        raise _refused(
            path,
            f"{path} is a safetensors file, but not a supernet of this program.",
            "Give a file written by `salnas train`.",
        )
    name = metadata.get("space", "")
    if name not in list_spaces() or get_space(name).fingerprint != metadata.get("space_fingerprint"):
        raise _refused(
            path,
            f"{path} was trained for space {name!r} with other choices than this version knows.",
            "Use the version that trained it, or train again.",
        )
    return SupernetFile(path.stem, path, get_space(name), provenance)


def _refused(path: Path, message: str, remedy: str) -> CheckpointError:
    return CheckpointError(message, field="supernet", value=str(path), remedy=remedy)
