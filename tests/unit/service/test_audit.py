from __future__ import annotations

from typing import Any

import pytest

from scripts.audit import verdict

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "said", "bad"),
    [
        ([GOOD, BAD, UNKNOWN], "b 2: CVE-1, CVE-2", True),
        ([GOOD, UNKNOWN], "1 dependencies audited, no known weakness; 1 unknown", False),
        ([GOOD, GOOD], "2 dependencies audited, no known weakness", False),
        ([UNKNOWN], "NOT audited", False),
    ],
)
def test_what_an_audit_says(packages: list[dict[str, Any]], said: str, bad: bool) -> None:
    text, found = verdict({"dependencies": packages})
    assert said in text
    assert found is bad
