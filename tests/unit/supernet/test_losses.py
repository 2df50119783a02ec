"""Losses agree with the exact metrics and keep gradients finite."""

import pytest
import torch

from supernet.losses import LOSSES, auc_loss, cc_loss, kld_loss, nss_loss, saliency_loss, sim_loss
from supernet.metrics import auc_judd, cc, kld, nss, sim


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
    assert torch.allclose(1 - sim_loss(predicted, maps), sim(predicted, maps).float(), atol=1e-4)
    scores = nss(predicted, counts).float()
    assert torch.allclose(nss_loss(predicted, counts), 1 - torch.sigmoid(scores), atol=1e-3)


def test_photos_without_fixations_do_not_count() -> None:
    predicted, _, counts = example()
    assert nss_loss(predicted, torch.zeros_like(counts)).abs().max() == 0
    assert auc_loss(predicted, torch.zeros_like(counts)).abs().max() == 0


def test_the_soft_area_is_close_to_the_exact_one_and_can_be_climbed() -> None:
    predicted, maps, counts = example()
    better = 0.3 * predicted + torch.nn.functional.avg_pool2d(counts[:, None], 3, 1, 1)[:, 0]
    for prediction in (predicted, better, maps):
        exact = auc_judd(prediction, counts).float()
        assert torch.allclose(1 - auc_loss(prediction, counts), exact, atol=0.03)
    climbing = predicted.clone().requires_grad_(True)
    before = auc_judd(predicted, counts).mean()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(auc_loss(climbing, counts).sum(), climbing)
        climbing = (climbing - 30 * gradient).detach().requires_grad_(True)
    assert auc_judd(climbing.detach(), counts).mean() > before + 0.02


@pytest.mark.parametrize("combination", LOSSES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_predictions_have_finite_gradients(value: float, combination: str) -> None:
    _, maps, counts = example()
    predicted = torch.full_like(maps, value, requires_grad=True)
    (gradient,) = torch.autograd.grad(saliency_loss(predicted, maps, counts, combination).sum(), predicted)
    assert torch.isfinite(gradient).all()
