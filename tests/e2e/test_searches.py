"""Searches: a form that cannot be filled in wrongly, the list, comparing."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Service, Visit, latency
from tests.fixtures.serving import wait_for

pytestmark = pytest.mark.slow


def extremes(service: Service) -> tuple[float, float]:
    """Predicted latency of the smallest and of the largest subnet."""
    smallest, largest = (
        service.post("/v1/subnets:describe", {"arch": arch})["predictions"]["latency_ms"]["cpu-1-thread"]
        for arch in ("min", "max")
    )
    return float(smallest["predicted"]), float(largest["predicted"])


def test_the_form_refuses_the_impossible_and_starts_a_search(visit: Visit, service: Service) -> None:
    smallest, largest = extremes(service)
    visit.go("#/searches/new")
    page = visit.page
    field = page.get_by_label("Latency at most (ms)")
    expect(page.locator(".field", has=field)).to_contain_text(f"{largest:.1f}\u00a0ms")
    field.fill("0.001")
    expect(page.locator(".fault-text")).to_contain_text("No subnet is within it")
    page.get_by_role("button", name="Start the search").click()
    expect(field).to_be_focused()
    assert page.url.endswith("#/searches/new")
    boxes = page.get_by_role("group", name="Objectives").get_by_role("checkbox")
    boxes.nth(0).uncheck()
    expect(page.get_by_text("Choose at least two objectives.")).to_be_visible()
    boxes.nth(0).check()

    budget = round((smallest + largest) / 2, 1)
    field.fill(str(budget))
    page.get_by_label("resolution").select_option("256x192")
    page.get_by_role("radio", name="Quick").check()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/#/searches/search-*")
    expect(page.locator(".page-head .badge")).to_have_text("succeeded")
    expect(page.locator("h1")).to_have_text("CC over latency")
    found = service.get(f"/v1/searches/{page.url.rpartition('/')[2]}/front")["subnets"]
    assert found
    assert all(latency(s) <= budget and s["resolution"] == [192, 256] for s in found)

    page.get_by_role("link", name="Fork").click()
    expect(page.get_by_label("Latency at most (ms)")).to_have_value(str(budget))
    expect(page.get_by_label("resolution")).to_have_value("256x192")
    page.get_by_label("resolution").select_option("")
    page.get_by_role("radio", name="Quick").check()
    page.get_by_role("button", name="Start the search").click()
    expect(page.get_by_text("forked from")).to_be_visible()
    expect(page.locator(".page-head .badge")).to_have_text("succeeded")
    page.get_by_role("link", name="Open the front").click()
    page.locator(".facts code").wait_for()


def test_the_form_has_the_best_measured(visit: Visit, service: Service) -> None:
    visit.go("#/searches/new")
    page = visit.page
    field = page.get_by_label("Measure the best (subnets)")
    field.fill("201")
    page.get_by_role("button", name="Start the search").click()
    expect(field).to_be_focused()
    assert page.url.endswith("#/searches/new")
    field.fill("1")
    page.get_by_role("radio", name="Quick").check()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/#/searches/search-*")
    search = page.url.rpartition("/")[2]
    service.post(f"/v1/searches/{search}:cancel", {})
    assert service.get(f"/v1/searches/{search}")["request"]["verify"] == 1


def test_a_fork_keeps_the_constraints_that_the_form_has_no_field_for(visit: Visit, service: Service) -> None:
    _, largest = extremes(service)
    constraints = [f"latency_ms@cpu-2-threads<={largest}", "macs<=2e9"]
    made = service.post("/v1/searches", {"constraints": constraints, "effort": "quick"})
    wait_for(lambda: service.get(f"/v1/searches/{made['id']}")["state"] == "succeeded", 200)
    visit.go(f"#/searches/new?from={made['id']}")
    page = visit.page
    expect(page.get_by_text("Also kept: Latency on cpu-2-threads")).to_be_visible()
    expect(page.get_by_label("Multiply-accumulates at most (G)")).to_have_value("2")
    page.get_by_role("radio", name="Quick").check()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/#/searches/search-*")
    forked = service.get(f"/v1/searches/{page.url.rpartition('/')[2]}")["request"]["constraints"]
    assert constraints[0] in forked
    assert len(forked) == 2


def test_searches_are_listed_filtered_and_compared(visit: Visit, service: Service) -> None:
    created = service.post("/v1/searches", {"objectives": ["accuracy", "macs"], "effort": "quick"})
    wait_for(lambda: service.get(f"/v1/searches/{created['id']}")["state"] == "succeeded", 200)
    visit.go("#/searches")
    page = visit.page
    expect(page.get_by_role("link", name="CC over macs").first).to_be_visible()
    boxes = page.locator("tbody input[type=checkbox]")
    boxes.nth(0).check()
    boxes.nth(boxes.count() - 1).check()
    page.get_by_role("button", name="Compare 2 fronts").click()
    expect(page.locator(".table-card tbody tr")).to_have_count(2)
    expect(page.locator(".compare-plot .scatterlayer .trace")).to_have_count(2)
    expect(page.locator(".table-card")).to_contain_text(re.compile(r"CC 0\.\d+"))
    visit.go("#/searches?state=failed")
    expect(page.get_by_role("heading", name="No searches here")).to_be_visible()
    page.get_by_role("radio", name="Done").check()
    expect(page.locator("tbody tr").first).to_be_visible()
    assert set(page.locator("tbody .badge").all_inner_texts()) == {"succeeded"}
    assert page.url.endswith("state=succeeded")


def test_an_unknown_search_is_said_with_the_remedy(visit: Visit) -> None:
    visit.go("#/front?search=search-unknown")
    expect(visit.page.get_by_role("alert")).to_contain_text("The page Searches lists all there are.")
    visit.go("#/searches/search-unknown")
    expect(visit.page.get_by_role("alert")).to_contain_text("There is no search search-unknown.")
    visit.go("#/nowhere")
    expect(visit.page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    visit.errors.clear()  # the browser reports the answers 404
