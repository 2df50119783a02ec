"""The pages about the service name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from service.metrics import Metrics
from service.settings import describe_settings

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"


def test_every_test_that_the_threats_name_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "threats.md").read_text()))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in sorted(named) if f"def {name}(" not in sources]
    assert len(named) > 15
    assert missing == []


def test_every_setting_that_a_page_names_is_there() -> None:
    known = {name for name, *_ in describe_settings()}
    files = [DOCS / "service.md", DOCS / "threats.md", *sorted((ROOT / "deploy").iterdir())]
    named = {name for path in files for name in re.findall(r"SALNAS_[A-Z_]+", path.read_text())}
    assert named <= known


def test_every_metric_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(salnas_\w+)`", (DOCS / "service.md").read_text()))
    metrics = Metrics()
    metrics.request("GET", "/", 200, 0.1)
    source = (ROOT / "service" / "routes" / "health.py").read_text() + metrics.text()
    assert named
    assert [name for name in named if name not in source] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in (DOCS / "service.md", DOCS / "threats.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
