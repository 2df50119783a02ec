"""Statistics that are learned on: what gradients reach, and what they change."""

import numpy as np
import pytest
import torch

from supernet.calibrate import fit_statistics, measure_statistics
from supernet.learned_statistics import LearnedStatistics
from supernet.masked import masked_forward
from supernet.network import Supernet, extract
from supernet.space import get_space

TINY = get_space("tiny")


@pytest.fixture(scope="module")
def fitted() -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    photos = [torch.randn(16, 3, 64, 64)]
    fit_statistics(supernet, measure_statistics(supernet, photos, TINY.sample(np.random.default_rng(0), 12)))
    return supernet.eval()


def changed(supernet: Supernet, size: float) -> LearnedStatistics:
    learned = LearnedStatistics(supernet)
    with torch.no_grad():
        learned.change.copy_(
            size * torch.randn(learned.change.shape, generator=torch.Generator().manual_seed(1))
        )
    return learned


def back(supernet: Supernet, learned: LearnedStatistics) -> None:
    supernet.statistics = learned.fitted


def test_learning_begins_with_what_was_fitted(fitted: Supernet) -> None:
    learned = LearnedStatistics(fitted)
    learned.give(fitted)
    assert torch.equal(fitted.statistics, learned.fitted)
    assert not fitted.statistics.requires_grad


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_pass_with_gradients_equals_the_subnet_that_is_extracted(fitted: Supernet, row: int) -> None:
    arch = TINY.decode(TINY.sample(np.random.default_rng(3), 3)[row])
    photos = torch.randn(2, 3, 64, 64)
    learned = changed(fitted, 0.1)
    before = extract(fitted, arch)(photos)
    try:
        learned.lend(fitted)
        lent, masked = fitted(photos, arch), masked_forward(fitted, photos, arch)
        learned.give(fitted)
        assert (lent - before).abs().max() > 1e-3
        for found in (lent, masked):
            torch.testing.assert_close(found, extract(fitted, arch)(photos), atol=1e-5, rtol=1e-4)
    finally:
        back(fitted, learned)


def test_gradients_are_those_of_small_differences(fitted: Supernet) -> None:
    arch, photos = TINY.smallest(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    supernet = Supernet(TINY).double().eval()
    supernet.load_state_dict(fitted.state_dict())
    supernet.double()
    learned = changed(supernet, 0.0).double()

    def value() -> torch.Tensor:
        learned.lend(supernet)
        return supernet(photos, arch).square().sum()

    value().backward()  # type: ignore[no-untyped-call]
    gradient = learned.change.grad
    assert gradient is not None
    flat = gradient.abs().flatten().argsort(descending=True)[[0, 7, 50]]
    for position in flat.tolist():
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                learned.change.view(-1)[position] += step
                ends.append(float(value()))
                learned.change.view(-1)[position] -= step
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient.view(-1)[position]), rel=1e-3)


def test_one_step_of_one_subnet_changes_those_that_are_alike_most(fitted: Supernet) -> None:
    learned = changed(fitted, 0.0)
    try:
        learned.lend(fitted)
        fitted(torch.randn(4, 3, 64, 64), TINY.smallest()).mean().backward()
        assert learned.change.grad is not None
        before = [fitted.statistics_of(arch)[0].detach() for arch in (TINY.smallest(), TINY.largest())]
        with torch.no_grad():
            learned.change -= learned.change.grad
        learned.give(fitted)
        after = [fitted.statistics_of(arch)[0] for arch in (TINY.smallest(), TINY.largest())]
        own, other = ((a - b).square().sum() for a, b in zip(after, before, strict=True))
        assert own > other
    finally:
        back(fitted, learned)
