"""The examples of the documents for other programs do what they promise, against a real service."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from service.client import Client
from service.settings import Settings
from tests.fixtures.made_up import use_made_up_accuracy, write_made_up_results
from tests.fixtures.served import served
from tests.fixtures.tiny import TINY, time_here

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "service.md"]
CALLS = ("localhost:8000", "127.0.0.1:8000")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    write_made_up_results(folder / "results")
    time_here(folder / "results" / "predictors" / TINY)
    settings = Settings(results=folder / "results", supernet=TINY, state=folder / "state")
    with pytest.MonkeyPatch.context() as patch:
        use_made_up_accuracy(patch)
        patch.setenv("SALNAS_DATA", str(folder / "none"))
        with served(settings) as (found, _), Client(found) as client:
            client.wait("default", seconds=60)
            yield found


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def curls() -> list[tuple[str, list[str]]]:
    lines = [
        (path.name, line)
        for path in DOCUMENTS
        for block in blocks(path, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(name, shlex.split(line)) for name, line in lines if line.startswith("curl ")]


def at(address: str, text: str) -> str:
    """The example at the address of the tests."""
    for call in CALLS:
        text = text.replace(f"http://{call}", address).replace(call, address)
    return text


def test_there_are_examples() -> None:
    assert {name for name, _ in curls()} == {path.name for path in DOCUMENTS}
    assert len(blocks(DOCUMENTS[1], "python")) == 1


def test_the_python_example_takes_a_subnet_home(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = blocks(DOCUMENTS[1], "python")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(compile(at(address, example), "service.md", "exec"), namespace)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["subnet"] == namespace["knee"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("name", "words"), curls(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_curl_example_is_answered(address: str, name: str, words: list[str]) -> None:
    said = subprocess.run([at(address, word) for word in words], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    assert "status" not in found, found
    body = json.loads(words[words.index("-d") + 1])
    if "k" in body:
        assert 1 <= len(found["subnets"]) <= body["k"]
        assert all(subnet["latency_ms"]["predicted"] <= 30 for subnet in found["subnets"])
    else:
        assert len(found["subnets"]) == len(body["subnets"])
