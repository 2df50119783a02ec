"""A network that never saw fixations begins with the logits of the truths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet import workshop
from supernet.baselines.registry import ReferenceNet, build
from supernet.finetune import FinetuneConfig
from supernet.images import normalise
from supernet.network import SaliencyNet
from supernet.workshop import settle
from tests.unit.supernet.test_finetune import blobs
from tests.unit.supernet.test_fixed import tiny_subnet


@pytest.mark.parametrize("kind", ["subnet", "fastsal-a", "csnet-x1-fixations"])
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


def test_without_labels_they_begin_where_the_maps_of_the_teacher_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps of a folder of photos are flat, and would leave the last layer with nothing to learn from."""
    from_teacher, seen = blobs(4, (32, 32)), []
    photos = replace(from_teacher, maps=np.ones_like(from_teacher.maps))

    class Stop(Exception):
        pass

    def settled(net: object, training: object) -> None:
        seen.append(training)
        raise Stop

    monkeypatch.setattr(workshop, "training_photos", lambda job, net: (photos, photos))
    monkeypatch.setattr(workshop, "open_teacher", lambda job: object())
    monkeypatch.setattr(workshop, "taught", lambda teacher, training, progress: from_teacher)
    monkeypatch.setattr(workshop, "starting_net", lambda job: (build("fastsal-a", None), ()))
    monkeypatch.setattr(workshop, "settle", settled)
    with pytest.raises(Stop):
        workshop.run_job(
            workshop.Job("fastsal-a", Path("x.safetensors"), targets="teacher"), FinetuneConfig()
        )
    assert seen == [from_teacher]
