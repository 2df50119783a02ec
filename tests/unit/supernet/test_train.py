"""Training learns from synthetic photos, survives a kill, and refuses nonsense."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from supernet.checkpoint import load_supernet
from supernet.errors import CheckpointError, SettingsError
from supernet.train import TrainConfig, train


def tiny_config(folder: Path, epochs: int = 2) -> TrainConfig:
    return TrainConfig(
        data=("synthetic",),
        space="tiny",
        out=folder / "tiny.safetensors",
        epochs=epochs,
        full_resolution_epochs=1,
        frozen_epochs=1,
        batch_size=8,
        held_out=8,
        statistics_subnets=8,
        threads=1,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALNAS_CACHE", str(tmp_path / "cache"))


def test_a_tiny_supernet_learns_where_the_planted_objects_are(tmp_path: Path) -> None:
    path = train(tiny_config(tmp_path, epochs=4), resume=False)
    supernet, provenance = load_supernet(path)
    assert provenance["held_out"]["largest_cc"] > 0.6
    assert provenance["command"].startswith("salnas train --data synthetic --space tiny")
    assert supernet.statistics.abs().sum() > 0


def test_a_killed_training_continues_to_the_same_result(tmp_path: Path) -> None:
    whole = train(tiny_config(tmp_path / "whole", epochs=3), resume=False)
    config = tiny_config(tmp_path / "killed", epochs=3)
    command = [sys.executable, "-m", "supernet", "train", "--data", "synthetic", "--space", "tiny"]
    command += ["--out", str(config.out), "--epochs", "3", "--full-resolution-epochs", "1"]
    command += ["--frozen-epochs", "1"]
    command += ["--batch-size", "8", "--held-out", "8", "--statistics-subnets", "8", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = config.out.with_suffix(".state")
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not config.out.exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    ours, theirs = load_file(whole), load_file(config.out)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_a_state_of_another_configuration_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, epochs=1)
    train(config)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(dataclasses.replace(config, seed=1))
    config.out.with_suffix(".state").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(config)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"data": ()}, "data"),
        ({"out": Path("model.pt")}, "out"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"seed": -1}, "seed"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TrainConfig(**changes)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_holding_out_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="held out"):
        train(dataclasses.replace(tiny_config(tmp_path), held_out=10**6))
