"""Statistics measured and fitted."""

import numpy as np
import torch
from torch import nn

from supernet.calibrate import fit_statistics, recalibrate
from supernet.network import SaliencyNet, Supernet, extract
from supernet.space import get_space

TINY = get_space("tiny")


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


def test_fitted_statistics_come_close_to_measured_ones() -> None:
    """On subnets that the fit has not seen, far closer than those of the mean subnet."""
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    photos = batches()
    rng = np.random.default_rng(0)
    fit_statistics(supernet, photos, TINY.sample(rng, 60), ridge=0.1)

    def log_variances(net: SaliencyNet) -> torch.Tensor:
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        return torch.cat([m.running_var.log() for m in norms if m.running_var is not None])

    fitted_error, mean_error = [], []
    constant = Supernet(TINY)
    constant.load_state_dict(supernet.state_dict())
    constant.statistics[:, 1:] = 0
    for arch in TINY.decode_many(TINY.sample(rng, 10)):
        measured = log_variances(recalibrate(extract(supernet, arch), photos))
        fitted_error.append((log_variances(extract(supernet, arch)) - measured).abs().mean())
        mean_error.append((log_variances(extract(constant, arch)) - measured).abs().mean())
    assert sum(fitted_error) < 0.5 * sum(mean_error)
