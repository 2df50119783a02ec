from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from supernet.training_state import optimizer_tensors, part, restore_optimizer


def step(weights: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    weights.square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize(
    ("kind", "options", "moments"),
    [
        (torch.optim.SGD, {}, 0),
        (torch.optim.SGD, {"momentum": 0.9}, 1),
        (torch.optim.Adam, {}, 3),
    ],
)
def test_an_optimizer_goes_on_where_it_was(
    kind: Callable[..., torch.optim.Optimizer], options: dict[str, float], moments: int
) -> None:
    weights = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = kind([weights], lr=0.1, **options)
    step(weights, optimizer)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    assert len(saved) == moments
    again = weights.detach().clone().requires_grad_()
    restored = kind([again], lr=0.1, **options)
    restore_optimizer(restored, {**saved, "net.weight": torch.zeros(1)})
    step(weights, optimizer)
    step(again, restored)
    assert torch.equal(again, weights)


def test_a_part_is_named_by_what_follows_its_prefix() -> None:
    tensors = {"net.a": torch.zeros(1), "net.net.b": torch.ones(1), "network.c": torch.ones(2)}
    assert part(tensors, "net.") == {"a": tensors["net.a"], "net.b": tensors["net.net.b"]}
