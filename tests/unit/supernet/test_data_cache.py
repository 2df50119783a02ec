"""Decoded data sets and the batches drawn from them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from supernet.data.cache import TrainingCache, batches, build_cache, cache_root, mix
from supernet.data.files import MapDataset
from supernet.data.sample import Sample
from supernet.data.synthetic import SyntheticDataset, synthetic
from supernet.errors import DataError

IMAGE, MAP = (48, 64), (24, 32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TrainingCache:
    return build_cache(synthetic(10), IMAGE, MAP, tmp_path_factory.mktemp("cache"))


def test_a_cache_holds_what_the_set_holds(cache: TrainingCache) -> None:
    dataset = synthetic(10)
    assert cache.names == dataset.names
    assert cache.images.shape == (10, 3, *IMAGE)
    assert cache.maps.shape == cache.counts.shape == (10, *MAP)
    assert cache.has_fixations.all()
    for i in range(10):
        sample = dataset[i]
        assert sample.fixations is not None
        assert cache.counts[i].sum() == len(sample.fixations)
        small = np.asarray(Image.fromarray(sample.image).resize((64, 48), Image.Resampling.BILINEAR))
        assert (cache.images[i] == small.transpose(2, 0, 1)).all()
        assert cache.maps[i].max() == 1


def test_a_cache_is_built_once_and_again_when_the_data_change(tmp_path: Path) -> None:
    first = build_cache(synthetic(4), IMAGE, MAP, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = build_cache(synthetic(4), IMAGE, MAP, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written
    assert (first.images == second.images).all()
    assert isinstance(second.images, np.memmap)
    for other in (synthetic(4, seed=1), synthetic(5)):
        build_cache(other, IMAGE, MAP, tmp_path)
    build_cache(synthetic(4), MAP, MAP, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


class Failing(SyntheticDataset):
    def __getitem__(self, index: int, /) -> Sample:
        if index == 2:
            raise DataError("photo 2 is broken", field="file")
        return super().__getitem__(index)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="photo 2"):
        build_cache(Failing((0, 1, 2, 3)), IMAGE, MAP, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    build_cache(synthetic(2), IMAGE, MAP, tmp_path)
    folder = next(tmp_path.iterdir())
    (folder / "maps.npy").write_bytes(b"")
    with pytest.raises(DataError, match="Delete the folder"):
        build_cache(synthetic(2), IMAGE, MAP, tmp_path)


def test_the_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("SALNAS_CACHE")
    assert cache_root().name == "salnas"


def test_sets_without_points_have_zero_counts(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((30, 40), 90, np.uint8)).save(tmp_path / "m.png")
    dataset = MapDataset("maps", "all", (tmp_path / "a.png",), (tmp_path / "m.png",))
    built = build_cache(dataset, IMAGE, MAP, tmp_path / "cache")
    assert not built.counts.any()
    assert not built.has_fixations.any()
    batch = next(batches(built, 4, np.random.default_rng(0)))
    assert not batch.counts.any()
    assert torch.isfinite(batch.maps).all()


def test_masks_cannot_train(tmp_path: Path) -> None:
    class Masks(SyntheticDataset):
        def __getitem__(self, index: int, /) -> Sample:
            return replace(super().__getitem__(index), density=None, fixations=None)

    with pytest.raises(DataError, match="no saliency map"):
        build_cache(Masks((0, 1)), IMAGE, MAP, tmp_path)


def test_plain_batches_are_the_samples_in_order(cache: TrainingCache) -> None:
    drawn = list(batches(cache, 4, augment=False))
    assert [len(batch.images) for batch in drawn] == [4, 4, 2]
    images = torch.cat([batch.images for batch in drawn])
    expected = torch.from_numpy(np.array(cache.images)).float() / 127.5 - 1
    torch.testing.assert_close(images, expected)
    assert images.dtype == torch.float32
    torch.testing.assert_close(drawn[0].maps, torch.from_numpy(np.array(cache.maps[:4])).float())
    assert len(list(batches(cache, 4, augment=False, drop_last=True))) == 2


def test_a_generator_shuffles_and_repeats(cache: TrainingCache) -> None:
    def draw(seed: int, augment: bool) -> torch.Tensor:
        rng = np.random.default_rng(seed)
        return torch.cat([batch.images for batch in batches(cache, 4, rng, augment=augment)])

    for augment in (False, True):
        assert torch.equal(draw(0, augment), draw(0, augment))
        assert not torch.equal(draw(0, augment), draw(1, augment))
    plain = torch.from_numpy(np.array(cache.images)).float() / 127.5 - 1
    assert Counter(draw(0, False).sum((1, 2, 3)).tolist()) == Counter(plain.sum((1, 2, 3)).tolist())


def test_batches_refuse_nonsense(cache: TrainingCache) -> None:
    with pytest.raises(DataError, match="generator"):
        next(batches(cache, 4))
    with pytest.raises(DataError, match="at least 1"):
        next(batches(cache, 0, np.random.default_rng(0)))


def planted(x: int, y: int) -> TrainingCache:
    """Many copies of one photo: a white square on black, the map and the point at the same place."""
    images = np.zeros((64, 3, *MAP), np.uint8)
    maps = np.zeros((64, *MAP), np.float16)
    counts = np.zeros((64, *MAP), np.uint8)
    images[:, :, y - 1 : y + 2, x - 1 : x + 2] = 255
    maps[:, y - 1 : y + 2, x - 1 : x + 2] = 1
    counts[:, y, x] = 3
    return TrainingCache(images, maps, counts, np.ones(64, bool), tuple(map(str, range(64))))


@pytest.mark.parametrize(("x", "y"), [(8, 6), (24, 17), (16, 12)])
def test_photo_map_and_points_move_together(x: int, y: int) -> None:
    batch = next(batches(planted(x, y), 64, np.random.default_rng(1)))
    height, width = MAP
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for image, density, counts in zip(*batch, strict=True):
        assert counts.sum() == 3
        point = torch.nonzero(counts)[0]
        light = (image[0] - image.min()).clamp_min(0)
        light = torch.where(light > 0.3 * light.max(), light, 0)
        for plane in (light, density):
            centre = torch.stack([(rows * plane).sum(), (columns * plane).sum()]) / plane.sum()
            assert (centre - point).abs().max() < 1.0
    places = {tuple(torch.nonzero(counts)[0].tolist()) for counts in batch.counts}
    assert len(places) > 4


def test_crops_never_lose_all_points() -> None:
    corner = planted(1, 1)
    for seed in range(3):
        batch = next(batches(corner, 64, np.random.default_rng(seed)))
        assert (batch.counts.sum((1, 2)) == 3).all()
        assert (batch.maps.amax((1, 2)) > 0).all()


def test_photos_that_are_not_cropped_are_mirrored_at_most() -> None:
    whole = planted(8, 6)
    batch = next(batches(whole, 64, np.random.default_rng(0), smallest_crop=1.0))
    mirrored = whole.counts[0, :, ::-1]
    seen = {tuple(map(tuple, counts)) for counts in batch.counts.numpy().astype(int)}
    assert seen == {tuple(map(tuple, plane.astype(int))) for plane in (whole.counts[0], mirrored)}


def test_augmented_photos_stay_in_range(cache: TrainingCache) -> None:
    for batch in batches(cache, 5, np.random.default_rng(0)):
        assert batch.images.min() >= -1
        assert batch.images.max() <= 1
        assert batch.maps.min() >= 0
        assert batch.maps.max() <= 1
        assert batch.images.shape[1:] == (3, *IMAGE)


def test_mixtures_follow_their_weights(tmp_path: Path) -> None:
    small = build_cache(synthetic(5), IMAGE, MAP, tmp_path)
    large = build_cache(synthetic(20, seed=1), IMAGE, MAP, tmp_path)
    mixture = mix([small, large], [3, 1], length=400)
    positions = mixture.epoch(np.random.default_rng(0))
    assert len(positions) == len(mixture) == 400
    assert 260 < (positions < 5).sum() < 340
    seen = Counter(positions.tolist())
    assert max(seen[i] for i in range(5)) - min(seen[i] for i in range(5)) <= 1
    images, maps, counts = mixture.take(np.array([0, 5, 24, 4]))
    assert (images[0] == small.images[0]).all()
    assert (images[1] == large.images[0]).all()
    assert (maps[2] == large.maps[19]).all()
    assert (counts[3] == small.counts[4]).all()
    assert len(mix([small, large])) == 25
    assert mix([small, large]).epoch(None).tolist() == list(range(25))
    assert sum(len(batch.images) for batch in batches(mixture, 64, np.random.default_rng(0))) == 400


@pytest.mark.parametrize("weights", [[1], [0, 0], [-1, 2], [float("nan"), 1]])
def test_mixtures_refuse_nonsense(cache: TrainingCache, weights: list[float]) -> None:
    with pytest.raises(DataError, match="weight"):
        mix([cache, cache], weights)


def test_mixtures_need_one_size(cache: TrainingCache, tmp_path: Path) -> None:
    other = build_cache(synthetic(2), MAP, MAP, tmp_path)
    with pytest.raises(DataError, match="image_size"):
        mix([cache, other])
    with pytest.raises(DataError):
        mix([])


FULL_DISK = """
import resource, signal
from pathlib import Path
from supernet.data.cache import build_cache
from supernet.data.synthetic import synthetic
from supernet.errors import DataError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    build_cache(synthetic(10), (48, 64), (24, 32), Path("cache"))
except DataError as error:
    print(error)
"""


def test_a_full_disk_is_told_before_anything_is_decoded(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "cannot be kept" in told.stdout
    assert "SALNAS_CACHE" in told.stdout
    assert list((tmp_path / "cache").iterdir()) == []


class _Counted:
    """A source that says what was read of it, and breaks at a position."""

    def __init__(self, source: TrainingCache, breaks_at: int = -1) -> None:
        self.source, self.breaks_at, self.read = source, breaks_at, list[int]()
        self.second = threading.Event()

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, generator: np.random.Generator | None) -> npt.NDArray[np.int64]:
        return self.source.epoch(generator)

    def take(
        self, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
        self.read += positions.tolist()
        if len(self.read) > len(positions):
            self.second.set()
        if self.breaks_at in positions:
            raise OSError("unreadable")
        return self.source.take(positions)


def test_one_batch_is_read_ahead_and_no_more(cache: TrainingCache) -> None:
    source = _Counted(cache)
    drawn = batches(source, 2, augment=False)
    assert isinstance(drawn, Generator)
    next(drawn)
    assert source.second.wait(60), "the second batch is read before it is asked for"
    drawn.close()
    assert source.read == [0, 1, 2, 3]


def test_an_error_of_the_batch_ahead_is_raised_where_that_batch_is_due(cache: TrainingCache) -> None:
    drawn = batches(_Counted(cache, breaks_at=4), 2, augment=False)
    assert [len(next(drawn).images) for _ in range(2)] == [2, 2]
    with pytest.raises(OSError, match="unreadable"):
        next(drawn)
