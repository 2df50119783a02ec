"""Weighted means of the weights of supernets that come from one another: as good as each where that is good.

Fine-tuning with another stress (more random subnets, other photos) gains for some subnets and loses for others.
Between both ends of it what is lost grows slowly, while most of the gain is there (Wortsman et al. 2022, "Model
soups"), and nothing is slower for it. Weights that were never one have no mean that is worth anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from supernet.checkpoint import load_supernet
from supernet.errors import SettingsError
from supernet.network import FITTED, Supernet


def average_supernets(paths: Sequence[Path], shares: Sequence[float]) -> tuple[Supernet, dict[str, Any]]:
    """The supernet of the mean weights of checkpoints at `paths`, one of `shares` each, and where they come from.

    That names every training once, with its share, in means of means too. The supernet's batch-norm statistics are
    those of the first: fit them anew. Raises CheckpointError, and SettingsError where the checkpoints are of several
    spaces or the shares do not add up to 1.
    """
    if len(shares) != len(paths) or min(shares, default=0.0) <= 0.0 or abs(sum(shares) - 1.0) > 1e-6:
        raise SettingsError(
            f"The shares {list(shares)} are not {len(paths)} positive numbers that add up to 1.",
            field="share",
            value=list(shares),
            remedy="Give one share for each checkpoint, as `--share 0.6 --share 0.4`.",
        )
    loaded = [load_supernet(path) for path in paths]
    supernet, origin = loaded[0]
    for path, (other, _) in zip(paths, loaded, strict=True):
        if other.space.fingerprint != supernet.space.fingerprint:
            raise SettingsError(
                f"{path} is of space {other.space.name!r}, {paths[0]} of {supernet.space.name!r}.",
                field="checkpoints",
                value=str(path),
                remedy="Average checkpoints of one space.",
            )
    states = [other.state_dict() for other, _ in loaded]
    mean = {
        name: torch.stack([share * state[name] for share, state in zip(shares, states, strict=True)]).sum(0)
        for name, weight in states[0].items()
        if name not in FITTED and weight.is_floating_point()
    }
    supernet.load_state_dict(mean, strict=False)
    parts = _trainings(zip(shares, (provenance for _, provenance in loaded), strict=True))
    held_out = {key: value for key, value in origin.get("config", {}).items() if key == "held_out"}
    return supernet, {"config": held_out, "average": parts}


def _trainings(parts: Iterable[tuple[float, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each training that provenances tell of, with its share in their mean, the largest first."""
    found: list[dict[str, Any]] = []
    for share, provenance in _leaves(parts):
        same = next((part for part in found if part["of"] == provenance), None)
        if same:
            same["share"] += share
        else:
            found.append({"share": share, "of": provenance})
    rounded = [{**part, "share": round(part["share"], 6)} for part in found]
    return sorted(rounded, key=lambda part: -part["share"])


def _leaves(parts: Iterable[tuple[float, Mapping[str, Any]]]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    for share, provenance in parts:
        if "average" in provenance:
            yield from _leaves((share * part["share"], part["of"]) for part in provenance["average"])
        else:
            yield share, provenance
