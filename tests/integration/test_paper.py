"""The benchmark of the paper's tables, at its smallest: the settings of a GPU on a tiny space and planted photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.paper import SETS, Part, Scale, run, scale_of, table_of, variants
from supernet.data.folder import write_folder
from supernet.data.registry import open_dataset


@pytest.fixture
def scale(tmp_path: Path) -> Scale:
    published = scale_of("gpu", "cpu", None, tmp_path).base
    tiny = replace(
        published,
        data=("synthetic",),
        space="tiny",
        epochs=1,
        full_resolution_epochs=1,
        batch_size=4,
        epoch_photos=8,
        held_out=4,
        precision="fp32",
        statistics_subnets=1,
        threads=1,
    )
    return Scale(tiny, 1, dict.fromkeys(SETS, "synthetic"), (24, 32))


@pytest.mark.slow
def test_a_training_is_scored_once_and_kept(scale: Scale, tmp_path: Path) -> None:
    rows = {(variant.table, variant.name): variant for variant in variants(scale)}
    further = rows["transfer", "dut_omron, after another set"]
    found = run(further, 0, scale, tmp_path)
    assert np.isfinite([found["cc"], found["kld"], found["nss"], found["sim"], found["auc"]]).all()
    assert run(further, 0, scale, tmp_path) == found
    assert len(list(tmp_path.glob("*.safetensors"))) == 2, "the training before it, and its own"
    table = table_of({(further.table, further.name): [found, found]})
    assert table["± CC"].tolist() == [0.0]
    assert table["reported CC"].tolist() == [0.796]


def test_a_gpu_meets_few_shapes_when_it_trains_as_published(scale: Scale) -> None:
    assert {variant.config.execution for variant in variants(scale)} == {"masked"}


def test_a_set_of_maps_is_made_small_with_its_maps(tmp_path: Path) -> None:
    stimuli, maps = tmp_path / "large" / "stimuli", tmp_path / "large" / "maps"
    for folder in (stimuli, maps):
        folder.mkdir(parents=True)
        Image.linear_gradient("L").resize((400, 300)).save(folder / "one.png")
    write_folder(Part(open_dataset(tmp_path / "large", split="all"), 1), tmp_path / "small")
    small = open_dataset(tmp_path / "small", split="all")[0]
    assert small.density is not None
    assert small.density.shape == small.size == (120, 160)
    assert (np.diff(small.density.mean(axis=1)) > 0).all()
