"""The systemd unit and the container file fit the repository."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from service.settings import describe_settings

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "deploy" / "salnas.service"
CONTAINER = ROOT / "deploy" / "Containerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SYSTEMD = shutil.which("systemd-analyze")


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the container file with its words."""
    lines = CONTAINER.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, words.strip()) for name, _, words in pairs]


@pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    # Only where SalNAS is installed does the unit's own program exist.
    text = re.sub(
        r"^ExecStart=\S+", "ExecStart=/bin/sh", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    checked = tmp_path / UNIT.name
    checked.write_text(text)
    done = subprocess.run([str(SYSTEMD), "verify", str(checked)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_the_unit_starts_a_command_that_there_is() -> None:
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    program, *words = shlex.split(start)
    assert Path(program).name in PROJECT["scripts"]
    assert words == ["serve"]


def test_the_settings_that_deployments_make_exist() -> None:
    known = {name for name, *_ in describe_settings()}
    for path in (UNIT, CONTAINER):
        named = re.findall(r"\b(SALNAS_[A-Z]+)=", path.read_text(encoding="utf-8"))
        assert named, path.name
        assert set(named) <= known, path.name


def test_the_container_copies_files_that_there_are() -> None:
    copied = [name for what, words in instructions() if what == "COPY" for name in words.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    packages = {"supernet", "predictors", "search", "service"}
    assert packages | {"pyproject.toml", "constraints.txt", "results"} <= set(copied)


def test_the_container_has_a_python_that_the_project_supports() -> None:
    (base,) = [words for what, words in instructions() if what == "FROM"]
    found = re.search(r"/python:(\d+)\.(\d+)-", base)
    assert found is not None, base
    least, above = re.findall(r"\d+\.\d+", PROJECT["requires-python"])
    version = tuple(map(int, found.groups()))
    assert tuple(map(int, least.split("."))) <= version < tuple(map(int, above.split(".")))


def test_the_container_installs_extras_and_starts_a_command_that_there_are() -> None:
    run = " ".join(words for what, words in instructions() if what == "RUN")
    extras = re.findall(r"\.\[([\w,-]+)\]", run)
    assert {name for group in extras for name in group.split(",")} <= set(PROJECT["optional-dependencies"])
    (command,) = [words for what, words in instructions() if what == "CMD"]
    assert command == '["salnas", "serve"]'
    users = [words for what, words in instructions() if what == "USER"]
    assert users, "it does not run as root"
    assert f"useradd --uid 10001 --create-home {users[-1]}" in run
