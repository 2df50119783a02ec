"""Pseudo-labels: what a teacher says, mixed with the truth, kept, and learnt from by a supernet."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import supernet.pseudo_labels as module
from supernet.checkpoint import load_supernet, save_supernet
from supernet.data.cache import TrainingCache, build_cache
from supernet.data.registry import open_dataset
from supernet.errors import CheckpointError, DataError, SettingsError
from supernet.fixed import load_net, save_net
from supernet.images import normalise
from supernet.network import Supernet, extract
from supernet.pseudo_labels import labels_of, mean_labels, mixed, taught
from supernet.space import get_space
from supernet.train import train
from supernet.train_config import TrainConfig
from supernet.train_data import load_training_data
from tests.unit.supernet.test_fixed import tiny_subnet
from tests.unit.supernet.test_train import short_config, train_in_two


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path / "cache"))


def some_photos() -> TrainingCache:
    return build_cache(open_dataset("synthetic", split="train"), (64, 64), (32, 32))


def tiny_file(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_supernet(path, Supernet(get_space("tiny")), {})
    return path


def test_a_mirrored_label_is_the_mean_over_photo_and_mirror_image() -> None:
    photos, teacher = some_photos(), tiny_subnet("max").eval()
    labels = taught(teacher, photos, mirrored=True)
    mirrored = dataclasses.replace(photos, images=np.ascontiguousarray(photos.images[..., ::-1]))
    np.testing.assert_allclose(
        taught(teacher, mirrored, mirrored=True).maps, labels.maps[..., ::-1], atol=2e-3
    )
    x = normalise(torch.from_numpy(photos.images[:3].copy()))
    with torch.inference_mode():
        mean = (teacher(x) + teacher(x.flip(-1)).flip(-1)) / 2
    small = torch.nn.functional.interpolate(mean[:, None], (32, 32), mode="bilinear", antialias=True)[:, 0]
    expected = small / small.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(labels.maps[:3], expected, atol=5e-3)
    assert not np.allclose(labels.maps, taught(teacher, photos).maps, atol=5e-3)
    assert labels.maps.max(axis=(1, 2)) == pytest.approx(1.0, abs=1e-3)
    assert not labels.counts.any()


@given(alpha=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_mixture_lies_between_truth_and_teacher(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    photos = np.zeros((2, 3, 8, 8), np.uint8)
    truth, other = (
        TrainingCache(
            photos,
            rng.random((2, 4, 4)).astype(np.float16),
            rng.integers(0, 3, (2, 4, 4)).astype(np.uint8),
            np.ones(2, bool),
            ("a", "b"),
        )
        for _ in range(2)
    )
    found = mixed(truth, other, alpha)
    expected = alpha * truth.maps.astype(float) + (1 - alpha) * other.maps.astype(float)
    np.testing.assert_allclose(found.maps, expected, atol=1e-3)
    assert found.counts is truth.counts
    np.testing.assert_allclose(mixed(other, truth, 1 - alpha).maps, found.maps, atol=2e-3)


def test_labels_of_a_supernet_are_kept_for_that_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, photos = open_dataset("synthetic", split="train"), some_photos()
    file = tiny_file(tmp_path / "a.safetensors")
    labels = labels_of(file, dataset, photos)
    loaded, _ = load_supernet(file)
    direct = taught(extract(loaded, loaded.space.largest()), photos, mirrored=True)
    np.testing.assert_allclose(labels.maps, direct.maps, atol=2e-3)
    other = labels_of(tiny_file(tmp_path / "b.safetensors", seed=1), dataset, photos)
    assert not np.allclose(other.maps, labels.maps, atol=1e-2)

    def never(path: Path) -> None:
        raise AssertionError(f"{path} teaches again")

    monkeypatch.setattr(module, "load_supernet", never)
    assert np.array_equal(labels_of(file, dataset, photos).maps, labels.maps)
    with pytest.raises(AssertionError, match="teaches again"):
        labels_of(file, dataset, photos, precision="bf16")


def test_several_teachers_say_their_mean(tmp_path: Path) -> None:
    dataset, photos = open_dataset("synthetic", split="train"), some_photos()
    subnet = tmp_path / "subnet.safetensors"
    save_net(subnet, tiny_subnet("min"), {})
    files = [tiny_file(tmp_path / "a.safetensors"), subnet]
    alone = [labels_of(file, dataset, photos).maps.astype(np.float32) for file in files]
    np.testing.assert_allclose(
        alone[1],
        taught(load_net(subnet)[0], photos, mirrored=True).maps,
        atol=2e-3,
        err_msg="a network's file",
    )
    mean = np.mean(alone, axis=0)
    labels = mean_labels(files, dataset, photos)
    np.testing.assert_allclose(labels.maps, mean / mean.max(axis=(1, 2), keepdims=True), atol=2e-3)
    assert not labels.counts.any()
    np.testing.assert_allclose(mean_labels(files[:1], dataset, photos).maps, alone[0], atol=2e-3)


def test_damaged_labels_are_named(tmp_path: Path) -> None:
    dataset, photos = open_dataset("synthetic", split="train"), some_photos()
    file = tiny_file(tmp_path / "a.safetensors")
    labels_of(file, dataset, photos)
    [kept] = (tmp_path / "cache").glob("*labels*")
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{kept.name} are damaged") as caught:
        labels_of(file, dataset, photos)
    assert "Delete the file" in str(caught.value.remedy)


def test_a_teacher_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no teacher") as caught:
        labels_of(tmp_path / "none.safetensors", open_dataset("synthetic", split="train"), some_photos())
    assert caught.value.field == "teacher"


def test_two_teachers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="would too") as caught:
        TrainConfig(teachers=(tmp_path / "a.safetensors",), distillation="self-kd")
    assert caught.value.field == "distillation"


def test_only_photos_that_train_get_labels(tmp_path: Path) -> None:
    file = tiny_file(tmp_path / "a.safetensors")
    plain = short_config(tmp_path)
    truth, truth_held_out = load_training_data(plain)
    training, held_out = load_training_data(dataclasses.replace(plain, teachers=(file,), alpha=0.25))
    labels = labels_of(file, open_dataset("synthetic", split="train"), whole_cache(plain))
    expected = 0.25 * truth.maps.astype(float) + 0.75 * labels.maps[: len(truth)].astype(float)
    np.testing.assert_allclose(training.maps, expected, atol=2e-3)
    assert np.array_equal(held_out.maps, truth_held_out.maps)
    assert np.array_equal(training.counts, truth.counts)


def whole_cache(config: TrainConfig) -> TrainingCache:
    size = max(get_space(config.space).resolutions)
    return build_cache(open_dataset("synthetic", split="train"), size, (size[0] // 3, size[1] // 3))


def test_a_supernet_that_is_taught_is_another_and_says_so(tmp_path: Path) -> None:
    file = tiny_file(tmp_path / "a.safetensors")
    config = short_config(tmp_path, epochs=1)
    config = dataclasses.replace(
        config, teachers=(file,), alpha=0.0, loss="cc+kld", out=tmp_path / "b.safetensors"
    )
    _, provenance = load_supernet(train(config))
    assert provenance["config"]["teachers"] == ["a.safetensors"]
    assert provenance["command"].endswith("--teacher a.safetensors")
    assert "--alpha 0.0" in provenance["command"]
    taught_by_truth = train(dataclasses.replace(config, teachers=(), out=tmp_path / "c.safetensors"))
    ours, theirs = load_file(config.out), load_file(taught_by_truth)
    assert any(not torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_a_training_with_a_teacher_resumes_with_that_teacher_alone(tmp_path: Path) -> None:
    file = tiny_file(tmp_path / "a.safetensors")
    whole = dataclasses.replace(short_config(tmp_path / "whole"), teachers=(file,))
    cut = dataclasses.replace(whole, out=tmp_path / "cut" / "tiny.safetensors")
    ours, theirs = load_file(train(whole, resume=False)), load_file(train_in_two(cut, epochs=1))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    tiny_file(file, seed=1)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(cut)


def test_a_teacher_is_not_needed_once_its_labels_are_there(tmp_path: Path) -> None:
    file = tiny_file(tmp_path / "a.safetensors")
    config = dataclasses.replace(short_config(tmp_path / "short", epochs=1), teachers=(file,))

    def lose(what: str, done: int, total: int) -> None:
        if what.startswith("epoch"):
            file.unlink(missing_ok=True)

    assert train(config, progress=lose).exists()
    assert not file.exists()
