from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import audit
from scripts.audit import REQUIRED, Outcome, exit_code, page_verdict, python_verdict

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "said", "outcome"),
    [
        ([GOOD, BAD, UNKNOWN], "b 2: CVE-1, CVE-2", Outcome.WEAK),
        ([GOOD, UNKNOWN], "1 Python packages audited, no known weakness; 1 unknown", Outcome.GOOD),
        ([GOOD, GOOD], "2 Python packages audited, no known weakness", Outcome.GOOD),
        ([UNKNOWN], "NOT AUDITED", Outcome.UNKNOWN),
    ],
)
def test_what_an_audit_says(packages: list[dict[str, Any]], said: str, outcome: Outcome) -> None:
    text, found = python_verdict({"dependencies": packages})
    assert said in text
    assert found is outcome


def test_what_an_audit_of_the_page_says() -> None:
    report: dict[str, Any] = {"vulnerabilities": {}, "metadata": {"dependencies": {"total": 9}}}
    assert page_verdict(report) == ("9 npm packages audited, no known weakness", Outcome.GOOD)
    report["vulnerabilities"] = {"axe-core": {"range": "<5", "severity": "high"}}
    text, found = page_verdict(report)
    assert "axe-core <5: high" in text
    assert found is Outcome.WEAK


@pytest.mark.parametrize(
    ("outcomes", "demand", "code"),
    [
        ([Outcome.GOOD, Outcome.GOOD], REQUIRED, 0),
        ([Outcome.GOOD, Outcome.UNKNOWN], "", 0),
        ([Outcome.GOOD, Outcome.UNKNOWN], REQUIRED, 1),
        ([Outcome.WEAK, Outcome.GOOD], "", 1),
    ],
)
def test_the_exit_code(outcomes: list[Outcome], demand: str, code: int) -> None:
    assert exit_code(outcomes, demand) == code


@pytest.mark.parametrize("demand", ["", REQUIRED])
def test_an_audit_that_nobody_answers_is_told_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], demand: str
) -> None:
    def silent(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, '{"message": "405 Method Not Allowed"}', "")

    monkeypatch.setattr("scripts.audit.subprocess.run", silent)
    monkeypatch.setattr("scripts.audit.shutil.which", lambda name: sys.executable)
    monkeypatch.setenv("SALNAS_AUDIT", demand)
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code == (1 if demand else 0)
    said = capsys.readouterr()
    assert said.err.count("NOT AUDITED") == 2
    assert said.out == ""


def test_what_is_audited_exists() -> None:
    assert audit.PINS.is_file()
    assert Path(audit.ROOT / "package-lock.json").is_file()
