"""The whole way, as a user goes it: train, measure, fit, search, look at a map, export, run the file elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.cli import run
from service.main import create_app
from service.settings import Settings
from tests.fixtures.tiny import write_data, write_photo, write_supernet

NAME = "tiny-trained"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Home:
    """A user's folder with what was made in it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def salnas(self, *words: str) -> Any:
        """What a command prints with --json."""
        self.capsys.readouterr()
        code = run([*words, "--json"])
        captured = self.capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with synthetic photos, a supernet trained on them, and its predictors."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SALNAS_RESULTS", str(folder / "results"))
        patch.setenv("SALNAS_CACHE", str(folder / "cache"))
        patch.setenv("SALNAS_SUPERNET", NAME)
        write_data(folder / "photos", 80)
        write_supernet(folder / "results", "untrained")
        training = "train --data photos --space tiny --epochs 4 --full-resolution-epochs 2 --batch-size 8"
        sizes = "--held-out 12 --statistics-subnets 16 --threads 1 --out"
        checkpoint = f"results/supernets/{NAME}.safetensors"
        assert run([*training.split(), *sizes.split(), checkpoint]) == 0
        measuring = "collect --data photos --photos 12 --subnets 24 --timed 12 --threads 1 --rounds 3"
        assert run(measuring.split()) == 0
        yield folder


@pytest.fixture
def home(trained: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(trained, capsys)


def test_training_teaches_all_subnets(home: Home) -> None:
    for arch in ("min", "max", "random:1"):
        scores = home.salnas("evaluate", "--data", "photos", "--arch", arch)["scores"]
        before = home.salnas("evaluate", "--data", "photos", "--arch", arch, "--supernet", "untrained")[
            "scores"
        ]
        assert scores["cc"] > 0.6 > before["cc"] + 0.3
        assert scores["nss"] > 1.5


def test_measured_subnets_stand_in_tables(home: Home) -> None:
    folder = home.folder / "results" / "predictors" / NAME
    accuracy = pd.read_parquet(folder / "accuracy.parquet")
    assert len(accuracy) == 24
    assert accuracy["cc"].between(0.3, 1).all()
    assert len(pd.read_parquet(folder / "latency-cpu-1-thread.parquet")) == 12
    quality = home.salnas("collect", "fit")["quality"]
    assert set(quality["accuracy"]) == {"cc", "kld", "nss", "sim", "auc"}
    assert quality["latency_ms"]["cpu-1-thread"]["n"] == 12


def test_from_a_budget_to_a_file_that_runs(home: Home) -> None:
    everything = home.salnas("search")["subnets"]
    middle = float(np.median([subnet["latency_ms"]["predicted"] for subnet in everything]))
    budget = f"latency_ms<={middle}"
    found = home.salnas("search", "--constraint", budget, "--seed", "1", "--out", "run")
    assert found["evaluations_per_second"] > 0
    assert all(subnet["latency_ms"]["predicted"] <= middle for subnet in found["subnets"])
    front = pd.read_csv("run/front.csv")
    assert front["id"].tolist() == [subnet["id"] for subnet in found["subnets"]]

    best = max(found["subnets"], key=lambda subnet: subnet["accuracy"]["predicted"])["id"]
    photo = write_photo(home.folder / "photo.png", (90, 120))
    home.salnas("predict", str(photo), "--arch", best, "--out", "map.png")
    saliency = np.load("map.npy")
    exported = home.salnas("export", best, "--out", "best.onnx")
    assert exported["parity_error"] <= 1e-4

    height, width = home.salnas("describe", best)["resolution"]
    with Image.open(photo) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    session = onnxruntime.InferenceSession("best.onnx")
    (maps,) = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})
    assert maps.shape == (1, height, width)
    with Image.fromarray(maps[0]) as small:
        alone = np.asarray(small.resize((120, 90), Image.Resampling.BILINEAR))
    assert np.corrcoef(alone.ravel(), saliency.ravel())[0, 1] > 0.9


def test_the_map_of_a_trained_subnet_shows_the_disc(home: Home) -> None:
    photo = write_photo(home.folder / "disc.png", (96, 128))
    home.salnas("predict", str(photo), "--arch", "max", "--out", "disc-map.png")
    saliency = np.load("disc-map.npy")
    y, x = np.mgrid[:96, :128]
    inside = np.hypot(y - 32, x - 64) < 16
    assert saliency[inside].mean() > 3 * saliency[~inside].mean()


def test_the_service_finds_the_front_of_the_command_line(home: Home) -> None:
    budget = "parameters<=70000"
    expected = home.salnas("search", "--constraint", budget, "--seed", "1")["subnets"]
    with serving(home.folder) as client:
        answer = client.post("/v1/searches", json={"constraints": [budget], "seed": 1})
        assert answer.status_code == 202, answer.text
        place = answer.headers["location"]
        deadline = time.monotonic() + 60
        while (state := client.get(place).json()["state"]) in ("queued", "running"):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        assert state == "succeeded"
        found = client.get(f"{place}/front").json()["subnets"]
        described = client.post("/v1/subnets:describe", json={"arch": "max"}).json()
    assert [subnet["id"] for subnet in found] == [subnet["id"] for subnet in expected]
    assert described["id"] == home.salnas("describe", "max")["id"]


@contextmanager
def serving(folder: Path) -> Iterator[TestClient]:
    """The service on what was trained; its searches run in a thread of this process."""
    settings = Settings(results=folder / "results", supernet=NAME, state=folder / "var")
    with TestClient(create_app(settings, search_processes=0), base_url="http://127.0.0.1") as client:
        yield client
