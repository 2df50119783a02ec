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
from supernet.cost import cost
from supernet.space import get_space
from tests.fixtures.served import served_made_up
from tests.fixtures.tiny import TINY, write_data, write_photo
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


def two_searches(salnas: Salnas) -> tuple[list[str], list[str]]:
    """Folders of two searches here, and the ids of the same at the service."""
    folders, ids = [], []
    for seed in ("1", "2"):
        words = ("search", "--evaluations", "600", "--seed", seed)
        salnas(*words, "--out", f"front-{seed}")
        folders.append(f"front-{seed}")
        ids.append(salnas(*words, server=True)["search"])
    return folders, ids


def test_fronts_are_compared(salnas: Salnas) -> None:
    folders, ids = two_searches(salnas)
    local, found = salnas("front", "compare", *folders), salnas("front", "compare", *ids, server=True)
    assert [front["front"] for front in found["fronts"]] == ids
    for front, known in zip(found["fronts"], local["fronts"], strict=True):
        assert front["hypervolume"] == pytest.approx(known["hypervolume"])
        assert (front["subnets"], front["knee"]) == (known["subnets"], known["knee"])
    assert found["attainment"] == local["attainment"]
    other = salnas("front", "compare", ids[0], "-o", "accuracy", "-o", "macs", server=True)
    assert other["objectives"] == ["max:accuracy", "min:macs"]


def test_fronts_are_drawn(salnas: Salnas, service: tuple[str, Path]) -> None:
    folders, ids = two_searches(salnas)
    measured = {"weights": "trained", "held_out": {"cc": 0.6}, "latency_ms": {"cpu-1-thread": 7.0}}
    (service[1] / "models").mkdir(exist_ok=True)
    (service[1] / "models" / "measured.json").write_text(json.dumps({"models": {"fastsal-a": measured}}))
    for words in ((), ("--attainment",), ("--no-models",)):
        local = salnas("front", "plot", *folders, "--out", "here.svg", *words)
        found = salnas("front", "plot", *ids, "--out", "there.svg", *words, server=True)
        assert (found["fronts"], found["models"]) == (ids, local["models"])
        assert len(found["models"]) == (not words)
        assert Path("there.svg").stat().st_size == found["size_bytes"]


def test_reference_models(salnas: Salnas) -> None:
    local, found = salnas("models")["models"], salnas("models", server=True)["models"]
    assert len(local) >= 2
    for model, known in zip(found, local, strict=True):
        assert model == {name: known[name] for name in model}


def write_measurements(path: Path, subnets: int, factor: float) -> Path:
    space = get_space("tiny")
    rows = np.unique(space.sample(np.random.default_rng(subnets), 2 * subnets), axis=0)[:subnets]
    latency = 2 + factor * cost(space, rows).macs / 1e6
    lines = [f"{identity},{ms}" for identity, ms in zip(space.ids(rows), latency, strict=True)]
    path.write_text("\n".join(["id,latency_ms", *lines]))
    return path


def test_a_device_of_mine(salnas: Salnas, service: tuple[str, Path]) -> None:
    assert salnas("device", "pack", "pack.zip", "--models", "10", server=True)["models"] == 10
    assert Path("pack.zip").read_bytes().startswith(b"PK")
    first = write_measurements(Path("first.csv"), 12, 1.0)
    words = ("device", "add", "phone", str(first), "--threads", "4")
    added = salnas(*words, server=True)
    assert (added["name"], added["quality"]["n"]) == ("phone", 12)
    assert salnas(*words, server=True) == added, "the same device is found"
    second = str(write_measurements(Path("second.csv"), 14, 2.0))
    assert run(["device", "add", "phone", second, "--server", service[0]]) == 2
    replaced = salnas("device", "add", "phone", second, "--replace", server=True)
    assert replaced["quality"]["n"] == 14
    (listed,) = [d for d in salnas("device", "list", server=True)["devices"] if d["name"] == "phone"]
    assert (listed["threads"], listed["quality"]) == (None, replaced["quality"])
    assert salnas("device", "add", "phone", second, server=True) == replaced
    assert salnas("device", "remove", "phone", server=True) == {"removed": "phone"}
    assert "phone" not in [d["name"] for d in salnas("device", "list", server=True)["devices"]]


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


def test_an_export_in_int8_tells_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data" / "osie", 12)
    monkeypatch.setenv("SALNAS_DATA", str(tmp_path / "data"))
    photos = str(write_photo(tmp_path / "photos" / "one.png").parent)
    words = ["export", "min", "--out", str(tmp_path / "net.onnx"), "--precision", "int8", "--json"]
    with served_made_up(tmp_path / "service", photos=photos) as (address, _):
        assert run([*words, "--server", address]) == 0
    found = json.loads(capsys.readouterr().out)
    monkeypatch.setenv("SALNAS_RESULTS", str(tmp_path / "service" / "results"))
    monkeypatch.setenv("SALNAS_SUPERNET", TINY)
    assert run([*words, "--photos", photos]) == 0
    local = json.loads(capsys.readouterr().out)
    assert found["accuracy_loss"]["photos"] > 0
    assert found["accuracy_loss"] == local["accuracy_loss"]


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
        (["search", "--generations", "3"], "settings", "generations"),
        (["search", "--verify", "--data", "mit1003"], "settings", "data"),
        (["front", "show", "default", "-o", "macs"], "settings", "objective"),
        (["front", "query", "default", "--by", "macs"], "settings", "by"),
        (["front", "compare", "not-there", "default"], "not-found", "id"),
        (["front", "compare", "default", "default"], "settings", "front"),
        (["front", "compare", "default", "-o", "accuracy", "-o", "nothing"], "constraint", "objectives"),
        (["device", "add", "cpu-1-thread", "measured.csv", "--replace"], "wrong-state", "device"),
        (["device", "add", "watch", "few.csv"], "device", "rows"),
        (["export", "--model", "fastsal-a", "--out", "x.onnx"], "settings", "server"),
        (["predict", "photo.png", "--model", "fastsal-a", "--out", "x"], "settings", "server"),
        (["predict", "film.mp4", "--out", "x"], "settings", "server"),
        (["evaluate", "--data", "osie"], "usage", "server"),
        (["rerun", "found"], "usage", "server"),
        (["collect", "fit"], "usage", "server"),
        (["data", "check", "osie"], "usage", "server"),
        (["finetune", "max", "--out", "x.safetensors"], "usage", "server"),
        (["distill", "min", "--photos", ".", "--out", "x.safetensors"], "usage", "server"),
        (["train"], "usage", "server"),
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
    write_measurements(Path("measured.csv"), 12, 1.0)
    write_measurements(Path("few.csv"), 3, 1.0)
    assert run([*words, "--json", "--server", service[0]]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (kind in error["type"], error["field"]) == (True, field), error


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://[", "nonsense"])
def test_no_service(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "max", "--json", "--server", address]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == "server"
    assert error["remedy"]
