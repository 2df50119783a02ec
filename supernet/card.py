"""The card of a supernet: what it is, how it came about, and the scores that it reached, as JSON beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.checkpoint import load_supernet
from supernet.data.registry import open_dataset
from supernet.evaluate import build_evaluation_set, evaluate_net
from supernet.files import write_atomic
from supernet.network import extract
from supernet.space import Arch, Space


def write_card(
    path: Path | str,
    *,
    data: Sequence[str] = ("osie",),
    notes: Sequence[str] = (),
    command: str = "",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Score the smallest, a middle and the largest subnet of a checkpoint on validation photos; write the card.

    The scores are of the weights and statistics as they ship; validation photos select nothing. Raises
    CheckpointError and DataError.
    """
    target = Path(path)
    supernet, provenance = load_supernet(target)
    archs = {
        "smallest": supernet.space.smallest(),
        "middle": middle(supernet.space),
        "largest": supernet.space.largest(),
    }
    scores: dict[str, Any] = {}
    for name in data:
        photos = build_evaluation_set(open_dataset(name, split="val"), resolutions=supernet.space.resolutions)
        for number, (label, arch) in enumerate(archs.items()):
            found = evaluate_net(extract(supernet, arch), photos).to_json()
            scores.setdefault(f"{name} validation", {})[label] = found
            progress(f"scores on {name}", number + 1, len(archs))
    content = {
        "id": target.stem,
        "space": supernet.space.name,
        "space_fingerprint": supernet.space.fingerprint,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "subnets": {label: supernet.space.id_of(arch) for label, arch in archs.items()},
        "scores": scores,
        "scores_command": command,
        "provenance": provenance,
        "notes": list(notes),
    }
    write_atomic(target.with_suffix(".json"), json.dumps(content, indent=1) + "\n")
    return content


def middle(space: Space) -> Arch:
    """The subnet with the middle choice of every gene (the lower of two), at the smallest resolution."""
    arch = space.decode((space.sizes - 1) // 2)
    return replace(arch, resolution=min(space.resolutions))
