"""Statistics measured and fitted."""

import numpy as np
import pytest
import torch
from torch import nn

from supernet.calibrate import (
    MeasuredStatistics,
    _before,
    fit_statistics,
    measure_statistics,
    recalibrate,
)
from supernet.network import SaliencyNet, Supernet, extract, gene_features
from supernet.space import get_space

TINY, SALNAS = get_space("tiny"), get_space("salnas")


def batches(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 3, 64, 64, generator=generator) for _ in range(count)]


def test_recalibration_on_one_batch_equals_batch_statistics() -> None:
    torch.manual_seed(0)
    net = SaliencyNet(TINY.largest()).train()
    photos = batches(1)
    with torch.no_grad():
        expected = net(photos[0])
        found = recalibrate(net, photos)(photos[0])
    # Stored variances are the unbiased ones; batch norm divides by the biased ones.
    assert (expected - found).abs().max() < 0.02


def test_recalibration_returns_a_new_module() -> None:
    net = SaliencyNet(TINY.smallest()).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fresh = recalibrate(net, batches(1))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not fresh.training
    assert net.training


def log_variances(net: SaliencyNet) -> torch.Tensor:
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    return torch.cat([m.running_var.log() for m in norms if m.running_var is not None])


def test_fitted_statistics_come_close_to_measured_ones() -> None:
    """On subnets that the fit has not seen, far closer than those of the mean subnet."""
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    photos = batches()
    rng = np.random.default_rng(0)
    measured = measure_statistics(supernet, photos, TINY.sample(rng, 60))
    fit_statistics(supernet, measured, ridge=0.1)
    unseen = measure_statistics(supernet, photos, TINY.sample(rng, 10))
    mean = np.sum(measured.values, axis=0) / np.maximum(measured.present.sum(axis=0), 1)
    fitted_error, mean_error = [], []
    for row, present, values in zip(unseen.rows, unseen.present, unseen.values, strict=True):
        fitted = torch.stack(supernet.statistics_of(TINY.decode_many(row[None])[0])).numpy()
        fitted_error.append(np.abs(fitted - values)[:, present].mean())
        mean_error.append(np.abs(mean - values)[:, present].mean())
    assert sum(fitted_error) < 0.6 * sum(mean_error)


def test_what_is_measured_is_what_recalibration_gives() -> None:
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    rows = TINY.sample(np.random.default_rng(1), 3)
    measured = measure_statistics(supernet, batches(), rows)
    for arch, present, values in zip(TINY.decode_many(rows), measured.present, measured.values, strict=True):
        net = recalibrate(extract(supernet, arch), batches())
        assert values[1, present] == pytest.approx(log_variances(net).numpy(), abs=1e-4)
        assert not values[:, ~present].any()


@pytest.mark.parametrize(
    ("norm", "seen"),
    [
        ("stem.bn", {"resolution", "stem.width"}),
        ("stages.0.0.depthwise.bn", {"resolution", "stem.width", "mb1.width", "mb1.kernel"}),
        ("last.bn", {gene.name for gene in SALNAS.genes}),
        ("decoder.2.bn", {gene.name for gene in SALNAS.genes}),
    ],
)
def test_statistics_depend_on_what_lies_before_them(norm: str, seen: set[str]) -> None:
    before = _before(SALNAS, norm)
    genes = before[1 : 1 + len(SALNAS.genes)]
    assert {gene.name for gene, on in zip(SALNAS.genes, genes, strict=True) if on} == seen
    assert before.sum() == 1 + len(seen) + len(seen) * (len(seen) - 1) / 2
    assert norm in Supernet(SALNAS).norm_spans


def test_a_function_of_genes_and_pairs_is_fitted_exactly_but_for_the_ridge() -> None:
    """As long as it has no more directions than are kept."""
    supernet = Supernet(TINY)
    rng = np.random.default_rng(2)
    rows = TINY.sample(rng, 200)
    z = gene_features(TINY, rows)
    channels = supernet.statistics.shape[-1]
    values = np.zeros((200, 2, channels), np.float32)
    values += (0.3 + 0.5 * z[:, 1] - 0.2 * z[:, 2] + 0.1 * z[:, 1] * z[:, 2])[:, None, None]
    fit_statistics(supernet, MeasuredStatistics(rows, np.ones((200, channels), bool), values), ridge=1e-6)
    for arch, expected in zip(TINY.decode_many(rows[:20]), values[:20, 0, 0], strict=True):
        mean, log_variance = supernet.statistics_of(arch)
        assert mean.numpy() == pytest.approx(expected, abs=0.01)
        assert log_variance.numpy() == pytest.approx(expected, abs=0.01)
