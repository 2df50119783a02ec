"""One definition: the supernet on slices, the extracted module, several threads, both modes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from supernet.layers import centre
from supernet.network import SaliencyNet, Supernet, decoder_widths, extract
from supernet.space import Arch, get_space

TINY = get_space("tiny")
SALNAS = get_space("salnas")


def random_supernet(name: str, seed: int = 0) -> Supernet:
    """Random weights and random statistics, so that a wrong slice of either shows."""
    torch.manual_seed(seed)
    supernet = Supernet(get_space(name))
    torch.nn.init.normal_(supernet.statistics, std=0.05)
    for module in supernet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    return supernet


def difference(supernet: Supernet, arch: Arch, photos: torch.Tensor) -> float:
    with torch.no_grad():
        return float((supernet(photos, arch) - extract(supernet, arch)(photos)).abs().max())


@pytest.mark.parametrize("training", [False, True])
def test_forward_equals_the_extracted_module_on_64_subnets(training: bool) -> None:
    supernet = random_supernet("salnas").train(training)
    photos = torch.randn(2, 3, 64, 64)
    rows = SALNAS.sample(np.random.default_rng(0), 64)
    assert max(difference(supernet, arch, photos) for arch in SALNAS.decode_many(rows)) <= 1e-5


def test_threads_do_not_disturb_each_other() -> None:
    supernet = random_supernet("tiny").eval()
    photos = torch.randn(1, 3, 32, 32)
    archs = TINY.decode_many(TINY.sample(np.random.default_rng(1), 64))
    with torch.no_grad():
        alone = [extract(supernet, arch)(photos) for arch in archs]

    def run(arch: Arch) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = supernet(photos, arch)
        return result

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, archs))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alone, together, strict=True))


def test_gradients_reach_exactly_the_weights_of_the_subnet() -> None:
    supernet = random_supernet("tiny").train()
    arch = TINY.smallest()
    name = "stages.1.0.expand.conv.weight"
    used = len(dict(extract(supernet, arch).named_parameters())[name])
    shared = dict(supernet.weights.named_parameters())[name]
    (gradient,) = torch.autograd.grad(supernet(torch.randn(2, 3, 32, 32), arch).mean(), shared)
    assert gradient[:used].abs().sum() > 0
    assert gradient[used:].abs().sum() == 0


def test_training_leaves_the_stored_statistics_alone() -> None:
    supernet = random_supernet("tiny").train()
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    supernet(torch.randn(4, 3, 32, 32), TINY.largest())
    assert all(torch.equal(before[k], v) for k, v in supernet.state_dict().items())


def test_decoder_halves_share_their_channels() -> None:
    """The skip half of a narrow subnet is the start of the skip half of the widest, not the end of its other half."""
    supernet = random_supernet("salnas")
    name = "decoder.1.conv.weight"
    small = dict(extract(supernet, SALNAS.smallest()).named_parameters())[name]
    up, skip, out = decoder_widths(SALNAS.smallest())[1]
    up_stored = decoder_widths(SALNAS.largest())[1][0]
    stored = dict(supernet.weights.named_parameters())[name]
    assert torch.equal(small[:, up:], stored[:out, up_stored : up_stored + skip])


def test_a_small_kernel_is_the_centre_of_the_large_one() -> None:
    kernel = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert centre(kernel, 3).flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]


@pytest.mark.parametrize("name", ["salnas", "tiny"])
def test_maps_have_the_size_of_the_photo_and_values_from_0_to_1(name: str) -> None:
    arch = get_space(name).smallest()
    net = SaliencyNet(arch).eval()
    with torch.no_grad():
        saliency = net(torch.randn(3, 3, *arch.resolution))
    assert saliency.shape == (3, *arch.resolution)
    assert 0 <= saliency.min() <= saliency.max() <= 1


def test_drop_connect_acts_in_training_only() -> None:
    net = SaliencyNet(TINY.largest(), drop_rate=0.5)
    photos = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(net.train()(photos), net(photos))
        assert torch.equal(net.eval()(photos), net(photos))
