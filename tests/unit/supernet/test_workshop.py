"""A network that never saw fixations begins with the logits of the truths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet import workshop
from supernet.baselines.registry import ReferenceNet, build
from supernet.data.cache import Mixture
from supernet.data.registry import open_dataset
from supernet.errors import SettingsError
from supernet.finetune import FinetuneConfig
from supernet.images import normalise
from supernet.network import SaliencyNet
from supernet.space import get_space
from supernet.workshop import settle
from tests.unit.supernet.test_finetune import blobs
from tests.unit.supernet.test_fixed import tiny_subnet


@pytest.mark.parametrize("kind", ["subnet", "fastsal-a", "csnet-x1-fixations", "efficientnet-lite2"])
def test_logits_begin_where_the_truths_are(kind: str) -> None:
    torch.manual_seed(0)
    net: SaliencyNet | ReferenceNet = tiny_subnet("min") if kind == "subnet" else build(kind, None)
    photos = blobs(16, net.resolution)
    settle(net, photos)
    truths = np.asarray(photos.maps, np.float64).clip(0.01, 0.99)
    expected = np.log(truths / (1 - truths))
    with torch.no_grad():
        if kind in ("subnet", "efficientnet-lite2"):
            net.train()  # batch norms lie before the last layer
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


def test_several_data_sets_are_mixed_and_the_first_one_holds_photos_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path))
    monkeypatch.setattr(workshop, "get_space", lambda name: get_space("tiny"))
    job = workshop.Job(
        "fastsal-a",
        tmp_path / "x.safetensors",
        data="synthetic",
        more_data=("synthetic",),
        data_weights=(3.0, 1.0),
        epoch_photos=40,
        held_out=4,
    )
    training, held_out = workshop.training_photos(job, build("fastsal-a", None))
    assert isinstance(training, Mixture)
    photos = len(open_dataset("synthetic", split="train"))
    assert [len(cache) for cache in training.caches] == [photos - 4, photos]
    assert (len(training), training.weights, len(held_out)) == (40, (0.75, 0.25), 4)
    assert not set(training.caches[0].names) & set(held_out.names)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"more_data": ("mit1003",), "targets": "both"}, "targets"),
        ({"epoch_photos": 100, "targets": "teacher"}, "targets"),
        ({"epoch_photos": 0}, "epoch_photos"),
        ({"more_data": ("ecssd",)}, "data"),
        ({"more_data": ("mit1003",), "data_weights": (1.0,)}, "data_weights"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        workshop.Job("fastsal-a", Path("x.safetensors"), **settings)
    assert caught.value.field == field
