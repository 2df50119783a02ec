"""A search followed on the page while it is cancelled, and while the service is killed and started again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import DESKTOP, Service, Visit, browsing, visiting
from tests.fixtures.serving import wait_for

pytestmark = pytest.mark.slow

LONG = {"objectives": ["accuracy", "latency_ms"], "seconds": 300}


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[BrowserContext]:
    with browsing(browser, DESKTOP) as context:
        yield context


@pytest.fixture
def open_visit(window: BrowserContext, service: Service) -> Iterator[Visit]:
    """A page whose failed requests are part of the test."""
    with visiting(window, service) as visit:
        yield visit


def figure(page: Page, name: str) -> str:
    return page.locator(".figures div", has_text=name).locator("dd").inner_text()


def scored(page: Page) -> int:
    text = figure(page, "Scored")
    return int(text.replace(",", "")) if text[0].isdigit() else 0


def follow(visit: Visit, service: Service) -> str:
    identity = str(service.post("/v1/searches", LONG)["id"])
    visit.go(f"#/searches/{identity}")
    expect(visit.page.locator(".page-head .badge")).to_have_text("running")
    visit.page.wait_for_function("document.querySelectorAll('.small-plot .js-line').length > 0")
    return identity


def test_a_search_is_followed_cancelled_and_resumed(visit: Visit, service: Service) -> None:
    identity = follow(visit, service)
    page = visit.page
    before = scored(page)
    wait_for(lambda: scored(page) > before, 60)
    expect(page.locator(".figures div", has_text="Time left")).to_contain_text("about")
    expect(page.locator(".figures div", has_text="Speed")).to_contain_text("/ s")
    expect(page.locator(".small-plot .scatterlayer .point").first).to_be_attached()
    badge = page.locator(".page-head .badge")
    page.get_by_role("button", name="Cancel").click()
    expect(badge).to_have_text("cancelled")
    found = service.get(f"/v1/searches/{identity}/front")["subnets"]
    expect(page.locator(".figures div", has_text="On the front").locator("dd")).to_have_text(
        f"{len(found):,}"
    )
    page.get_by_role("button", name="Resume").click()
    expect(badge).to_have_text("running")
    page.get_by_role("button", name="Cancel").click()
    expect(badge).to_have_text("cancelled")


def test_the_page_outlives_a_killed_service(
    open_visit: Visit, window: BrowserContext, service: Service
) -> None:
    page = open_visit.page
    with visiting(window, service) as second:
        second.front()
        second.page.wait_for_timeout(1500)  # the other views are fetched when the first one is there
        identity = follow(open_visit, service)
        page.wait_for_timeout(1500)  # a state is saved each second
        before = scored(page)
        service.kill()
        expect(page.locator("#offline")).to_be_visible()
        second.page.get_by_role("link", name="Devices").click()
        expect(second.page.get_by_role("alert")).to_contain_text("The service does not answer")
        service.start()
        expect(page.locator("#offline")).to_be_hidden()
        expect(second.page.locator(".devices tbody tr").first).to_be_visible()
        expect(second.page.get_by_role("alert")).to_have_count(0)
        wait_for(lambda: scored(page) > before, 60)
    expect(page.locator(".page-head .badge")).to_have_text("running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".page-head .badge")).to_have_text("cancelled")
    assert service.get(f"/v1/searches/{identity}")["attempts"] == 2


def test_what_is_not_there_yet_is_said(open_visit: Visit) -> None:
    page = open_visit.page
    missing = json.dumps({"type": "/problems/not-found", "status": 404, "detail": "There is no front."})
    page.route("**/v1/searches/default", lambda route: route.fulfill(status=404, body=missing))
    page.route("**/v1/devices", lambda route: route.fulfill(body='{"devices": []}'))
    open_visit.go()
    expect(page.get_by_role("heading", name="There is no front yet")).to_be_visible()
    open_visit.go("#/devices")
    expect(page.get_by_role("heading", name="No device yet")).to_be_visible()
