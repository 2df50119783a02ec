"""Folders and films on the command line, and the page about an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.cli import run
from tests.fixtures.tiny import TINY, write_data, write_photo, write_supernet


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_supernet(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SALNAS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SALNAS_SUPERNET", TINY)
    return tmp_path


def test_a_folder_stands_for_its_photos(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.png", "a.png"):
        write_photo(here / "photos" / name)
    (here / "photos" / "notes.txt").write_text("no photo")
    assert run(["predict", "photos", "--arch", "min", "--out", "maps", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [Path(entry["image"]).name for entry in found] == ["a.png", "b.png"]
    (here / "empty").mkdir()
    assert run(["predict", "empty", "--out", "maps"]) == 2
    assert "no photo in empty" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_film_becomes_a_film(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    writer = ffmpeg.write_frames("film.mp4", (64, 48), fps=5, macro_block_size=1)
    writer.send(None)
    for seed in range(3):
        writer.send(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.close()
    assert run(["predict", "film.mp4", "--arch", "min", "--out", "seen.mp4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["film"], found["frames"], found["size"]) == ("seen.mp4", 3, [48, 64])
    assert (here / "seen.mp4").stat().st_size > 0
    write_photo(here / "a.png")
    assert run(["predict", "film.mp4", "a.png", "--out", "maps"]) == 2
    assert "alone" in capsys.readouterr().err


def test_an_evaluation_becomes_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_data(here / "own", 10)
    words = ["evaluate", "--data", str(folder), "--split", "all", "--arch", "min"]
    assert run([*words, "--report", "page.html", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = (here / "page.html").read_text(encoding="utf-8")
    assert f"<td>{found['scores']['cc']:.3f}</td>" in page
    assert page.count("<figure>") == 20
    assert run([*words, "--report", "page.pdf"]) == 2
