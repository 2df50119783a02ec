"""Losses agree with the exact metrics and keep gradients finite."""

import pytest
import torch

from supernet.losses import cc_loss, kld_loss, nss_loss, saliency_loss
from supernet.metrics import cc, kld, nss


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(4, 24, 32, generator=generator) + 0.01
    maps = torch.rand(4, 24, 32, generator=generator) ** 4 + 1e-4
    counts = (torch.rand(4, 24, 32, generator=generator) > 0.97).float()
    return predicted, maps, counts


def test_equal_to_the_metrics() -> None:
    predicted, maps, counts = example()
    assert torch.allclose(1 - cc_loss(predicted, maps), cc(predicted, maps).float(), atol=1e-4)
    assert torch.allclose(kld_loss(predicted, maps), kld(predicted, maps).float(), atol=1e-3)
    scores = nss(predicted, counts).float()
    assert torch.allclose(nss_loss(predicted, counts), 1 - torch.sigmoid(scores), atol=1e-3)


def test_photos_without_fixations_do_not_count() -> None:
    predicted, _, counts = example()
    assert nss_loss(predicted, torch.zeros_like(counts)).abs().max() == 0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_predictions_have_finite_gradients(value: float) -> None:
    _, maps, counts = example()
    predicted = torch.full_like(maps, value, requires_grad=True)
    (gradient,) = torch.autograd.grad(saliency_loss(predicted, maps, counts).sum(), predicted)
    assert torch.isfinite(gradient).all()
