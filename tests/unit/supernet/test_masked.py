"""Masked execution equals sliced execution, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from supernet.masked import masked_forward
from supernet.network import Supernet
from supernet.space import Arch, get_space


def random_supernet(space: str) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(get_space(space))
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if ".bn." in name:
                # γ and β of zero would hide a channel that should not be there.
                parameter.copy_(torch.rand_like(parameter) + 0.5)
        supernet.statistics.normal_(std=0.05)
    return supernet


def gradients(supernet: Supernet, output: Tensor) -> dict[str, Tensor]:
    supernet.zero_grad()
    weights = torch.linspace(0, 1, output.numel()).view_as(output)
    (output * weights).sum().backward()  # type: ignore[no-untyped-call]
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in supernet.named_parameters()
    }


def check(supernet: Supernet, arch: Arch, x: Tensor) -> None:
    sliced = supernet(x, arch)
    expected = gradients(supernet, sliced)
    masked = masked_forward(supernet, x, arch)
    found = gradients(supernet, masked)
    torch.testing.assert_close(masked, sliced, atol=1e-5, rtol=1e-4)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max()) + 1e-6
        torch.testing.assert_close(found[name], gradient, atol=2e-3 * scale, rtol=1e-2, msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_masked_equals_sliced(training: bool) -> None:
    supernet = random_supernet("tiny").double().train(training)
    space = supernet.space
    rows = np.vstack([space.sample(np.random.default_rng(1), 5), 0 * space.sizes, space.sizes - 1])
    x = torch.randn(3, 3, 64, 64, dtype=torch.double)
    for arch in space.decode_many(rows):
        check(supernet, arch, x)


@pytest.mark.parametrize("seed", [0, 1])
def test_masked_equals_sliced_in_the_published_space(seed: int) -> None:
    supernet = random_supernet("salnas").train()
    space = supernet.space
    x = torch.randn(2, 3, 64, 64)
    arch = space.smallest() if seed == 0 else space.decode(space.sample(np.random.default_rng(seed), 1)[0])
    with torch.no_grad():
        torch.testing.assert_close(masked_forward(supernet, x, arch), supernet(x, arch), atol=1e-4, rtol=1e-3)


def test_shapes_depend_on_depth_alone() -> None:
    supernet = random_supernet("tiny").train()
    space = supernet.space
    seen = set()
    rows = space.sample(np.random.default_rng(0), 20)
    depths = [i for i, gene in enumerate(space.genes) if gene.name.endswith("depth")]
    rows[:, depths] = 1
    for arch in space.decode_many(rows):
        shapes: list[torch.Size] = []
        hook = torch.nn.modules.module.register_module_forward_hook(
            lambda module, inputs, output, shapes=shapes: shapes.append(inputs[0].shape)
        )
        masked_forward(supernet, torch.randn(2, 3, 64, 64), arch)
        hook.remove()
        seen.add(tuple(shapes))
    assert len(seen) == 1
