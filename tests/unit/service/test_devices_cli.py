"""`salnas device` and `salnas predictor` on a results folder made of random numbers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from predictors import report
from predictors.pack import pack_rows
from predictors.tables import append, gene_columns
from service.cli import run
from supernet.cost import cost
from supernet.space import get_space
from tests.fixtures.tiny import TINY, write_predictors, write_supernet

SPACE = get_space("tiny")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_supernet(tmp_path)
    write_predictors(tmp_path, subnets=60)
    monkeypatch.setenv("SALNAS_RESULTS", str(tmp_path))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*words, "--supernet", TINY, "--json"])
    return code, json.loads(capsys.readouterr().out)


def measured(path: Path, n: int = 12, runtime: str = "onnxruntime 1.20.0") -> Path:
    rows = pack_rows(SPACE, n)
    lines = [
        f"{identity},{ms},{runtime}"
        for identity, ms in zip(SPACE.ids(rows), 3.0 + cost(SPACE, rows).macs / 1e5, strict=True)
    ]
    path.write_text("\n".join(["id,latency_ms,runtime", *lines]) + "\n")
    return path


def test_a_device_is_added_listed_and_replaced(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = measured(tmp_path / "mine.csv")
    words = ("device", "add", "pi5", str(csv), "--unit", "ms")
    code, found = told(capsys, *words)
    assert code == 0, found
    assert found["quality"]["n"] == 12
    assert found["start"] in ("cpu-1-thread", "cpu-2-threads", "nothing")
    listed = {device["name"]: device for device in told(capsys, "device", "list")[1]["devices"]}
    assert listed["pi5"]["runtime"] == "onnxruntime 1.20.0"
    code, found = told(capsys, *words)
    assert code == 2
    assert "--replace" in found["error"]["remedy"]
    assert told(capsys, *words, "--replace")[0] == 0
    assert told(capsys, "device", "remove", "pi5") == (0, {"removed": "pi5"})
    assert "pi5" not in [device["name"] for device in told(capsys, "device", "list")[1]["devices"]]


def test_an_added_device_is_searched_for_with_its_energy(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(measured(tmp_path / "mine.csv"))
    table.assign(energy_mj=3.5 * table["latency_ms"]).to_csv(tmp_path / "mine.csv", index=False)
    code, found = told(capsys, "device", "add", "pi5", str(tmp_path / "mine.csv"), "--unit", "ms")
    assert code == 0, found
    assert found["energy_quality"]["n"] == 12
    identity = table["id"][3]
    subnet = told(capsys, "describe", identity)[1]
    assert subnet["predictions"]["latency_ms"]["pi5"]["measured"] == table["latency_ms"][3]
    energy = subnet["predictions"]["energy_mj"]["pi5"]
    assert energy["measured"] == pytest.approx(3.5 * table["latency_ms"][3])
    assert energy["predicted"] == pytest.approx(energy["measured"], rel=0.2)

    budget = 1.2 * 3.5 * table["latency_ms"].min()
    words = ("search", "--device", "pi5", "-o", "accuracy", "-o", "energy_mj", "-c", f"energy_mj<={budget}")
    code, front = told(capsys, *words, "--evaluations", "2000")
    assert code == 0, front
    assert 0 < max(line["energy_mj"]["predicted"] for line in front["subnets"]) <= budget
    code, refused = told(capsys, "search", "-o", "accuracy", "-o", "energy_mj")
    assert code == 2
    assert "Energy is known on: pi5." in refused["error"]["remedy"]
    code, refused = told(capsys, *words, "--verify")
    assert (code, refused["error"]["field"]) == (2, "verify")


def test_measurements_of_too_few_subnets_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = told(capsys, "device", "add", "pi5", str(measured(tmp_path / "few.csv", 5)))
    assert code == 2
    assert "10" in found["error"]["remedy"]


def test_a_pack_is_written(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys, "device", "pack", str(tmp_path / "pack.zip"), "--models", "10")
    assert code == 0, found
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        names = archive.namelist()
    assert sum(name.endswith(".onnx") for name in names) == 10
    assert "measure.py" in names


@pytest.mark.slow
def test_a_report_is_written(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_CURVE", (30,))
    rows = pack_rows(SPACE, 30)
    latency = cost(SPACE, rows).macs / 1e5 * np.exp(0.01 * np.random.default_rng(0).normal(size=30))
    frame = pd.DataFrame({**gene_columns(SPACE, rows), "latency_ms": latency, "noise": np.full(30, 0.01)})
    identity = {"kind": "latency", "space": SPACE.name, "space_fingerprint": SPACE.fingerprint}
    folder = results / "predictors" / TINY
    append(folder / "latency-toy.parquet", frame, identity)
    append(folder / "latency-young.parquet", frame[:8], identity)  # not enough yet to be judged
    code, found = told(capsys, "predictor", "report", "--out", str(tmp_path / "out"))
    assert code == 0, found
    assert [line["target"] for line in found["latency"]] == ["toy"]
    assert sum(line["covering"] for line in found["sampling"]) == 300
    assert "| toy |" in (tmp_path / "out" / "predictors.md").read_text()
