"""What int8 costs in accuracy, on a made-up data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from predictors.collect import LastPhotos
from service.cli import run
from service.losses import NO_PHOTOS, accuracy_loss
from service.workbench import Workbench
from supernet.data.registry import open_dataset
from supernet.evaluate import evaluate
from supernet.runtime import onnx_session
from tests.fixtures.tiny import TINY, write_data, write_photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed in range(4):
        write_photo(tmp_path / "photos" / f"{seed}.png", seed=seed)
    return tmp_path / "photos"


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path / "data" / "osie", 12)
    monkeypatch.setenv("SALNAS_DATA", str(tmp_path / "data"))


def exported(here: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    words = ["export", "min", "--out", "min.onnx", "--precision", "int8", "--photos", str(photos)]
    assert run([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["accuracy_loss"]
    return found


@pytest.mark.usefixtures("labelled")
def test_the_loss_is_that_of_the_file_on_held_out_photos(
    here: Path, photos: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exported(here, photos, capsys)
    bench = Workbench.open(results, TINY)
    net = bench.net(bench.space.smallest())
    train = open_dataset("osie", split="train")
    chosen = LastPhotos(train, len(train))
    session = onnx_session(here / "min.onnx")

    def predict(images: torch.Tensor) -> torch.Tensor:
        pixels = np.rint((images.numpy() + 1) * 127.5).astype(np.uint8)
        return torch.from_numpy(session.run(None, {"image": pixels})[0])

    expected = {"fp32": evaluate(net, chosen), "int8": evaluate(predict, chosen, resolution=net.resolution)}
    assert (found["photos"], found["data"], found["reason"]) == (len(train), "osie", None)
    for name, evaluation in expected.items():
        for metric, value in found[name].items():
            assert value == pytest.approx(getattr(evaluation.scores, metric), abs=1e-4), metric
    assert found["fp32"] != found["int8"]
    assert found["loss"]["cc"] == found["fp32"]["cc"] - found["int8"]["cc"]
    assert found["loss"]["kld"] == found["int8"]["kld"] - found["fp32"]["kld"]


@pytest.mark.usefixtures("labelled")
def test_the_loss_is_shown(here: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "min", "--out", "min.onnx", "--precision", "int8", "--photos", str(photos)]
    assert run(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "accuracy CC" in said
    assert "photos of osie" in said


def test_without_labelled_photos_the_reason_is_told(
    here: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SALNAS_DATA", str(here / "none"))
    found = exported(here, photos, capsys)
    assert (found["photos"], found["loss"], found["reason"]) == (0, None, NO_PHOTOS)


def test_damaged_photos_are_no_photos(
    here: Path, photos: Path, labelled: None, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(here, photos, capsys)
    for path in (here / "data" / "osie" / "stimuli").iterdir():
        path.write_bytes(b"no photo")
    bench = Workbench.open(results, TINY)
    assert accuracy_loss(bench.net(bench.space.smallest()), here / "min.onnx")["reason"] == NO_PHOTOS
