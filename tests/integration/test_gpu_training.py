"""The benchmark of training steps on a GPU, on a stand-in for one."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu_training import bytes_of, random_batch, step_seconds
from supernet.masked import masked_forward
from supernet.network import Supernet
from supernet.space import get_space
from tests.fixtures.elsewhere import other_device


def test_a_step_updates_the_supernet_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    space = get_space("tiny")
    supernet = Supernet(space).train()
    before = {name: weight.detach().clone() for name, weight in supernet.named_parameters()}
    with other_device(monkeypatch) as device:
        there = Supernet(space).train()
        there.load_state_dict(supernet.state_dict())
        there.to(device)
        optimizer = torch.optim.SGD(there.parameters(), lr=0.1)
        batch = random_batch(2, space.largest().resolution, device)
        archs = [space.largest(), space.smallest()]
        seconds = step_seconds(
            lambda x, arch, drop: masked_forward(there, x, arch, drop_rate=drop), archs, batch, optimizer
        )
        after = {name: weight.detach().cpu() for name, weight in there.named_parameters()}
        assert bytes_of(there, space.largest(), batch.images) > bytes_of(
            there, space.smallest(), batch.images
        )
    assert seconds > 0
    assert any(not torch.equal(before[name], weight) for name, weight in after.items())
