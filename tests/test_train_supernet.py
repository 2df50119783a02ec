"""The script of `make train-supernet`: the program takes its commands, and each reads what earlier ones wrote."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import supernet.__main__
from supernet.train_config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "train-supernet.sh"
MEANS = {
    "alone",
    "start",
    "teacher",
    "both",
    "half",
    "joint",
    "lean",
    "even",
    "late",
    "latest",
    "leaner",
    "nearly",
}
TEACHER = "results/models/efficientnet-lite2.safetensors"

RECORDER = """#!/bin/sh
# In Python's place: notes its words and writes the file that is named last.
for out; do :; done
case "$out" in *"${FAILS:-nothing}"*) exit 3 ;; esac
printf '%s\\n' "$*" >> commands
touch "$out"
"""


def run_script(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script in `folder`, with something in Python's place that notes its words in the file `commands`."""
    recorder = folder / "recorder"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    return subprocess.run(
        ["sh", str(SCRIPT), str(recorder), "shipped.safetensors"],
        cwd=folder,
        env={**os.environ, "SALNAS_WEIGHTS": "weights", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def commands(folder: Path) -> list[list[str]]:
    """The words behind `python -m supernet` of each command, in the order in which they ended."""
    lines = (folder / "commands").read_text().splitlines()
    words = [shlex.split(line) for line in lines]
    assert all(line[:2] == ["-m", "supernet"] for line in words)
    return [line[2:] for line in words]


def read_by(command: list[str]) -> list[str]:
    """The checkpoints that a command reads."""
    named = [word for word in command if word.endswith(".safetensors")]
    return named[:-1]


def test_each_step_is_understood_and_reads_what_earlier_ones_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_script(tmp_path).returncode == 0
    trained: list[TrainConfig] = []
    averaged: list[tuple[int, list[float]]] = []

    def train(config: TrainConfig, **_: Any) -> Path:
        trained.append(config)
        return Path(config.out)

    def refit(checkpoints: list[Path], out: Path, *_: Any, shares: list[float], **__: Any) -> Path:
        averaged.append((len(checkpoints), shares))
        return out

    monkeypatch.setattr(supernet.__main__, "train", train)
    monkeypatch.setattr(supernet.__main__, "refit_statistics", refit)
    there = {"weights/mobilenet_v2_1.0_imagenet.safetensors", TEACHER}
    for command in commands(tmp_path):
        assert set(read_by(command)) <= there
        there.add(command[-1])
        done = CliRunner().invoke(supernet.__main__.app, command)
        assert done.exit_code == 0, done.output
    assert {str(config.out) for config in trained} == {
        name for name in there if name.startswith("var/") and Path(name).stem not in MEANS
    }
    for count, shares in averaged:
        assert count == len(shares)
        assert sum(shares) == pytest.approx(1.0)
    assert "shipped.safetensors" in there


def test_what_is_added_to_every_training_comes_last(tmp_path: Path) -> None:
    run_script(tmp_path, TRAIN_ARGS="--device cuda --epochs 90", STATISTICS_ARGS="--subnets 9")
    of_trainings = [line for line in commands(tmp_path) if line[0] == "train"]
    assert all(line[-6:-2] == ["--device", "cuda", "--epochs", "90"] for line in of_trainings)
    last = commands(tmp_path)[-1]
    assert (last[0], last[-4:]) == ("statistics", ["--subnets", "9", "--out", "shipped.safetensors"])


def test_a_failure_stops_it_and_what_ships_stays(tmp_path: Path) -> None:
    (tmp_path / "shipped.safetensors").write_text("before")
    assert run_script(tmp_path, FAILS="twice-1").returncode != 0
    assert (tmp_path / "shipped.safetensors").read_text() == "before"
    written = [line[-1] for line in commands(tmp_path)]
    assert written[-1] == "var/twice-2.safetensors"  # what ran beside it was not lost
    assert run_script(tmp_path).returncode == 0
    again = [line[-1] for line in commands(tmp_path)][len(written) :]
    assert "var/start.safetensors" not in again
    assert again[-1] == "shipped.safetensors"
