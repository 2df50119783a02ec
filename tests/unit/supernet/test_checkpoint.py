"""Checkpoints: whole, tied to their space, refused where damaged or foreign."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from supernet.calibrate import fit_statistics, measure_statistics
from supernet.checkpoint import file_fingerprint, load_supernet, read_tensors, save_supernet
from supernet.errors import CheckpointError
from supernet.network import FITTED, Supernet, extract
from supernet.space import get_space

TINY = get_space("tiny")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    torch.nn.init.normal_(supernet.statistics, std=0.1)
    target = tmp_path / "tiny.safetensors"
    save_supernet(target, supernet, {"data": ["synthetic"]}, dtype=torch.float32)
    return target


def test_a_supernet_comes_back_as_it_was(path: Path) -> None:
    torch.manual_seed(0)
    original = Supernet(TINY)
    torch.nn.init.normal_(original.statistics, std=0.1)
    loaded, provenance = load_supernet(path)
    photos = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = extract(original.eval(), TINY.largest())(photos)
        assert torch.equal(extract(loaded, TINY.largest())(photos), expected)
    assert provenance == {"data": ["synthetic"]}


def test_statistics_that_were_fitted_come_back(tmp_path: Path) -> None:
    supernet = Supernet(TINY).eval()
    rng = np.random.default_rng(0)
    photos = [torch.randn(16, 3, 64, 64)]
    fit_statistics(supernet, measure_statistics(supernet, photos, TINY.sample(rng, 7)))
    save_supernet(tmp_path / "tiny.safetensors", supernet, {}, dtype=torch.float32)
    loaded, _ = load_supernet(tmp_path / "tiny.safetensors")
    for arch in TINY.decode_many(TINY.sample(rng, 3)):
        assert torch.equal(torch.stack(loaded.statistics_of(arch)), torch.stack(supernet.statistics_of(arch)))


def test_statistics_of_genes_alone_as_in_earlier_files_are_read(path: Path) -> None:
    metadata, tensors = read_tensors(path)
    tensors["support"] = tensors["support"][:, : len(TINY.genes)].clone()
    save_file(tensors, path, metadata)
    loaded, _ = load_supernet(path)
    assert loaded.support.shape[1] == len(TINY.genes)
    assert loaded(torch.zeros(1, 3, 64, 64), TINY.largest()).isfinite().all()


@pytest.mark.parametrize("name", FITTED)
def test_statistics_whose_parts_do_not_fit_together_are_refused(path: Path, name: str) -> None:
    metadata, tensors = read_tensors(path)
    tensors[name] = torch.zeros(*tensors[name].shape[:-1], tensors[name].shape[-1] + 1)
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="lacks tensors"):
        load_supernet(path)


def test_half_precision_changes_maps_little(path: Path, tmp_path: Path) -> None:
    loaded, _ = load_supernet(path)
    save_supernet(tmp_path / "half.safetensors", loaded, {})
    half, _ = load_supernet(tmp_path / "half.safetensors")
    photos = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        change = loaded(photos, TINY.largest()) - half(photos, TINY.largest())
    assert change.abs().max() < 5e-3
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * path.stat().st_size


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no supernet at"):
        load_supernet(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_truncated_file(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or foreign"):
        load_supernet(path)


def test_foreign_files(path: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="not a supernet"):
        load_supernet(foreign)
    metadata = {"format": "salnas-supernet-1", "space": "tiny", "space_fingerprint": "0" * 16}
    save_file({"x": torch.zeros(1)}, foreign, metadata)
    with pytest.raises(CheckpointError, match="other choices"):
        load_supernet(foreign)
    save_file({"x": torch.zeros(1)}, foreign, metadata | {"space_fingerprint": TINY.fingerprint})
    with pytest.raises(CheckpointError, match="lacks tensors"):
        load_supernet(foreign)


def test_the_fingerprint_is_of_the_content(path: Path) -> None:
    before = file_fingerprint(path)
    path.write_bytes(path.read_bytes() + b" ")
    assert file_fingerprint(path) != before
