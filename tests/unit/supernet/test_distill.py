"""FastSal's losses against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.distill import binary_loss, hint_loss, probability_loss, pseudo_label_loss
from supernet.errors import DataError


def maps(seed: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 99))
def test_hint_loss_sums_mean_squares_of_layers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(2, 3, 4, 4), (2, 5, 2, 2)]
    student, teacher = ([rng.normal(size=s) for s in shapes] for _ in range(2))
    expected = sum(((a - b) ** 2).mean(axis=(1, 2, 3)) for a, b in zip(student, teacher, strict=True))
    loss = hint_loss([torch.tensor(a) for a in student], [torch.tensor(b) for b in teacher])
    np.testing.assert_allclose(loss.numpy(), expected)
    assert hint_loss([torch.tensor(student[0])], [torch.tensor(student[0])]).tolist() == [0, 0]


@given(seed=st.integers(0, 99))
def test_pseudo_labels_and_truth_add_up(seed: int) -> None:
    logits, teacher, truth = maps(seed) * 8 - 4, maps(seed + 1), maps(seed + 2)
    p = 1 / (1 + np.exp(-logits.numpy()))

    def entropy(y: torch.Tensor) -> np.ndarray:
        p_y: np.ndarray = -(y.numpy() * np.log(p) + (1 - y.numpy()) * np.log(1 - p)).mean(axis=(1, 2))
        return p_y

    np.testing.assert_allclose(binary_loss(logits, truth).numpy(), entropy(truth))
    np.testing.assert_allclose(pseudo_label_loss(logits, teacher).numpy(), entropy(teacher))
    both = pseudo_label_loss(logits, teacher, truth).numpy()
    np.testing.assert_allclose(both, entropy(teacher) + entropy(truth))


@given(seed=st.integers(0, 99))
def test_probability_loss_is_equation_3(seed: int) -> None:
    logits, teacher = maps(seed) * 8 - 4, maps(seed + 1)
    teacher = teacher / teacher.sum((1, 2), keepdim=True)
    z, y = logits.numpy(), teacher.numpy()
    g = np.exp(z) / np.exp(z).sum(axis=(1, 2), keepdims=True)
    low, high = y.min(axis=(1, 2), keepdims=True), y.max(axis=(1, 2), keepdims=True)
    f, s = (y - low) / (high - low), 1 / (1 + np.exp(-z))
    divergence = (y * np.log(y / g)).sum(axis=(1, 2))
    norms = np.sqrt((y**2).sum(axis=(1, 2))) * np.sqrt((g**2).sum(axis=(1, 2)))
    cosine = (y * g).sum(axis=(1, 2)) / norms
    entropy = -(f * np.log(s) + (1 - f) * np.log(1 - s)).mean(axis=(1, 2))
    np.testing.assert_allclose(probability_loss(logits, teacher).numpy(), divergence + 1 - cosine + entropy)


def test_the_right_distribution_costs_only_its_cross_entropy() -> None:
    logits = maps(3) * 4
    teacher = logits.flatten(1).softmax(1).view_as(logits)
    stretched = (teacher - teacher.amin((1, 2), True)) / (
        teacher.amax((1, 2), True) - teacher.amin((1, 2), True)
    )
    torch.testing.assert_close(probability_loss(logits, teacher), binary_loss(logits, stretched))


@pytest.mark.parametrize("loss", [binary_loss, pseudo_label_loss, probability_loss])
def test_gradients_reach_the_student_alone_and_stay_finite_on_flat_maps(loss: object) -> None:
    assert callable(loss)
    logits = torch.zeros(2, 5, 7, requires_grad=True)
    teacher = torch.full((2, 5, 7), 1 / 35, requires_grad=True)
    loss(logits, teacher).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert teacher.grad is None


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="equal shapes"):
        binary_loss(torch.zeros(1, 4, 4), torch.zeros(1, 2, 2))
    with pytest.raises(DataError, match="equal shapes"):
        hint_loss([torch.zeros(1, 3, 4, 4)], [torch.zeros(1, 4, 4, 4)])
    with pytest.raises(DataError, match="number of feature maps"):
        hint_loss([torch.zeros(1, 3, 4, 4)], [])
