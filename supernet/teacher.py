"""What a supernet learns from besides the truth: Self-KD and its rivals, one choice in one loop.

    none       the truth (the sandwich rule alone)
    self-kd    a teacher of the same architecture whose weights are the running average of the best so far: after an
               epoch with the lowest held-out loss yet, teacher ← (n · teacher + student) / (n + 1). From the second
               epoch on the target is teacher(x) + α (truth - teacher(x)). Source: SalNAS paper, section 3.2
    ps-kd      the weights at the end of the last epoch teach, more and more: from the second epoch on the target is
               truth + α_t (teacher(x) - truth) with α_t rising to 0.8. Source: Kim et al., ICCV 2021
    pkd        a second network of the same kind is trained on the truth in the same steps; its map is the target.
               Source: Termritthikun et al., "PKD", as the public SalNAS code trains it
    in-place   the largest subnet learns from the truth, its map is the target of the others. Source: Yu et al.,
               "BigNAS", ECCV 2020

Teachers predict with their largest subnet under batch statistics, and no gradient passes to them. A target mixes
maps of equal maximum, 1, because the losses do not fix the scale of a prediction. Fixations stay the truth.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from supernet.images import resize_maps, resize_photos
from supernet.losses import saliency_loss
from supernet.network import DROP_RATE, Supernet
from supernet.training_state import part

DISTILLATIONS = ("none", "self-kd", "ps-kd", "pkd", "in-place")
LARGEST_SHARE = 0.8
"""Of the teacher in the target of the last epoch of ps-kd, as in the public SalNAS code."""
_TINY = 1e-6


class Teacher:
    """The truth alone; the others change what they need."""

    def target(self, photos: Tensor, maps: Tensor, epoch: int) -> Tensor:
        """What subnets should predict: (B, h, w) for `photos` (B, 3, H, W) whose truth is `maps` (B, h, w).

        `epoch` counts from 0.
        """
        return maps

    def learn(self, photos: Tensor, maps: Tensor, counts: Tensor, rate: float) -> None:
        """Train on the truth, where the teacher has an optimizer of its own."""

    def end_epoch(self, student: Supernet, held_out_loss: float) -> None:
        """Take over what the student has learned."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a saved state must restore."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""


class _NetworkTeacher(Teacher):
    """A teacher with weights."""

    def __init__(self, student: Supernet) -> None:
        self.net = copy.deepcopy(student).requires_grad_(False).train()

    def predict(self, photos: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h, w) with maximum 1."""
        with torch.no_grad():
            found = self.net(photos, self.net.space.largest())
        return as_target(found, size)

    def tensors(self) -> dict[str, Tensor]:
        return {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.net.load_state_dict(part(tensors, "net."))


class SelfTeacher(_NetworkTeacher):
    """Self-KD: the running average of the best weights."""

    def __init__(self, student: Supernet, alpha: float) -> None:
        super().__init__(student)
        self.alpha = alpha
        self.taken = 0
        self.best = float("inf")

    def target(self, photos: Tensor, maps: Tensor, epoch: int) -> Tensor:
        if epoch == 0 or not self.taken:
            return maps
        taught = self.predict(photos, (maps.shape[1], maps.shape[2]))
        return taught + self.alpha * (maps - taught)

    @torch.no_grad()
    def end_epoch(self, student: Supernet, held_out_loss: float) -> None:
        if not held_out_loss < self.best:
            return
        self.best = held_out_loss
        for mean, own in zip(self.net.parameters(), student.parameters(), strict=True):
            mean.mul_(self.taken).add_(own).div_(self.taken + 1)
        self.taken += 1

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {
            "taken": torch.tensor(self.taken),
            "best": torch.tensor(self.best, dtype=torch.float64),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        super().restore(tensors)
        self.taken, self.best = int(tensors["taken"]), float(tensors["best"])


class LastEpochTeacher(_NetworkTeacher):
    """PS-KD: the weights at the end of the last epoch."""

    def __init__(self, student: Supernet, epochs: int) -> None:
        super().__init__(student)
        self.epochs = epochs

    def target(self, photos: Tensor, maps: Tensor, epoch: int) -> Tensor:
        if epoch == 0:
            return maps
        taught = self.predict(photos, (maps.shape[1], maps.shape[2]))
        return maps + LARGEST_SHARE * (epoch + 1) / self.epochs * (taught - maps)

    def end_epoch(self, student: Supernet, held_out_loss: float) -> None:
        self.net.load_state_dict(student.state_dict())


class JointTeacher(_NetworkTeacher):
    """PKD: a second network trained in the same steps; (parameters, settings of groups) are the student's."""

    def __init__(self, student: Supernet, optimizer: torch.optim.Optimizer, clip: float, loss: str) -> None:
        super().__init__(student)
        self.net.requires_grad_(True)
        self.clip, self.loss = clip, loss
        own = dict(zip(student.parameters(), self.net.parameters(), strict=True))
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [own[p] for p in group["params"]]}
            for group in optimizer.param_groups
        ]
        self.optimizer = type(optimizer)(groups)  # type: ignore[call-arg]

    def target(self, photos: Tensor, maps: Tensor, epoch: int) -> Tensor:
        return self.predict(photos, (maps.shape[1], maps.shape[2]))

    def learn(self, photos: Tensor, maps: Tensor, counts: Tensor, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad()
        predicted = self.net(photos, self.net.space.largest(), drop_rate=DROP_RATE)
        saliency_loss(predicted, maps, counts, self.loss).mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_value_(self.net.parameters(), self.clip)
        self.optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        kept = {
            f"moment.{i}.{k}": v for i, entry in moments.items() for k, v in entry.items() if v is not None
        }
        return super().tensors() | kept

    def restore(self, tensors: dict[str, Tensor]) -> None:
        super().restore(tensors)
        state = self.optimizer.state_dict()
        for key, tensor in tensors.items():
            if key.startswith("moment."):
                _, index, name = key.split(".")
                state["state"].setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict(state)


def make_teacher(
    name: str,
    student: Supernet,
    optimizer: torch.optim.Optimizer,
    *,
    alpha: float,
    epochs: int,
    clip: float,
    loss: str,
) -> Teacher:
    """The teacher of a distillation by name; in-place needs none, since the largest subnet is in the loop."""
    if name == "self-kd":
        return SelfTeacher(student, alpha)
    if name == "ps-kd":
        return LastEpochTeacher(student, epochs)
    if name == "pkd":
        return JointTeacher(student, optimizer, clip, loss)
    return Teacher()


def as_target(predicted: Tensor, size: tuple[int, int]) -> Tensor:
    """A prediction (B, H, W) as a target (B, h, w) of `size`: detached, its maximum 1 as that of a truth."""
    maps = resize_maps(predicted.detach().float(), size)
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=_TINY)


def teacher_photos(photos: Tensor, supernet: Supernet, *, full_resolution: bool) -> Tensor:
    """Photos as the largest subnet sees them in this epoch."""
    space = supernet.space
    size = space.largest().resolution if full_resolution else min(space.resolutions)
    return resize_photos(photos, size).contiguous(memory_format=torch.channels_last)
