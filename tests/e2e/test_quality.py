"""What holds of every view: accessible, fit for a phone and a keyboard, fast, steady, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import DESKTOP, PHONE, ROOT, Service, Visit, browsing, visiting
from tests.fixtures.serving import wait_for

pytestmark = pytest.mark.slow

VIEWS = {
    "#/front": ".budget-slider",
    "#/subnet/max": ".stages",
    "#/photo": ".tile canvas[aria-label*='street']",
    "#/searches": "tbody tr",
    "#/searches/new": ".form-fields fieldset",
    "#/searches/default": ".small-plot .point, .small-plot .js-line",
    "#/compare?ids=default,default-salnas-osie": ".compare-plot .trace",
    "#/devices": ".devices tbody tr",
}
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
OBSERVER = """
    window.shift = 0;
    window.shifted = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
            window.shift += entry.value;
            const box = ({ x, y, width, height }) => [x, y, width, height].map(Math.round).join(" ");
            const moved = ({ node, previousRect, currentRect }) =>
                `${node?.nodeName} ${node?.className ?? ""}: ${box(previousRect)} to ${box(currentRect)}`;
            window.shifted.push(`${entry.value.toFixed(4)} of`, ...entry.sources.map(moved));
        }
    }).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.is_file():
        pytest.skip("no axe in node_modules; `make setup-page` installs it")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def still(browser: Browser) -> Iterator[BrowserContext]:
    """A window without motion, so that nothing is checked half faded in."""
    with browsing(browser, DESKTOP, reduced_motion="reduce") as context:
        yield context


def violations(page: Page) -> list[str]:
    """What axe finds, as rule, element and reason."""
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found: list[dict[str, Any]] = page.evaluate(
        "async (options) => (await axe.run(document, options)).violations", options
    )
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_accessible(still: BrowserContext, service: Service, axe: str, view: str) -> None:
    with visiting(still, service) as visit:
        visit.page.set_viewport_size(DESKTOP)
        visit.page.emulate_media(color_scheme="light")
        visit.go(view)
        visit.page.locator(VIEWS[view]).first.wait_for(state="attached")
        wait_for(lambda: visit.page.locator("[aria-busy]").count() == 0, 60)
        visit.page.evaluate(axe)
        found = {}
        for name, size in {"desktop": DESKTOP, "phone": PHONE}.items():
            visit.page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                visit.page.emulate_media(color_scheme=scheme)
                visit.page.evaluate(TWO_FRAMES)
                found[f"{name}, {scheme}"] = violations(visit.page)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
        assert {name: faults for name, faults in found.items() if faults} == {}
        assert visit.page.locator("h1").count() == 1
        assert visit.errors == []


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_paints_at_once_and_nothing_jumps(visit: Visit, view: str) -> None:
    visit.page.add_init_script(OBSERVER)
    painted: list[float] = []
    while len(painted) < 3 and min(painted, default=np.inf) >= 1000:  # other work may delay one visit
        visit.go(view)
        visit.page.locator(VIEWS[view]).first.wait_for(state="attached")
        wait_for(lambda: visit.page.locator("[aria-busy]").count() == 0, 60)
        paints = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        painted.append(visit.page.evaluate(paints))
        assert visit.page.evaluate("window.shift") < 0.05, "\n".join(visit.page.evaluate("window.shifted"))
    assert min(painted) < 1000


def test_the_page_works_by_keyboard_alone(visit: Visit) -> None:
    visit.front()
    page = visit.page
    page.locator(".stages").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.className + '|' + document.activeElement.textContent.trim().slice(0, 20)"
            )
        )
    text = json.dumps(sorted(reached))
    for wanted in (
        "budget-field",
        "budget-slider",
        "Export ONNX",
        "thumb",
        "Layers",
        "stages-scroll",
        "Download",
    ):
        assert wanted in text
    page.get_by_role("link", name="Searches").press("Enter")
    page.get_by_role("heading", name="Searches").wait_for()
    expect(page.locator("#main")).to_be_focused()


def test_the_theme_is_remembered(browser: Browser, service: Service) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with browsing(browser, DESKTOP, color_scheme="light") as context, visiting(context, service) as visit:
        visit.go()
        light = visit.page.evaluate(paper)
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        dark = visit.page.evaluate(paper)
        assert dark != light
        visit.page.reload()
        assert visit.page.evaluate(paper) == dark


def test_the_page_names_no_other_server() -> None:
    web = ROOT / "service" / "web"
    for path in web.rglob("*"):
        if path.suffix in (".js", ".css", ".html"):
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text, f"{path.relative_to(web)} names an address"
