"""A network with a random decoder begins with the logits of the truths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supernet.baselines.registry import ReferenceNet, build
from supernet.images import normalise
from supernet.network import SaliencyNet
from supernet.workshop import settle
from tests.unit.supernet.test_finetune import blobs
from tests.unit.supernet.test_fixed import tiny_subnet


@pytest.mark.parametrize("kind", ["subnet", "fastsal-a"])
def test_logits_begin_where_the_truths_are(kind: str) -> None:
    torch.manual_seed(0)
    net: SaliencyNet | ReferenceNet = tiny_subnet("min") if kind == "subnet" else build(kind, None)
    photos = blobs(16, net.resolution)
    settle(net, photos)
    truths = np.asarray(photos.maps, np.float64).clip(0.01, 0.99)
    expected = np.log(truths / (1 - truths))
    with torch.no_grad():
        if kind == "subnet":
            net.train()  # its last layer is a batch norm
        logits = torch.logit(net(normalise(torch.from_numpy(photos.images))).double(), eps=1e-9)
    assert float(logits.mean()) == pytest.approx(expected.mean(), abs=0.3)
    assert float(logits.std()) == pytest.approx(expected.std(), rel=0.25)
