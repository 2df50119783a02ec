"""Fitted predictors on disk: plain arrays in safetensors, everything else as JSON in the header; no pickles.

Each file names the space, and where it matters the weights, that it was fitted to; anything else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from supernet.errors import PredictorError
from supernet.files import write_atomic
from supernet.space import Space

FORMAT = "salnas-predictor-1"


def save_model(
    path: Path | str,
    kind: str,
    space: Space,
    arrays: Mapping[str, NDArray[Any]],
    meta: Mapping[str, Any],
    *,
    supernet: str | None = None,
) -> None:
    """Write a predictor of `kind`; `supernet` is the fingerprint of the weights where it depends on them."""
    header = {
        "format": FORMAT,
        "kind": kind,
        "space": space.name,
        "space_fingerprint": space.fingerprint,
        "supernet_fingerprint": supernet or "",
        "meta": json.dumps(dict(meta)),
    }
    write_atomic(path, save({name: np.ascontiguousarray(value) for name, value in arrays.items()}, header))


def load_model(
    path: Path | str, kind: str, space: Space, *, supernet: str | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and JSON data of a predictor; PredictorError where it is missing, damaged or of something else.

    `supernet` None accepts predictors of any weights.
    """
    try:
        with safe_open(str(path), "np") as tensors:
            header = tensors.metadata() or {}
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        meta = json.loads(header.get("meta", "{}"))
    except FileNotFoundError as error:
        raise _refused(
            path, f"There is no predictor at {path}.", "Fit one with `make predictors`."
        ) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise _refused(
            path, f"{path} cannot be read as a predictor: {error}.", "Restore it or fit again."
        ) from error
    if header.get("format") != FORMAT or header.get("kind") != kind:
        raise _refused(
            path, f"{path} is no {kind} predictor of this program.", "Give a file of `make predictors`."
        )
    if header.get("space_fingerprint") != space.fingerprint:
        raise _refused(
            path,
            f"{path} was fitted to space {header.get('space')!r}, not to {space.name}.",
            "Fit one to this space.",
        )
    if supernet is not None and header.get("supernet_fingerprint") != supernet:
        raise _refused(
            path,
            f"{path} was fitted to other weights ({header.get('supernet_fingerprint')}, not {supernet}).",
            "Measure this supernet and fit again with `make predictors`.",
        )
    return arrays, meta


def array(
    path: Path | str, arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[Any]:
    """The array `name`, or PredictorError where it is missing, has another shape, or is not finite."""
    found = arrays.get(name)
    if found is None or found.shape != shape or not np.isfinite(found).all():
        raise _refused(path, f"{path} lacks the array {name!r} of shape {shape}.", "Restore it or fit again.")
    return found


def _refused(path: Path | str, message: str, remedy: str) -> PredictorError:
    return PredictorError(message, field="predictor", value=str(path), remedy=remedy)
