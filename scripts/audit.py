"""Ask for known weaknesses of the pinned packages; says so, and fails nothing, where nobody answers.

Exit code 1 where a pinned package has a known weakness.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).parents[1] / "constraints.txt"
SECONDS = 120


def verdict(report: dict[str, Any]) -> tuple[str, bool]:
    """What to say about a report of pip-audit, and whether it is bad."""
    packages = report["dependencies"]
    weak = [package for package in packages if package.get("vulns")]
    asked = [package for package in packages if "vulns" in package]
    if weak:
        lines = [f"{p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}" for p in weak]
        return "Known weaknesses:\n" + "\n".join(lines), True
    if not asked:
        return "Dependencies NOT audited: the source of advisories does not know any of them from here", False
    missing = len(packages) - len(asked)
    return f"{len(asked)} dependencies audited, no known weakness" + f"; {missing} unknown" * bool(
        missing
    ), False


def audit() -> tuple[str, bool]:
    """Run pip-audit on the pins."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        return verdict(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return "Dependencies NOT audited: the source of advisories does not answer", False


def main() -> None:
    """Audit and say what came of it."""
    said, bad = audit()
    print(said)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
