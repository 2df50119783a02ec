"""What the documents say is true: their commands exist, take these options, and do what is promised."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from service.cli import app, run
from service.jobs import Job, JobKind, JobState
from service.settings import describe_settings
from supernet.space import get_space
from tests.fixtures.tiny import TINY, write_predictors, write_supernet

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SERVICE = ROOT / "docs" / "service.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]
SHIPPED = ROOT / "results" / "supernets" / "salnas-osie.safetensors"


def commands_in(path: Path) -> list[list[str]]:
    """The words of every `salnas` command in the code of a document, one list each."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [shlex.split(line, comments=True) for line in lines if "salnas " in line]
    return [words[1:] for words in found if words and Path(words[0]).name == "salnas"]


ALL_COMMANDS = [(path, words) for path in DOCUMENTS for words in commands_in(path)]


@pytest.mark.parametrize(
    ("path", "words"), ALL_COMMANDS, ids=[f"{path.name}: {' '.join(words)}" for path, words in ALL_COMMANDS]
)
def test_a_documented_command_is_understood(path: Path, words: list[str]) -> None:
    command = typer.main.get_command(app)
    context = command.make_context("salnas", list(words), resilient_parsing=True)
    rest = words
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"{path.name}: no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if "…" not in words:
        command.make_context(words[0], list(rest), parent=context)


def every_command(group: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """All commands with their names, such as `front show`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, *words, name)
        else:
            yield " ".join([*words, name]), command


def test_the_table_of_commands_says_which_of_them_ask_a_service() -> None:
    section = (
        SERVICE.read_text(encoding="utf-8").partition("## From the command line")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (`.*?) \| (yes|no)\b", section, re.MULTILINE)
    documented = {name: said for cell, said in rows for name in re.findall(r"`([a-z ]+)`", cell)}
    commands = dict(every_command(typer.main.get_command(app)))
    asks = {name: any("--server" in p.opts for p in command.params) for name, command in commands.items()}
    assert {name: said == "yes" for name, said in documented.items()} == asks


def test_the_deaths_of_workers_that_a_job_survives_are_stated_right() -> None:
    (word,) = re.findall(r"workers die (\w+)\s+times in a row", SERVICE.read_text(encoding="utf-8"))
    job, deaths = Job("j", JobKind.SEARCH, {}, 0.0).claimed("w", "t", 0.0, 1.0), 0
    while job.state is JobState.RUNNING:
        deaths += 1
        job = job.claimed("w", "t", 10.0 * deaths, 1.0)
    assert word == {5: "five", 6: "six", 7: "seven"}[deaths]


def test_the_readme_shows_its_commands() -> None:
    shown = {words[0] for words in commands_in(README)}
    assert {"search", "predict", "export"} <= shown


@pytest.mark.slow
def test_the_example_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    example = next(block for block in blocks if "salnas search" in block)
    (tmp_path / "service").symlink_to(ROOT / "service")
    monkeypatch.chdir(tmp_path)
    if not SHIPPED.is_file():
        write_supernet(tmp_path / "results")
        write_predictors(tmp_path / "results")
        monkeypatch.setenv("SALNAS_RESULTS", str(tmp_path / "results"))
        monkeypatch.setenv("SALNAS_SUPERNET", TINY)
    for line in example.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == ".venv/bin/salnas"
        assert run(words) == 0, capsys.readouterr().err
        if "--out" in words:
            assert os.path.exists(words[words.index("--out") + 1])


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        named = re.findall(r"(?:^|`)(?:\w+=\S+ )*make ([a-z][a-z-]*)", path.read_text(), re.MULTILINE)
        assert set(named) <= targets, path.name


def test_linked_files_exist() -> None:
    for path in DOCUMENTS:
        links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
        missing = [link for link in links if not (path.parent / link).exists()]
        assert missing == [], path.name


def test_the_size_of_the_space_is_stated_right() -> None:
    assert f"{get_space('salnas').size:,}" in README.read_text(encoding="utf-8")


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    lines = []
    for name, default, about in describe_settings():
        lines.append(f"| `{name}` | {f'`{default}`' if default else 'none'} | {about} |")
    assert [line for line in lines if line not in text] == []
    listed = re.findall(r"^\| `(SALNAS_\w+)`", text, re.MULTILINE)
    code = "".join(path.read_text() for path in sorted((ROOT / "supernet").rglob("*.py")))
    read = set(re.findall(r'"(SALNAS_[A-Z]+)"', code)) | {"SALNAS_WEIGHTS"}
    assert set(listed) == {name for name, *_ in describe_settings()} | read
