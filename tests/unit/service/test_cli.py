from __future__ import annotations

import json
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from service.cli import run
from supernet.errors import SalnasError
from supernet.images import load_image
from supernet.space import get_space
from tests.fixtures.tiny import TINY, write_data, write_photo
from tests.unit.supernet.test_export import needs_openvino

ROOT = Path(__file__).resolve().parents[3]
SPACE = get_space("tiny")

Salnas = Callable[..., Any]


@pytest.fixture
def salnas(here: Path, capsys: pytest.CaptureFixture[str]) -> Salnas:
    """Run a command with --json; returns what it printed, parsed, after checking that it succeeded."""

    def call(*words: str) -> Any:
        code = run([*words, "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        assert captured.err == ""
        return json.loads(captured.out)

    return call


@pytest.fixture
def shown(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command without --json; returns its table, after checking that it succeeded and its width."""

    def call(*words: str) -> str:
        assert run(words) == 0
        captured = capsys.readouterr()
        assert max(len(line) for line in captured.out.splitlines()) <= 100
        return captured.out

    return call


# --- answers --------------------------------------------------------------------------------------------


def test_the_space_and_its_largest_subnet(salnas: Salnas) -> None:
    space = get_space("salnas")
    assert salnas("space", "salnas")["size"] == space.size
    found = salnas("describe", "max", "--space", "salnas")
    assert found["id"] == space.id_of(space.largest())
    assert found["resolution"] == [288, 384]
    assert found["parameters"] > 1e6
    assert found["conv_macs"] > 1e9


def test_a_subnet_is_described_with_predictions_of_its_supernet(salnas: Salnas, here: Path) -> None:
    found = salnas("describe", "random:7")
    assert (found["space"], found["supernet"]) == ("tiny", TINY)
    assert found["predictions"]["latency_ms"]["cpu-1-thread"]["predicted"] > 0
    Path("subnet.json").write_text(json.dumps(found))
    for words in (
        ["describe", "subnet.json"],
        ["describe", found["id"]],
        ["describe", "random:7", "--space", "tiny"],
    ):
        assert salnas(*words) == found


def test_an_id_tells_its_space(salnas: Salnas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALNAS_SUPERNET", "not-there")
    assert salnas("describe", "tiny-7zzn")["space"] == "tiny"
    assert salnas("describe", "max")["space"] == "salnas"


def test_a_search_answers_with_its_front(salnas: Salnas, here: Path) -> None:
    words = ["search", "-c", "latency_ms<=9", "-c", "resolution==32x32", "--seed", "3", "--out", "found"]
    found = salnas(*words)
    assert found["evaluations_per_second"] > 0
    assert all(s["latency_ms"]["predicted"] <= 9 and s["resolution"] == [32, 32] for s in found["subnets"])
    assert salnas(*words)["subnets"] == found["subnets"]
    assert {p.name for p in Path("found").iterdir()} >= {"manifest.json", "front.csv", "subnets.csv"}
    kept = salnas("front", "show", "found", "--within", "macs<=1e6")["subnets"]
    assert [{**s, "knee": None} for s in kept] == [
        {**s, "knee": None} for s in found["subnets"] if s["macs"] <= 1e6
    ]
    Path("found", "subnets.csv").unlink()
    assert [s["id"] for s in salnas("front", "show", "found")["subnets"]] == [
        s["id"] for s in found["subnets"]
    ]
    best = salnas("front", "show", "found", "--best", "1")["subnets"]
    assert best[0]["accuracy"]["predicted"] == max(s["accuracy"]["predicted"] for s in found["subnets"])


def test_an_exported_subnet_runs(salnas: Salnas, here: Path) -> None:
    found = salnas("export", "min", "--out", "new/min.onnx")
    assert found["parity_error"] <= 1e-4
    assert found["size_bytes"] == Path(found["path"]).stat().st_size
    session = onnxruntime.InferenceSession(found["path"])
    photos = np.zeros((3, 3, 32, 32), np.uint8)
    (maps,) = session.run(None, {session.get_inputs()[0].name: photos})
    assert maps.shape == (3, 32, 32)


@needs_openvino
def test_an_export_for_openvino_is_a_zip(salnas: Salnas, here: Path) -> None:
    found = salnas("export", "min", "--out", "min.zip", "--format", "openvino", "--precision", "fp16")
    assert (found["format"], found["precision"]) == ("openvino", "fp16")
    assert 0 < found["parity_error"] <= 0.05
    with zipfile.ZipFile("min.zip") as archive:
        assert {"subnet.xml", "subnet.bin", "salnas.json"} == set(archive.namelist())


def test_a_prediction_is_an_overlay_and_a_raw_map(salnas: Salnas, here: Path) -> None:
    write_photo(Path("photo.jpg"), (60, 80))
    (found,) = salnas("predict", "photo.jpg", "--arch", "max", "--out", "map.png")["predictions"]
    raw = np.load(found["map"])
    assert raw.shape == (60, 80) == tuple(found["size"])
    assert 0 <= raw.min() <= raw.max() <= 1
    x, y = found["peak"]
    assert raw[y, x] == raw.max()
    assert load_image("map.png").size == (80, 60)
    salnas("predict", "photo.jpg", "--out", "map.png", "--raw", "raw.png")
    with Image.open("raw.png") as stored:
        np.testing.assert_allclose(np.asarray(stored) / 65535, raw, atol=1e-4)


def test_photos_are_predicted_into_a_folder(salnas: Salnas, here: Path) -> None:
    names = [str(write_photo(Path(f"{i}.png"), seed=i)) for i in range(18)]
    found = salnas("predict", *names, "--arch", "min", "--out", "maps")["predictions"]
    assert [Path(p["overlay"]).name for p in found] == names
    assert len(list(Path("maps").iterdir())) == 36


def test_an_evaluation_answers_with_all_scores(salnas: Salnas, here: Path) -> None:
    folder = write_data(Path("own"), 10)
    found = salnas("evaluate", "--data", str(folder), "--arch", "min", "--per-photo", "each.csv")
    assert set(found["scores"]) == {"cc", "kld", "nss", "sim", "auc"}
    assert (found["photos"], found["split"]) == (2, "val")
    assert len(Path("each.csv").read_text().splitlines()) == 3
    assert salnas("evaluate", "--data", "synthetic", "--split", "all", "--limit", "3")["photos"] == 3


def test_devices_are_listed_with_their_quality(salnas: Salnas) -> None:
    devices = {device["name"]: device for device in salnas("device", "list")["devices"]}
    assert set(devices) == {"cpu-1-thread", "cpu-2-threads"}
    assert devices["cpu-2-threads"]["threads"] == 2
    assert devices["cpu-1-thread"]["quality"]["kendall"] > 0.9


def test_a_supernet_can_be_given_as_a_file(salnas: Salnas, results: Path) -> None:
    path = results / "supernets" / f"{TINY}.safetensors"
    assert salnas("describe", "max", "--supernet", str(path)) == salnas("describe", "max")


# --- tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("space",), ["1.10 · 10¹¹ subnets", "384×288", "salnas-000000000", "mb7"]),
        (("describe", "max"), ["tiny-7zzn", "64×64", "90.8 k", "6.56 M", "predicted", "cpu-2-threads"]),
        (("describe", "min", "--layers"), ["mb3.0.se.reduce", "decoder.6", "16×16"]),
        (("search", "--evaluations", "500"), ["Pareto front", "◆", "not shown", "tiny-0000"]),
        (("search", "-o", "nss", "-o", "latency_ms@cpu-2-threads", "-o", "macs"), ["NSS", "cpu-2-threads"]),
        (("device", "list"), ["cpu-1-thread", "onnxruntime", "100 %"]),
        (("evaluate", "--data", "synthetic", "--arch", "min", "--limit", "2"), ["AUC", "lower", "2 photos"]),
        (("export", "min", "--out", "m.onnx"), ["m.onnx", "parity"]),
    ],
)  # fmt: skip
def test_tables_fit_a_terminal(
    shown: Callable[..., str], words: tuple[str, ...], expected: list[str]
) -> None:
    table = shown(*words)
    assert [text for text in expected if text not in table] == []


def test_a_prediction_is_shown_with_its_files(shown: Callable[..., str], here: Path) -> None:
    write_photo(Path("photo.jpg"))
    assert "map.npy" in shown("predict", "photo.jpg", "--out", "map.png")


@pytest.mark.parametrize("words", [[], ["--help"], ["search", "--help"], ["train", "--help"], ["front"]])
def test_help_is_there(here: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    run(words)
    captured = capsys.readouterr()
    assert "Usage: salnas" in captured.out + captured.err


# --- bad input ------------------------------------------------------------------------------------------

MISTAKES = [
    (["paint"], "usage", "No such command"),
    (["describe"], "usage", "ARCH"),
    (["describe", "max", "--colour", "red"], "usage", "--colour"),
    (["search", "--seed", "one"], "usage", "--seed"),
    (["space", "moon"], "invalid-space", "salnas, tiny"),
    (["describe", "medium"], "invalid-arch", "random:SEED"),
    (["describe", "gene.json"], "invalid-arch", "mb2.kernel"),
    (["describe", "missing.json"], "invalid-arch", "missing.json"),
    (["describe", "text.json"], "invalid-arch", "text.json"),
    (["describe", "max", "--space", "salnas", "--supernet", TINY], "invalid-settings", "--space"),
    (["search", "-c", "latency_ms<=0.001"], "infeasible-budget", "smallest latency_ms found"),
    (["search", "-c", "mb9.kernel==3"], "invalid-constraint", "mb9.kernel"),
    (["search", "-o", "accuracy"], "invalid-constraint", "2 to 4"),
    (["search", "--device", "watch"], "invalid-device", "cpu-2-threads"),
    (["search", "--metric", "beauty"], "invalid-settings", "cc"),
    (["search", "--evaluations", "0"], "invalid-settings", "above 0"),
    (["search", "--resume"], "invalid-settings", "--out"),
    (["search", "--supernet", "other"], "invalid-checkpoint", TINY),
    (["export", "max", "--out", "m.onnx", "--supernet", "text.json"], "invalid-checkpoint", TINY),
    (["export", "max", "--out", "m.onnx", "--supernet", "a b"], "invalid-settings", "letters"),
    (["export", "max", "--out", "m.onnx", "--supernet", "./text.safetensors"], "invalid-checkpoint", "damaged"),
    (["export", "max", "--out", "m.onnx", "--supernet", "foreign.safetensors"], "invalid-checkpoint", "train"),
    (["export", "max", "--out", "model.txt"], "invalid-settings", ".onnx"),
    (["export", "max", "--out", "m.onnx", "--precision", "int3"], "export-failed", "fp32"),
    (["export", "max", "--out", "m.onnx", "--precision", "int8"], "invalid-settings", "--photos"),
    (["export", "max", "--out", "m.onnx", "--format", "tflite"], "export-failed", "openvino"),
    (["export", "max", "--out", "m.onnx", "--format", "openvino"], "invalid-settings", ".zip"),
    (["export", "max", "--out", "m.zip", "--format", "openvino", "--precision", "int8"], "export-failed", "fp16"),
    (["export", "--model", "csnet-x1", "--out", "m.pt2", "--format", "torch"], "invalid-settings", "onnx"),
    (["predict", "text.json", "--out", "map.png"], "invalid-image", "text.json"),
    (["predict", "missing.jpg", "--out", "map.png"], "invalid-image", "missing.jpg"),
    (["predict", "photo.png", "--out", "photo.png"], "invalid-settings", "photo.png"),
    (["predict", "photo.png", "--out", "file/map.png"], "file", "file"),
    (["evaluate", "--data", "nowhere"], "invalid-data", "osie"),
    (["evaluate", "--data", "."], "invalid-data", "stimuli"),
    (["evaluate", "--data", "synthetic", "--limit", "0"], "invalid-settings", "limit"),
    (["front", "show", "."], "invalid-checkpoint", "directory of a search"),
    (["collect", "money"], "invalid-settings", "latency"),
    (["train", "--epochs", "0"], "invalid-settings", "epochs"),
    (["train", "--wings", "2"], "usage", "--wings"),
    (["serve", "--host", "http://here"], "invalid-settings", "127.0.0.1"),
]  # fmt: skip


@pytest.fixture
def wrong_files(here: Path) -> None:
    from safetensors.numpy import save_file

    arch = SPACE.largest().to_json()
    arch["stages"][1]["kernel"] = 7
    Path("gene.json").write_text(json.dumps(arch))
    Path("text.json").write_text("no JSON, no photo")
    Path("text.safetensors").write_text("no weights")
    save_file({"x": np.zeros(2, np.float32)}, "foreign.safetensors", {"format": "pt"})
    Path("file").write_text("a file, no folder")
    write_photo(Path("photo.png"))


@pytest.mark.usefixtures("wrong_files")
@pytest.mark.parametrize(("words", "kind", "text"), MISTAKES, ids=[" ".join(words) for words, *_ in MISTAKES])
def test_a_mistake_is_told_with_its_remedy(
    capsys: pytest.CaptureFixture[str], words: list[str], kind: str, text: str
) -> None:
    assert run([*words, "--json"]) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["type"] == kind
    assert error["remedy"]
    assert captured.err.startswith("Error: ")
    assert "Traceback" not in captured.err
    if kind != "usage":
        assert error["field"]
    assert text in json.dumps(error)

    assert run(words) == 2
    plain = capsys.readouterr()
    assert plain.out == ""
    assert plain.err == captured.err


def test_markup_in_a_value_is_shown_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "[bold]x[/bold]"]) == 2
    assert "[bold]x[/bold]" in capsys.readouterr().err


def test_a_taken_port_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "--port" in capsys.readouterr().err


def test_an_interruption_is_no_traceback(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*words: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.workbench.describe_space", interrupt)
    assert run(["space"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: Any) -> Any:
        raise ValueError("ours")

    monkeypatch.setattr("service.workbench.describe_space", broken)
    with pytest.raises(ValueError, match="ours"):
        run(["space"])


def test_every_kind_of_error_has_a_name() -> None:
    kinds = [error.kind for error in SalnasError.__subclasses__()]
    assert all(kinds)


# --- the process ----------------------------------------------------------------------------------------


def printed(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_costs_are_told_without_torch(here: Path) -> None:
    script = (
        "import sys; from service.cli import run\n"
        "for words in (['space'], ['describe', 'max', '--space', 'salnas']): assert run([*words, '--json']) == 0\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules), 'slow to start'"
    )
    printed(script)


def test_predictions_are_told_without_torch(here: Path) -> None:
    script = (
        "import sys; from service.cli import run\n"
        "assert run(['describe', 'max', '--json']) == 0\n"
        "assert not {'torch', 'scipy.stats', 'scipy.optimize'} & set(sys.modules), 'slow to start'"
    )
    assert json.loads(printed(script))["predictions"]["accuracy"]


def test_the_installed_command_answers(here: Path) -> None:
    command = Path(sys.executable).parent / "salnas"
    if not command.exists():
        pytest.skip("not installed as a command; `make setup` does that")
    done = subprocess.run(
        [command, "describe", "medium", "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["field"] == "arch"
    assert done.stderr.count("\n") == 3
