"""Reference models from the command line: listed, trained, distilled, used and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from service import cli
from supernet.checkpoint import save_supernet
from supernet.fixed import save_net
from supernet.network import Supernet
from supernet.space import get_space
from tests.unit.supernet.test_fixed import small_csnet

pytestmark = pytest.mark.usefixtures("_results")


@pytest.fixture
def _results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    (tmp_path / "supernets").mkdir()
    save_supernet(tmp_path / "supernets" / "tiny.safetensors", Supernet(get_space("tiny")), {})
    monkeypatch.setenv("SALNAS_RESULTS", str(tmp_path))
    monkeypatch.setenv("SALNAS_SUPERNET", "tiny")


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Six photos of a bright square with its mask."""
    rng = np.random.default_rng(0)
    for part in ("stimuli", "masks"):
        (tmp_path / "squares" / part).mkdir(parents=True)
    for i in range(6):
        photo = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        y, x = rng.integers(0, 24), rng.integers(0, 40)
        photo[y : y + 20, x : x + 20], mask[y : y + 20, x : x + 20] = 240, 255
        Image.fromarray(photo).save(tmp_path / "squares" / "stimuli" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "squares" / "masks" / f"{i}.png")
    return tmp_path / "squares"


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    models = {model["id"]: model for model in ask(capsys, "models")["models"]}
    assert models["csnet-x2"]["parameters"] == 140_894
    assert models["fastsal-c"]["parameters"] == 2_574_049
    assert models["fastsal-a"]["weights"] == "random"
    assert cli.run(["models"]) == 0
    assert "csnet-x1" in capsys.readouterr().out


def test_a_terminal_of_80_columns_shows_every_cell_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    measured = Path(__file__).parents[3] / "results" / "models" / "measured.json"
    (tmp_path / "models" / "measured.json").write_bytes(measured.read_bytes())
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["models"]) == 0
    shown = capsys.readouterr().out
    assert "csnet-x1-fixations" in shown
    assert "published" in shown
    assert "…" not in shown


def test_a_model_without_weights_says_how_to_train_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", "--model", "fastsal-a", "--out", "x.onnx"]) == cli.BAD_INPUT
    assert "salnas finetune fastsal-a" in capsys.readouterr().err
    assert cli.run(["export", "--out", "x.onnx"]) == cli.BAD_INPUT
    assert "one of them" in capsys.readouterr().err


def test_an_object_detector_from_training_to_masks(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_net(tmp_path / "start.safetensors", small_csnet(), {})
    out = str(tmp_path / "csnet.safetensors")
    words = ["finetune", str(tmp_path / "start.safetensors"), "--data", str(masks), "--held-out", "2"]
    card = ask(
        capsys,
        *words,
        "--loss",
        "binary",
        "--epochs",
        "2",
        "--batch-size",
        "2",
        "--decay",
        "dynamic",
        "--out",
        out,
    )
    assert card["training_photos"] == 4
    assert card["scores"][f"{masks}, last 2"]["n"] == 2
    assert "--decay dynamic" in card["command"]
    again = ["finetune", out, *words[2:], "--loss", "binary", "--prune", "1.0", "--epochs", "1"]
    pruned = ask(capsys, *again, "--batch-size", "2", "--out", str(tmp_path / "pruned.safetensors"))
    assert pruned["parameters"] < card["parameters"]
    scored = ask(capsys, "evaluate", "--model", out, "--data", str(masks))
    assert scored["photos"] == 6
    assert 0 <= scored["scores"]["mae"] <= 1
    exported = ask(capsys, "export", "--model", out, "--out", str(tmp_path / "c.onnx"))
    assert exported["parity_error"] < 1e-4
    photo = masks / "stimuli" / "0.png"
    pixels = np.asarray(Image.open(photo).resize((48, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[
        None
    ]
    session = onnxruntime.InferenceSession(str(tmp_path / "c.onnx"))
    assert session.run(None, {"image": pixels})[0].shape == (1, 32, 48)


def test_a_published_model_writes_masks(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.models.open_model", lambda name, results: small_csnet())
    photo = masks / "stimuli" / "0.png"
    found = ask(capsys, "predict", str(photo), "--model", "csnet-x2", "--out", str(tmp_path / "maps"))
    mask = np.asarray(Image.open(found["predictions"][0]["mask"]))
    assert mask.shape == (48, 64)
    assert mask.dtype == np.uint8
    raw = np.load(found["predictions"][0]["map"])
    assert np.abs(mask / 255 - raw).max() <= 0.5 / 255 + 1e-6


def test_a_subnet_is_distilled_from_photos_alone(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.safetensors"
    words = ["--photos", str(masks / "stimuli"), "--epochs", "1", "--hint-epochs", "1", "--batch-size", "2"]
    card = ask(capsys, "distill", "min", *words, "--out", str(out))
    assert (card["targets"], card["teacher"], card["scores"]) == ("teacher", "max", {})
    assert [report["phase"] for report in card["history"]] == ["hint", "map"]
    assert json.loads(out.with_suffix(".json").read_text())["sha256"] == card["sha256"]
    assert (
        ask(capsys, "export", "--model", str(out), "--out", str(tmp_path / "s.onnx"))["parity_error"] < 1e-4
    )


def test_several_data_sets_train_one_network_and_the_card_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path / "cache"))
    words = ["finetune", "min", "--supernet", "tiny", "--data", "synthetic", "--data", "synthetic"]
    words += ["--data-weight", "3", "--data-weight", "1", "--epoch-photos", "4", "--batch-size", "2"]
    card = ask(capsys, *words, "--held-out", "4", "--epochs", "1", "--out", str(tmp_path / "a.safetensors"))
    assert (card["data"], card["data_weights"], card["training_photos"]) == (
        "synthetic, synthetic",
        [3, 1],
        4,
    )
    assert card["command"].startswith(
        "salnas finetune min --data synthetic --data synthetic --data-weight 3 --data-weight 1 --epoch-photos 4 "
    )
    assert cli.run([*words, "--data-weight", "1", "--out", str(tmp_path / "b.safetensors")]) == cli.BAD_INPUT
    assert "once for each --data" in capsys.readouterr().err
