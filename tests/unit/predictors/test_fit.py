from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from predictors import fit, runtimes
from predictors.accuracy import load_accuracy
from predictors.devices import load_device, table_path
from predictors.executors import InProcess
from predictors.runtimes import describe_machine
from predictors.tables import read_table
from supernet.checkpoint import file_fingerprint, save_supernet
from supernet.errors import CheckpointError, DataError, DeviceError, PredictorError
from supernet.network import Supernet
from supernet.processor import torch_threads


@pytest.fixture(scope="module")
def results(tiny_supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet, measured and fitted by the commands that users type."""
    folder = tmp_path_factory.mktemp("results")
    save_supernet(folder / "supernets" / "tiny-x.safetensors", tiny_supernet, {})
    run(folder, "accuracy", "--subnets", "24", "--photos", "4", "--data", "synthetic")
    run(folder, "latency", "--subnets", "16", "--threads", "1", "--rounds", "3")
    shown = run(folder, "fit")
    assert "cc" in shown
    assert "latency_ms@cpu-1-thread" in shown
    return folder


def run(results: Path, command: str, *options: str) -> str:
    supernet = results / "supernets" / "tiny-x.safetensors"
    words = [command, "--supernet", str(supernet), "--results", str(results), *options]
    done = CliRunner().invoke(fit.app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_predictors_are_there_and_say_where_they_come_from(results: Path, tiny_supernet: Supernet) -> None:
    space = tiny_supernet.space
    folder = results / "predictors" / "tiny-x"
    fingerprint = file_fingerprint(results / "supernets" / "tiny-x.safetensors")
    accuracy = load_accuracy(folder / "accuracy.safetensors", space, supernet=fingerprint)
    assert set(accuracy.by_metric) == {"cc", "kld", "nss", "sim", "auc"}
    assert accuracy.provenance["data"] == "synthetic (train), last 4 photos"
    device = load_device(folder, "cpu-1-thread", space)
    assert (device.runtime, device.threads) == ("onnxruntime", 1)
    assert "onnxruntime" in device.details
    rows = space.sample(np.random.default_rng(0), 10)
    assert (device.predictor.predict(rows).mean > 0).all()


def test_more_subnets_are_added_to_those_there(results: Path) -> None:
    path = results / "predictors" / "tiny-x" / "accuracy.parquet"
    before = read_table(path)
    run(results, "accuracy", "--subnets", "26", "--photos", "4", "--data", "synthetic")
    after = read_table(path)
    assert after.ids[:24] == before.ids
    assert len(after) == 26
    with pytest.raises(DataError, match="data"):
        run(results, "accuracy", "--subnets", "26", "--photos", "5", "--data", "synthetic")


def test_another_machine_needs_a_name_of_its_own(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = describe_machine()
    monkeypatch.setattr(runtimes, "describe_machine", lambda _: {**here, "processor": "Abacus"})
    path = results / "predictors" / "tiny-x" / "latency-cpu-1-thread.parquet"
    before = path.read_bytes()
    words = ["--subnets", "12", "--threads", "1", "--rounds", "3"]
    with pytest.raises(DeviceError, match="here Abacus") as caught:
        run(results, "latency", *words)
    assert "--machine" in (caught.value.remedy or "")
    assert path.read_bytes() == before
    shown = run(results, "latency", *words, "--machine", "wooden")
    assert "12 subnets timed on wooden-1-thread, 12 of them now" in shown.replace("\n", " ")
    assert "0 of them now" in run(results, "latency", *words, "--machine", "wooden")
    table_path(results / "predictors" / "tiny-x", "wooden-1-thread").unlink()


class Elsewhere(InProcess):
    """Works on another machine."""

    def run(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], *, device: str | None = None
    ) -> Iterator[tuple[int, Any]]:
        for index, found in super().run(function, tasks, device=device):
            assert device == "remote-1-thread"
            yield index, {**found, "processor": "Abacus"} if function is describe_machine else found


def test_a_table_names_the_machine_that_timed(results: Path) -> None:
    job = fit.Job(results / "supernets" / "tiny-x.safetensors", results, 0)
    fit.measure_latency(job, subnets=2, threads=[1], rounds=3, machine="remote", executor=Elsewhere())
    path = table_path(job.folder, "remote-1-thread")
    assert read_table(path).identity["device"]["processor"] == "Abacus"
    path.unlink()


def test_tables_do_not_say_on_whose_disk_they_were_made(results: Path) -> None:
    folder = results / "predictors" / "tiny-x"
    for path in folder.iterdir():
        assert str(results).encode() not in path.read_bytes()
    assert json.dumps([dict(line) for line in read_table(folder / "accuracy.parquet").history]).isascii()


def test_other_weights_are_refused(results: Path, tiny_supernet: Supernet) -> None:
    with pytest.raises(PredictorError, match="other weights"):
        load_accuracy(
            results / "predictors" / "tiny-x" / "accuracy.safetensors", tiny_supernet.space, supernet="0" * 16
        )


def test_errors_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "fit", "--supernet", str(tmp_path / "none.safetensors")])
    with pytest.raises(SystemExit) as caught:
        fit.main()
    assert caught.value.code == 1
    assert "There is no supernet" in capsys.readouterr().err
    with pytest.raises(CheckpointError):
        fit.Job(tmp_path / "none.safetensors", tmp_path, 0).load()


def test_workers_have_no_gpu(results: Path) -> None:
    job = fit.Job(results / "supernets" / "tiny-x.safetensors", results, 0)
    with pytest.raises(DataError, match="Workers") as caught:
        fit.measure_accuracy(job, subnets=2, photos=4, data="synthetic", device="cuda", executor=InProcess())
    assert caught.value.field == "device"


@pytest.mark.parametrize(("part", "threads"), [("1/1", 4), ("2/2", 2), ("1/3", 1), ("1/9", 1)])
def test_processes_that_share_the_work_share_the_threads(
    results: Path, monkeypatch: pytest.MonkeyPatch, part: str, threads: int
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(fit, "collect_accuracy", lambda *_, **__: seen.append(torch.get_num_threads()))
    job = fit.Job(results / "supernets" / "tiny-x.safetensors", results, 0)
    with torch_threads(4):
        fit.measure_accuracy(job, subnets=2, photos=4, data="synthetic", part=part)
        assert torch.get_num_threads() == 4
    assert seen == [threads]


def test_nothing_measured_is_said(tmp_path: Path, tiny_supernet: Supernet) -> None:
    path = tmp_path / "supernets" / "tiny-x.safetensors"
    save_supernet(path, tiny_supernet, {})
    done = CliRunner().invoke(fit.app, ["fit", "--supernet", str(path), "--results", str(tmp_path)])
    assert done.exit_code == 2
    assert "no table" in done.output.replace("\n", " ")
