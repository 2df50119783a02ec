from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.cli import run
from service.keys import split_key


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALNAS_STATE", str(tmp_path))


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_life_of_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    added = printed(capsys, "keys", "add", "build server", "--scope", "read")
    parts = split_key(added["key"])
    assert parts is not None
    assert (parts[0], added["scope"]) == (added["id"], "read")
    (listed,) = printed(capsys, "keys", "list")["keys"]
    assert (listed["id"], listed["name"], listed["revoked"]) == (added["id"], "build server", None)
    assert parts[1] not in json.dumps(listed)
    printed(capsys, "keys", "revoke", added["id"])
    (revoked,) = printed(capsys, "keys", "list")["keys"]
    assert revoked["revoked"] > 0


def test_the_key_alone_goes_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "x"]) == 0
    assert split_key(capsys.readouterr().out.strip())


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["keys", "add", "x", "--scope", "all"], "scope"),
        (["keys", "add", "a\nb"], "name"),
        (["keys", "revoke", "none"], "id"),
    ],
)
def test_mistakes_are_named(capsys: pytest.CaptureFixture[str], words: list[str], field: str) -> None:
    assert run(words) == 2
    assert f"{field} = " in capsys.readouterr().err
