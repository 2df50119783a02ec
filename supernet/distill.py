"""Losses that teach a small network from a larger one.

Source: Hu and McGuinness, "FastSal", ICPR 2020, equations 1 to 3. Logits are (B, H, W), what a sigmoid or a
softmax over pixels turns into a map; every loss is (B,), not negative, lower better. No gradient passes to a
teacher. Raises DataError where shapes differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.errors import DataError

_TINY = 1e-12


def hint_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of feature maps (B, C_l, h_l, w_l), summed over the layers l; 0 where equal."""
    if len(student) != len(teacher) or not student:
        raise DataError(
            "Student and teacher must show the same number of feature maps.",
            field="student",
            value=[len(student), len(teacher)],
            remedy="Adapt each layer of the student to one of the teacher.",
        )
    total = torch.zeros(student[0].shape[0], device=student[0].device)
    for own, other in zip(student, teacher, strict=True):
        _check_shapes(own, other)
        total = total + (own - other.detach()).square().mean(dim=(1, 2, 3))
    return total


def binary_loss(logits: Tensor, maps: Tensor) -> Tensor:
    """Mean over pixels of the binary cross-entropy against maps (B, H, W) in [0, 1]."""
    _check_shapes(logits, maps)
    return F.binary_cross_entropy_with_logits(logits, maps.detach(), reduction="none").mean(dim=(1, 2))


def pseudo_label_loss(logits: Tensor, teacher: Tensor, truth: Tensor | None = None) -> Tensor:
    """`binary_loss` against the teacher's map in [0, 1] plus, for labelled photos, against the true one."""
    loss = binary_loss(logits, teacher)
    return loss if truth is None else loss + binary_loss(logits, truth)


def probability_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """For a teacher that gives a distribution over pixels, (B, H, W) summing to 1: KL + (1 − cosine) + BCE.

    The student's distribution is the softmax of its logits; the cross-entropy is between its sigmoid and the
    teacher's map stretched to [0, 1].
    """
    _check_shapes(logits, teacher)
    target = teacher.detach().flatten(1)
    log_student = torch.log_softmax(logits.flatten(1), dim=1)
    divergence = (target * ((target + _TINY).log() - log_student)).sum(dim=1)
    distance = 1 - F.cosine_similarity(log_student.exp(), target, dim=1, eps=_TINY)
    return divergence + distance + binary_loss(logits, _stretch(target).view_as(logits))


def _stretch(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    return (maps - low) / (high - low).clamp_min(_TINY)


def _check_shapes(own: Tensor, other: Tensor) -> None:
    if own.shape != other.shape:
        raise DataError(
            "Student and teacher must have equal shapes.",
            field="shape",
            value=[list(own.shape), list(other.shape)],
            remedy="Resize the teacher's output to the student's.",
        )
