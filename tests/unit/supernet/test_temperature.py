"""One temperature sharpens or flattens the maps of all subnets."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from supernet.checkpoint import load_supernet
from supernet.data.cache import TrainingCache, batches
from supernet.images import resize_photos
from supernet.losses import saliency_loss
from supernet.network import Supernet, extract
from supernet.space import Arch, get_space
from supernet.temperature import fit_temperature
from supernet.train import train
from supernet.train_config import TrainConfig
from supernet.train_data import load_training_data

TINY = get_space("tiny")
ROWS = np.stack([np.zeros_like(TINY.sizes), TINY.sizes - 1])
LAST = f"weights.decoder.{len(Supernet(TINY).weights.decoder) - 1}.bn"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainConfig]:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALNAS_CACHE", str(folder / "cache"))
        config = TrainConfig(
            data=("synthetic",),
            space="tiny",
            out=folder / "tiny.safetensors",
            epochs=3,
            full_resolution_epochs=1,
            frozen_epochs=0,
            batch_size=8,
            held_out=24,
            statistics_subnets=8,
            threads=1,
        )
        train(config)
        yield config


@pytest.fixture(scope="module")
def held_out(config: TrainConfig) -> TrainingCache:
    return load_training_data(config)[1]


def sharpened(config: TrainConfig, factor: float) -> Supernet:
    supernet, _ = load_supernet(config.out)
    with torch.no_grad():
        for tensor in supernet.weights.decoder[-1].get_submodule("bn").parameters():
            tensor.mul_(factor)
    return supernet


def mean_loss(supernet: Supernet, arch: Arch, photos: TrainingCache) -> float:
    net = extract(supernet, arch).eval()
    losses = []
    with torch.inference_mode():
        for batch in batches(photos, 8, augment=False):
            maps = net(resize_photos(batch.images, net.resolution))
            losses.append(saliency_loss(maps, batch.maps, batch.counts))
    return float(torch.cat(losses).mean())


def test_the_loss_on_held_out_photos_goes_down_and_no_other_tensor_moves(
    config: TrainConfig, held_out: TrainingCache
) -> None:
    supernet = sharpened(config, 0.6)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    archs = TINY.decode_many(ROWS)
    lost = sum(mean_loss(supernet, arch, held_out) for arch in archs)
    found = fit_temperature(supernet, ROWS, held_out)
    after = supernet.state_dict()
    assert sum(mean_loss(supernet, arch, held_out) for arch in archs) < lost
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{LAST}.weight", f"{LAST}.bias"}
    for name in changed:
        assert after[name] == pytest.approx(before[name] / found)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.5])
def test_maps_that_were_sharpened_are_flattened_by_as_much(
    config: TrainConfig, held_out: TrainingCache, factor: float
) -> None:
    plain = sharpened(config, 1.0)
    best = fit_temperature(plain, ROWS, held_out)
    assert fit_temperature(sharpened(config, factor), ROWS, held_out) == pytest.approx(
        factor * best, rel=0.01
    )
    assert fit_temperature(plain, ROWS, held_out) == pytest.approx(1.0, abs=0.01)


def test_training_ends_with_a_fitted_temperature(config: TrainConfig) -> None:
    assert 0.5 <= load_supernet(config.out)[1]["temperature"] <= 2.0


def test_progress_is_told_subnet_by_subnet(config: TrainConfig, held_out: TrainingCache) -> None:
    told: list[tuple[int, int]] = []
    fit_temperature(sharpened(config, 1.0), ROWS, held_out, progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
