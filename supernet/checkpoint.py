"""Supernets on disk: safetensors with the fingerprint of the space and the provenance of the weights.

All is stored in half precision but the few numbers that statistics are computed through; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from supernet.errors import CheckpointError
from supernet.files import atomic_path
from supernet.network import Supernet, traits_before
from supernet.space import get_space, list_spaces

FORMAT = "salnas-supernet-1"


def save_supernet(
    path: Path | str, supernet: Supernet, provenance: Mapping[str, Any], *, dtype: torch.dtype = torch.float16
) -> None:
    """Write `supernet` whole or not at all; `provenance` is any JSON data (what it was trained on, and how)."""
    tensors = {
        name: (tensor if name in ("support", "projection") else tensor.to(dtype)).detach().cpu().contiguous()
        for name, tensor in supernet.state_dict().items()
        if not _is_unused(name)
    }
    metadata = {
        "format": FORMAT,
        "space": supernet.space.name,
        "space_fingerprint": supernet.space.fingerprint,
        "provenance": json.dumps(provenance),
    }
    write_tensors(Path(path), tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole, or leave what was there. Raises CheckpointError where there is no room."""
    try:
        with atomic_path(path) as temporary:
            save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, dict(metadata))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be written: {error}.",
            field="out",
            value=str(path),
            remedy="Make room on the disk or choose another place; what was saved before is whole.",
        ) from error


def read_tensors(path: Path | str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file. Raises OSError and SafetensorError."""
    with safe_open(str(path), "pt") as stored:
        return stored.metadata() or {}, {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118


def load_supernet(path: Path | str) -> tuple[Supernet, dict[str, Any]]:
    """The supernet, in evaluation mode, and its provenance; CheckpointError where the file is not one."""
    metadata, tensors = _read(Path(path))
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a supernet of this program.",
            field="supernet",
            value=str(path),
            remedy="Give a file written by `salnas train`.",
        )
    name = metadata.get("space", "")
    if name not in list_spaces() or get_space(name).fingerprint != metadata.get("space_fingerprint"):
        raise CheckpointError(
            f"{path} was trained for space {name!r} with other choices than this version knows.",
            field="space",
            value=metadata.get("space_fingerprint"),
            remedy="Use the version that trained it, or train again.",
        )
    supernet = Supernet(get_space(name))
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    expected = {
        key: tuple(value.shape) for key, value in supernet.state_dict().items() if not _is_unused(key)
    }
    expected |= _fitted_shapes(supernet, found)
    if expected != found:
        differing = sorted(key for key in expected | found if expected.get(key) != found.get(key))
        raise CheckpointError(
            f"{path} lacks tensors of space {name}, or has others: {differing[0]} and {len(differing) - 1} more.",
            field="supernet",
            value=str(path),
            remedy="The file is damaged or foreign: fetch or train it again.",
        )
    supernet.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    return supernet.eval(), json.loads(metadata.get("provenance", "{}"))


def file_fingerprint(path: Path | str) -> str:
    """16 hexadecimal digits of the SHA-256 of a file; names the weights that a predictor was fitted to."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _is_unused(name: str) -> bool:
    """A supernet keeps statistics apart from the batch norms of its largest subnet."""
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _fitted_shapes(supernet: Supernet, found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of what was fitted to as many subnets, and with as many directions, as the file says."""
    space, channels = supernet.space, supernet.statistics.shape[-1]
    subnets, columns = (*found.get("support", ()), 1, 1)[:2]
    rank = found.get("projection", (1, 1))[-1]
    genes, parts = len(space.genes), len(traits_before(space))
    traits = genes if columns == genes else len(space.trait_sizes)
    return {
        "support": (subnets, traits),
        "projection": (1 + parts * subnets, rank),
        "statistics": (2, rank, channels),
    }


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        return read_tensors(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no supernet at {path}.",
            field="supernet",
            value=str(path),
            remedy="Give the path of a .safetensors file.",
        ) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors: {error}.",
            field="supernet",
            value=str(path),
            remedy="The file is damaged or foreign: fetch or train it again.",
        ) from error
