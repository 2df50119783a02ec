"""Statistics measured and fitted."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from supernet.calibrate import (
    MeasuredStatistics,
    _part,
    fit_statistics,
    measure_statistics,
    on_more_photos,
    recalibrate,
)
from supernet.network import SaliencyNet, Supernet, extract, similarities, traits_before
from supernet.space import get_space

TINY, SALNAS = get_space("tiny"), get_space("salnas")
TRAITS = [*(gene.name for gene in SALNAS.genes), "mb1 = stem", "mb2 = mb1", "mb3 = mb2", "mb7 = mb6"]


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
    fit_statistics(supernet, measured, ridge=0.01)
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


def test_statistics_in_bf16_come_close_to_those_in_fp32() -> None:
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    rows = TINY.sample(np.random.default_rng(1), 3)
    found = {
        precision: measure_statistics(supernet, batches(), rows, precision=precision)
        for precision in ("fp32", "bf16")
    }
    exact, close = (found[precision].values for precision in ("fp32", "bf16"))
    assert not np.array_equal(exact, close)
    deviations = np.exp(0.5 * exact[:, 1])
    assert np.median(np.abs(close - exact)[:, 0] / deviations) < 0.01
    assert np.median(np.abs(close - exact)[:, 1]) < 0.02


@pytest.mark.parametrize(
    ("norm", "seen"),
    [
        ("stem.bn", {"resolution", "stem.width"}),
        ("stages.0.0.depthwise.bn", {"resolution", "stem.width", "mb1.width", "mb1.kernel", "mb1 = stem"}),
        ("last.bn", set(TRAITS)),
        ("decoder.2.bn", set(TRAITS)),
    ],
)
def test_statistics_depend_on_what_lies_before_them(norm: str, seen: set[str]) -> None:
    assert {TRAITS[j] for j in traits_before(SALNAS)[_part(norm)]} == seen
    assert norm in Supernet(SALNAS).norm_spans


def test_a_smooth_function_of_genes_is_fitted_closely() -> None:
    def truth(genotypes: np.ndarray) -> np.ndarray:
        z = 2.0 * genotypes / (TINY.sizes - 1) - 1.0
        return np.asarray(0.3 + 0.5 * z[:, 0] - 0.2 * z[:, 1] + 0.1 * z[:, 0] * z[:, 1])

    supernet, first = Supernet(TINY), next(iter(Supernet(TINY).norm_spans))
    expected, found = said_of_unseen(supernet, first, truth)
    start, end = supernet.norm_spans[first]
    assert np.abs(found[:, :, start:end] - expected).max() <= 0.01
    assert found[:, :, end:] == pytest.approx(0.0, abs=0.01)


def test_what_an_identity_shortcut_changes_is_fitted_closely() -> None:
    def truth(genotypes: np.ndarray) -> np.ndarray:
        return np.asarray(0.3 + 0.2 * TINY.identity_shortcuts(genotypes)[:, 0])

    supernet = Supernet(TINY)
    expected, found = said_of_unseen(supernet, "last.bn", truth)
    assert np.ptp(expected) > 0.1
    assert np.abs(found[:, :, slice(*supernet.norm_spans["last.bn"])] - expected).max() <= 0.01


def test_what_more_photos_change_in_some_subnets_is_changed_in_all() -> None:
    """By as much in channels that all have, and by what it is of the genes before a channel."""
    supernet, rng = Supernet(TINY), np.random.default_rng(4)
    rows = TINY.sample(rng, 120)
    channels = supernet.statistics.shape[-1]
    present = rng.random((120, channels)) < 0.9
    values = rng.normal(size=(120, 2, channels)).astype(np.float32) * present[:, None]
    first = next(iter(supernet.norm_spans.values()))
    change = np.full((120, 2, channels), 0.2)
    change[:, 0, slice(*first)] = 0.1 * (2.0 * rows[:, :1] / (TINY.sizes[0] - 1) - 1.0)
    expected = (values + change) * present[:, None]
    few = MeasuredStatistics(rows, present, values)
    more = MeasuredStatistics(rows[:40], present[:40], expected[:40].astype(np.float32))
    found = on_more_photos(supernet, few, more)
    assert found.values == pytest.approx(expected, abs=0.01)
    assert found.values.dtype == np.float32
    assert few.values is values
    assert not np.array_equal(values, found.values)


def said_of_unseen(
    supernet: Supernet, norm: str, truth: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Of 20 unseen subnets, the `truth` of their genotypes (20, 1, 1), and the statistics (20, 2, channels) of a
    supernet that was fitted to 200 with that truth in the channels of `norm`."""
    rng = np.random.default_rng(2)
    rows, unseen = TINY.sample(rng, 200), TINY.sample(rng, 20)
    channels = supernet.statistics.shape[-1]
    values = np.zeros((200, 2, channels), np.float32)
    values[:, :, slice(*supernet.norm_spans[norm])] = truth(rows)[:, None, None]
    fit_statistics(supernet, MeasuredStatistics(rows, np.ones((200, channels), bool), values))
    found = [torch.stack(supernet.statistics_of(arch)).numpy() for arch in TINY.decode_many(unseen)]
    return truth(unseen)[:, None, None], np.stack(found)


def test_files_that_know_of_genes_alone_say_what_they_said() -> None:
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    rng = np.random.default_rng(3)
    support, rows = TINY.sample(rng, 5), TINY.sample(rng, 4)
    x, other = (2.0 * r / (TINY.sizes - 1) - 1.0 for r in (rows, support))
    features = similarities(TINY, rows, support)
    assert features.shape == (4, 1 + 9 * 5)
    everything = np.exp(-0.5 * np.square(x[:, None] - other).sum(axis=2) / 8.0**2)
    assert features[:, -5:] == pytest.approx(everything)
    supernet.support = torch.from_numpy(support).float()
    supernet.projection = torch.randn(1 + 9 * 5, 3)
    supernet.statistics = torch.randn(2, 3, supernet.statistics.shape[-1])
    mean, _ = supernet.statistics_of(TINY.decode(rows[0]))
    expected = torch.from_numpy(features[0]).float() @ supernet.projection @ supernet.statistics[0]
    assert mean.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
