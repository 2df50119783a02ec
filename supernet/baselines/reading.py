"""Weights that others published, read with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from supernet.errors import CheckpointError


@contextmanager
def published_weights(path: Path | str, network: str, example: str) -> Iterator[None]:
    """Around the code that reads the weights of `network`, of which `example` is a file. Raises CheckpointError."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no {network} weights file {path}.",
            field="path",
            value=str(path),
            remedy="Set SALNAS_WEIGHTS to the folder that holds it.",
        ) from error
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold {network} weights: {str(error)[:200]}.",
            field="path",
            value=str(path),
            remedy=f"Use a file such as {example}.",
        ) from error
