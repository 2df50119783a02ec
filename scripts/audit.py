"""Ask for known weaknesses of the pinned packages, those of Python and those that check the page.

Exit code 1 where a package has a known weakness; with SALNAS_AUDIT=required also where nobody answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINS = ROOT / "constraints.txt"
SECONDS = 120
REQUIRED = "required"


class Outcome(Enum):
    """What came of an audit."""

    GOOD = "good"
    WEAK = "weak"
    UNKNOWN = "unknown"


Verdict = tuple[str, Outcome]
"""What to say about some packages, and what came of it."""


def python_verdict(report: dict[str, Any]) -> Verdict:
    """About a report of pip-audit."""
    packages = report["dependencies"]
    weak = [package for package in packages if package.get("vulns")]
    asked = [package for package in packages if "vulns" in package]
    if weak:
        lines = [f"{p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}" for p in weak]
        return "Known weaknesses of Python packages:\n" + "\n".join(lines), Outcome.WEAK
    if not asked:
        reason = "the source of advisories does not know any of them from here"
        return _not_audited("Python packages", reason)
    missing = len(packages) - len(asked)
    unknown = f"; {missing} unknown" * bool(missing)
    return f"{len(asked)} Python packages audited, no known weakness{unknown}", Outcome.GOOD


def page_verdict(report: dict[str, Any]) -> Verdict:
    """About a report of npm audit."""
    weak, asked = report["vulnerabilities"], report["metadata"]["dependencies"]["total"]
    if weak:
        lines = [f"{name} {about['range']}: {about['severity']}" for name, about in sorted(weak.items())]
        return "Known weaknesses of npm packages:\n" + "\n".join(lines), Outcome.WEAK
    return f"{asked} npm packages audited, no known weakness", Outcome.GOOD


def audit_python() -> Verdict:
    """Run pip-audit on the pins."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    return _asked("Python packages", command, python_verdict)


def audit_page() -> Verdict:
    """Run npm audit on the lock file."""
    beside = Path(sys.executable).with_name("npm")
    npm = str(beside) if beside.exists() else shutil.which("npm")
    if npm is None:
        return _not_audited("npm packages", "npm is not installed")
    return _asked("npm packages", [npm, "audit", "--json", "--package-lock-only"], page_verdict)


def exit_code(outcomes: Sequence[Outcome], demand: str) -> int:
    """1 where a package is weak and, where an audit is required, where it could not be done."""
    bad = {Outcome.WEAK} | ({Outcome.UNKNOWN} if demand == REQUIRED else set())
    return int(any(outcome in bad for outcome in outcomes))


def _asked(what: str, command: Sequence[str], verdict: Callable[[dict[str, Any]], Verdict]) -> Verdict:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT)
        return verdict(json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return _not_audited(what, "the source of advisories does not answer")


def _not_audited(what: str, reason: str) -> Verdict:
    return f"WARNING: {what} were NOT AUDITED: {reason}", Outcome.UNKNOWN


def main() -> None:
    """Audit and say what came of it."""
    found = [audit_python(), audit_page()]
    for said, outcome in found:
        print(said, file=sys.stdout if outcome is Outcome.GOOD else sys.stderr)
    sys.exit(exit_code([outcome for _, outcome in found], os.environ.get("SALNAS_AUDIT", "")))


if __name__ == "__main__":
    main()
