"""Costs are exact: fvcore, torch's own parameter count, and the published oracles."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.cost import cost, layer_table
from supernet.errors import InvalidArch
from supernet.network import SaliencyNet
from supernet.space import Arch, get_space, list_spaces

SALNAS = get_space("salnas")


def conv_macs(net: SaliencyNet) -> int:
    analysis = FlopCountAnalysis(net.eval(), torch.zeros(1, 3, *net.resolution))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analysis.by_operator()["conv"])


def test_published_oracles() -> None:
    rows = np.stack([SALNAS.encode(SALNAS.largest()), SALNAS.encode(SALNAS.smallest())])
    costs = cost(SALNAS, rows)
    assert costs.macs.tolist() == [3_802_380_288, 548_766_208]
    assert costs.parameters.tolist() == [20_446_210, 6_237_858]


@pytest.mark.parametrize(("name", "count"), [("salnas", 12), ("tiny", 20)])
def test_equal_to_fvcore_and_torch(name: str, count: int) -> None:
    compare_with_fvcore(name, count, seed=0)


@pytest.mark.slow
def test_equal_to_fvcore_on_200_subnets() -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:  # fvcore takes most of a second for each
        assert list(pool.map(compare_with_fvcore, ["salnas"] * 2, [100] * 2, [1, 2])) == [None, None]


def compare_with_fvcore(name: str, count: int, seed: int) -> None:
    space = get_space(name)
    rows = space.sample(np.random.default_rng(seed), count)
    costs = cost(space, rows)
    for index, arch in enumerate(space.decode_many(rows)):
        net = SaliencyNet(arch)
        assert conv_macs(net) == costs.macs[index]
        assert sum(p.numel() for p in net.parameters()) == costs.parameters[index]


@pytest.mark.parametrize("name", list_spaces())
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_tables_equal_the_sum_over_layers(name: str, seed: int) -> None:
    space = get_space(name)
    rows = space.sample(np.random.default_rng(seed), 3)
    costs = cost(space, rows)
    for index, arch in enumerate(space.decode_many(rows)):
        layers = layer_table(space, arch)
        assert sum(layer.macs for layer in layers) == costs.macs[index]
        assert sum(layer.parameters for layer in layers) == costs.parameters[index]
        assert max(layer.live for layer in layers) * 4 == costs.memory_bytes[index]


def live_bytes(net: SaliencyNet) -> int:
    """Peak of the activations alive at once, counted from the tensors that a forward pass really makes."""
    sizes: list[int] = []

    def record(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        sizes.append(inputs[0].numel() + output.numel())

    handles = [m.register_forward_hook(record) for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, *net.resolution))
    for handle in handles:
        handle.remove()
    return 4 * max(sizes)


@pytest.mark.parametrize("arch", [SALNAS.smallest(), SALNAS.largest(), SALNAS.parse_arch("random:3")])
def test_memory_covers_what_a_forward_pass_makes(arch: Arch) -> None:
    """Input and output of the widest convolution are a lower bound; taps and shortcuts add at most as much again."""
    peak = int(cost(SALNAS, SALNAS.encode(arch)[None]).memory_bytes[0])
    largest_pair = live_bytes(SaliencyNet(arch))
    assert largest_pair <= peak <= 2 * largest_pair


@given(seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=30)
def test_a_larger_choice_never_costs_less(seed: int, data: st.DataObject) -> None:
    rows = SALNAS.sample(np.random.default_rng(seed), 1)
    gene = data.draw(st.integers(0, len(SALNAS.genes) - 1))
    pair = np.repeat(rows, 2, axis=0)
    pair[:, gene] = [0, SALNAS.sizes[gene] - 1]
    costs = cost(SALNAS, pair)
    name = SALNAS.genes[gene].name
    # A wider stage can turn its successor's shortcut from a kernel into an identity.
    if not name.endswith("width"):
        assert costs.macs[0] < costs.macs[1]
        assert costs.parameters[0] <= costs.parameters[1]
        assert costs.memory_bytes[0] <= costs.memory_bytes[1]


def test_rows_outside_the_space_are_refused() -> None:
    with pytest.raises(InvalidArch):
        cost(SALNAS, np.full((1, 27), 9, dtype=np.int64))
