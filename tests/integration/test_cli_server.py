"""The command line against a service says what it says by itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from search.islands import Ring
from service.cli import run
from service.workbench import SearchRequest, Workbench
from supernet.space import get_space
from tests.fixtures.served import served_made_up
from tests.fixtures.tiny import TINY, write_photo
from tests.unit.supernet.test_export import needs_openvino

Salnas = Callable[..., Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of a service and the results folder that it shares with the local commands."""
    folder = tmp_path_factory.mktemp("service")
    with served_made_up(folder) as (address, _):
        yield address, folder / "results"


@pytest.fixture
def salnas(
    service: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Salnas:
    """Run a command with --json, here or at the service; what it printed, parsed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SALNAS_RESULTS", str(service[1]))
    monkeypatch.setenv("SALNAS_SUPERNET", TINY)

    def call(*words: str, server: bool = False) -> Any:
        code = run([*words, "--json", *(["--server", service[0]] if server else [])])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    return call


@pytest.mark.parametrize(
    "words",
    [
        ["space", "tiny"],
        ["space"],
        ["describe", "random:7"],
        ["describe", "max", "--supernet", TINY],
        ["describe", get_space("tiny").id_of(get_space("tiny").smallest())],
    ],
    ids=" ".join,
)
def test_questions_have_the_same_answer(salnas: Salnas, words: list[str]) -> None:
    assert salnas(*words, server=True) == salnas(*words)


def test_devices(salnas: Salnas) -> None:
    local = salnas("device", "list")
    for device in local["devices"]:
        del device["details"]
    assert salnas("device", "list", server=True) == local


def test_a_file_with_a_subnet(salnas: Salnas) -> None:
    found = salnas("describe", "random:3")
    Path("subnet.json").write_text(json.dumps(found))
    assert salnas("describe", "subnet.json", server=True) == found


def test_the_examples_of_the_readme(salnas: Salnas) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    examples = [line for line in text.splitlines() if " --server http" in line]
    assert len(examples) >= 2
    for line in examples:
        _, *words = shlex.split(line)
        at = words.index("--server")
        assert salnas(*words[:at], *words[at + 2 :], server=True)


SEARCH = ["search", "-c", "latency_ms<=9", "-c", "resolution==32x32", "--seed", "3"]
TIMES = ("seconds", "evaluations_per_second")


def test_a_search(salnas: Salnas) -> None:
    local = salnas(*SEARCH)
    found = salnas(*SEARCH, "--out", "found", server=True)
    assert found["directory"] == "found"
    assert found["evaluations_per_second"] > 0
    same = set(local) - {*TIMES, "directory"}
    assert {name: found[name] for name in same} == {name: local[name] for name in same}
    assert pd.read_csv("found/subnets.csv")["id"].tolist() == [s["id"] for s in local["subnets"]]
    again = salnas("search", "--resume", "--out", "found", server=True)
    assert again["search"] == found["search"], "the same search is followed, not a new one started"
    shown = salnas("front", "show", found["search"], "--best", "2", server=True)
    assert [s["id"] for s in shown["subnets"]] == [
        s["id"] for s in sorted(found["subnets"], key=lambda s: -s["accuracy"]["predicted"])[:2]
    ]


def test_islands(salnas: Salnas, service: tuple[str, Path]) -> None:
    words = ["search", "-o", "accuracy", "-o", "macs", "--evaluations", "3000", "--islands", "2"]
    request = SearchRequest(objectives=("accuracy", "macs"), evaluations=3000)
    expected = Workbench.open(service[1], TINY).search(request, ring=Ring(2))
    assert [s["id"] for s in salnas(*words, server=True)["subnets"]] == expected.front["id"].tolist()


def test_an_export(salnas: Salnas) -> None:
    found = salnas("export", "min", "--out", "net.onnx", "--precision", "fp16", server=True)
    local = salnas("export", "min", "--out", "here.onnx", "--precision", "fp16")
    assert set(local) <= set(found)
    for name in ("subnet", "supernet", "precision", "opset", "size_bytes"):
        assert found[name] == local[name]
    assert found["path"] == "net.onnx"
    (given,) = onnxruntime.InferenceSession("net.onnx").get_inputs()
    assert given.name == "image"


@needs_openvino
def test_an_export_in_another_format(salnas: Salnas) -> None:
    found = salnas("export", "min", "--out", "net.zip", "--format", "openvino", server=True)
    assert (found["format"], found["size_bytes"]) == ("openvino", Path("net.zip").stat().st_size)
    assert found["parity_error"] <= 1e-4


def test_predictions(salnas: Salnas) -> None:
    photo = write_photo(Path("photo.png"))
    big = write_photo(Path("big.png"), (40, 3000))
    for out, server in (("here", False), ("there", True)):
        found = salnas("predict", str(photo), str(big), "--arch", "min", "--out", out, server=server)
        assert found["predictions"][0]["size"] == [48, 64]
        assert found["predictions"][1]["size"] == [40, 3000]
    assert np.array_equal(np.load("here/photo.npy"), np.load("there/photo.npy"))
    assert Path("here/photo.png").read_bytes() == Path("there/photo.png").read_bytes()


def test_the_environment_names_a_service_too(
    salnas: Salnas, service: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = salnas("describe", "max")
    monkeypatch.setenv("SALNAS_SERVER", service[0])
    monkeypatch.setenv("SALNAS_RESULTS", "/nowhere")
    assert salnas("describe", "max") == local


@pytest.mark.parametrize(
    ("words", "kind", "field"),
    [
        (["search", "-c", "latency_ms<=0.001"], "infeasible-budget", "latency_ms"),
        (["search", "--engine", "nsga3"], "settings", "engine"),
        (["describe", "max", "--supernet", "other"], "settings", "supernet"),
        (["describe", "max", "--space", "salnas"], "settings", "space"),
        (["export", "min", "--out", "x.onnx", "--photos", "."], "settings", "photos"),
        (["front", "show", "not-there"], "not-found", "id"),
        (["search", "--resume", "--out", "nothing"], "checkpoint", "out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told(
    service: tuple[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    kind: str,
    field: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--json", "--server", service[0]]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (kind in error["type"], error["field"]) == (True, field), error


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://[", "nonsense"])
def test_no_service(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "max", "--json", "--server", address]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == "server"
    assert error["remedy"]
