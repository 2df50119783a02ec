"""What a training saves between two epochs, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of all parameters, as `optimizer.INDEX.MOMENT`."""
    return {
        f"optimizer.{index}.{name}": moment
        for index, moments in optimizer.state_dict()["state"].items()
        for name, moment in moments.items()
        if moment is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer of the same parameters the moments among `tensors`."""
    state = optimizer.state_dict()
    for key, moment in part(tensors, "optimizer.").items():
        index, name = key.split(".")
        state["state"].setdefault(int(index), {})[name] = moment
    optimizer.load_state_dict(state)


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by what follows it."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
