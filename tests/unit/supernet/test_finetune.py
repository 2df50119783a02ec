"""One trainer for every fixed network: it learns, resumes exactly, distils, and lets channels fade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.data.cache import TrainingCache
from supernet.distill import binary_loss, pseudo_label_loss
from supernet.errors import CheckpointError, DataError, SettingsError
from supernet.finetune import (
    FinetuneConfig,
    features,
    finetune,
    folder_photos,
    held_out_cc,
)
from supernet.network import SaliencyNet
from supernet.prune import watched_layers
from supernet.pseudo_labels import mixed, taught
from supernet.space import get_space
from tests.unit.supernet.test_fixed import small_csnet, tiny_subnet

CONFIG = FinetuneConfig(epochs=4, batch_size=4, threads=1, learning_rate=0.02)


def blobs(n: int, size: tuple[int, int] = (64, 64)) -> TrainingCache:
    """Photos with one bright square each, and maps that are high there."""
    rng = np.random.default_rng(0)
    half = (size[0] // 2, size[1] // 2)
    images = rng.integers(0, 60, (n, 3, *size)).astype(np.uint8)
    maps = np.zeros((n, *half), np.float16)
    counts = np.zeros((n, *half), np.uint8)
    for i in range(n):
        y, x = rng.integers(0, size[0] - 16), rng.integers(0, size[1] - 16)
        images[i, :, y : y + 16, x : x + 16] = 250
        maps[i, y // 2 : y // 2 + 8, x // 2 : x // 2 + 8] = 1
        counts[i, y // 2 + 4, x // 2 + 4] = 3
    return TrainingCache(images, maps, counts, np.ones(n, np.bool_), tuple(map(str, range(n))))


def test_a_subnet_learns_from_truths() -> None:
    net, photos = tiny_subnet("min"), blobs(24)
    history = finetune(net, photos, replace(CONFIG, epochs=4, learning_rate=0.05), held_out=photos)
    assert history[-1].loss < history[0].loss - 0.1
    assert history[-1].held_out_cc == pytest.approx(held_out_cc(net, photos))
    assert not net.training


def test_photos_are_cropped_as_far_as_the_settings_say() -> None:
    losses = {
        crop: finetune(tiny_subnet("min"), blobs(8), replace(CONFIG, epochs=1, smallest_crop=crop))[0].loss
        for crop in (0.2, 1.0)
    }
    assert losses[0.2] != losses[1.0]
    with pytest.raises(SettingsError, match=r"smallest_crop is 1\.2"):
        replace(CONFIG, smallest_crop=1.2)


def test_a_csnet_learns_masks() -> None:
    net, photos = small_csnet(), blobs(24, (32, 48))
    config = replace(CONFIG, loss="binary", optimizer="adam", learning_rate=0.01, decay="dynamic")
    history = finetune(net, photos, config)
    assert history[-1].loss < history[0].loss - 0.1


def test_dynamic_decay_shrinks_scales_more_than_none() -> None:
    sizes = {}
    for strength in (0.0, 3.0):
        net = tiny_subnet("min")
        finetune(net, blobs(12), replace(CONFIG, decay="dynamic", strength=strength, augment=False))
        scales = [norm.weight.detach().abs().mean() for norm in watched_layers(net)]
        sizes[strength] = float(torch.stack(scales).mean())
    assert sizes[3.0] < 0.95 * sizes[0.0]


def test_a_resumed_training_is_the_same(tmp_path: Path) -> None:
    photos = blobs(8)
    whole = tiny_subnet("min")
    teacher = tiny_subnet("max")
    config = replace(CONFIG, epochs=2, hint_epochs=1, optimizer="adam", learning_rate=1e-3)
    finetune(whole, photos, config, teacher=teacher, state=tmp_path / "whole.state")

    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if what == "epoch 3 of 3":
            raise Stopped

    part = tiny_subnet("min")
    with pytest.raises(Stopped):
        finetune(part, photos, config, teacher=teacher, state=tmp_path / "part.state", progress=stop)
    again = tiny_subnet("min")
    history = finetune(again, photos, config, teacher=teacher, state=tmp_path / "part.state")
    assert [report.phase for report in history] == ["hint", "map", "map"]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    with pytest.raises(CheckpointError, match="another configuration"):
        finetune(again, photos, replace(config, seed=1), teacher=teacher, state=tmp_path / "part.state")


def test_hints_bring_features_to_the_teacher() -> None:
    net, teacher = tiny_subnet("min"), tiny_subnet("max")
    config = replace(CONFIG, epochs=1, hint_epochs=5)
    history = finetune(net, blobs(16), config, teacher=teacher)
    assert history[4].loss < 0.9 * history[0].loss
    assert history[0].held_out_cc is None


def test_features_have_four_scales() -> None:
    sizes = [f.shape[2:] for f in features(tiny_subnet(), torch.zeros(1, 3, 64, 64))]
    assert sizes == [(32, 32), (16, 16), (8, 8), (4, 4)]
    with pytest.raises(SettingsError, match="no hints"):
        features(small_csnet(), torch.zeros(1, 3, 32, 32))


def test_a_student_comes_near_its_teacher_without_labels(tmp_path: Path) -> None:
    from PIL import Image

    source = blobs(16)
    for i, image in enumerate(source.images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{i:02}.png")
    photos = folder_photos(tmp_path, (64, 64))
    assert np.array_equal(photos.images, source.images)
    teacher = tiny_subnet("max")
    finetune(teacher, source, replace(CONFIG, epochs=6))
    labelled = taught(teacher, photos)
    assert labelled.maps.max(axis=(1, 2)) == pytest.approx(1.0, abs=1e-3)
    student = SaliencyNet(get_space("tiny").smallest())
    before = held_out_cc(student, labelled)
    finetune(student, labelled, replace(CONFIG, epochs=6))
    assert held_out_cc(student, labelled) > before + 0.2
    with pytest.raises(DataError):
        folder_photos(tmp_path / "none", (64, 64))


def test_the_mean_target_stands_for_both_losses() -> None:
    """FastSal adds the cross-entropies with truth and teacher; here it is one with their mean, twice as small."""
    truth = blobs(3)
    other = replace(truth, maps=truth.maps[::-1].copy())
    logits = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    a, b, both = (torch.from_numpy(c.maps).float() for c in (truth, other, mixed(truth, other)))
    torch.testing.assert_close(2 * binary_loss(logits, both), pseudo_label_loss(logits, b, a))


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("loss", "l2"), ("decay", "fast"), ("learning_rate", 0.0), ("batch_size", 1)],
)
def test_nonsense_is_refused(field: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(CONFIG, **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_what_is_missing_is_told() -> None:
    with pytest.raises(SettingsError, match="teacher"):
        finetune(tiny_subnet(), blobs(8), replace(CONFIG, hint_epochs=1))
    with pytest.raises(SettingsError, match="too few"):
        finetune(tiny_subnet(), blobs(3), CONFIG)
