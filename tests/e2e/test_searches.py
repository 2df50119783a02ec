"""Searches: a form that cannot be filled in wrongly, the list, comparing."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import expect

from search.front import Front, compare
from search.problem import Objective
from tests.e2e.conftest import (
    DESKTOP,
    PHONE,
    Service,
    Visit,
    accuracy,
    answer,
    front_of,
    latency,
    overflow,
    three_digits,
)
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
    expect(page.locator(".field", has=field)).to_contain_text(f"{three_digits(largest)}\u00a0ms")
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
    assert all(s["latency_ms"]["predicted"] <= budget and s["resolution"] == [192, 256] for s in found)

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
    answer(visit, "**/v1/searches?state=failed*", {"searches": [], "next_page_token": None})
    visit.go("#/searches?state=failed")
    expect(page.get_by_role("heading", name="No searches here")).to_be_visible()
    page.get_by_role("radio", name="Done").check()
    expect(page.locator("tbody tr").first).to_be_visible()
    assert set(page.locator("tbody .badge").all_inner_texts()) == {"succeeded"}
    assert page.url.endswith("state=succeeded")


def found_by(service: Service, **wanted: Any) -> str:
    """Id of a quick search that has ended."""
    made = str(service.post("/v1/searches", {"effort": "quick", **wanted})["id"])
    wait_for(lambda: service.get(f"/v1/searches/{made}")["state"] == "succeeded", 200)
    return made


def test_only_fronts_that_share_their_axes_share_a_plot(visit: Visit, service: Service) -> None:
    smallest, largest = extremes(service)
    alike = found_by(service, constraints=[f"latency_ms<={smallest + 0.1 * (largest - smallest)}"], seed=5)
    other_metric = found_by(service, accuracy_metric="nss")
    other_device = found_by(service, device="cpu-2-threads")
    visit.go(f"#/compare?ids=default,{alike},{other_metric},{other_device}")
    page = visit.page
    expect(page.get_by_text("their accuracies are CC and NSS, and they are of the devices")).to_be_visible()
    expect(page.locator(".compare-plots h2")).to_have_text(
        [
            "CC over latency on cpu-1-thread",
            "NSS over latency on cpu-1-thread",
            "CC over latency on cpu-2-threads",
        ]
    )
    expect(page.locator(".compare-plot .ytitle")).to_have_text(
        ["Accuracy (CC)", "Accuracy (NSS)", "Accuracy (CC)"]
    )
    rows = page.locator(".compared tbody tr")
    expect(rows.nth(1)).to_contain_text("CC · cpu-1-thread · seed 5")
    fronts = {identity: front_of(service, identity) for identity in ("default", alike)}
    expected = [f"{100 * share:.1f} %" for share in shares(fronts)]
    assert rows.locator("td:nth-child(3)").all_inner_texts() == [*expected, "–", "–"]
    page.locator(".page-head select").select_option("macs")
    expect(page.locator(".compare-plots h2")).to_have_text(
        ["CC over multiply-accumulates", "NSS over multiply-accumulates"]
    )
    page.set_viewport_size(PHONE)
    assert overflow(page, ".table-card .table-wrap") <= 0
    page.set_viewport_size(DESKTOP)


def shares(fronts: dict[str, list[dict[str, Any]]]) -> list[float]:
    """Hypervolumes in one common box, as `salnas` compares fronts."""
    objectives = (Objective.parse("max:accuracy"), Objective.parse("min:latency_ms"))
    tables = {
        name: pd.DataFrame(
            [{"id": s["id"], "accuracy": accuracy(s), "latency_ms": latency(s)} for s in subnets]
        )
        for name, subnets in fronts.items()
    }
    compared = compare({name: Front(table, objectives) for name, table in tables.items()})
    return [float(share) for share in compared["hypervolume"]]


def test_the_list_shows_no_numbers_that_cannot_be_compared(visit: Visit) -> None:
    visit.go("#/searches")
    expect(visit.page.locator("tbody tr").first).to_contain_text(re.compile(r"(CC|NSS) · cpu-.* · seed \d"))
    assert "hypervolume" not in visit.page.locator("main").inner_text().lower()


@pytest.mark.parametrize(("kind", "resumable"), [("infeasible-budget", False), ("internal-error", True)])
def test_a_failed_search_says_why_and_what_can_be_done(
    visit: Visit, service: Service, kind: str, resumable: bool
) -> None:
    search = service.get("/v1/searches/default")
    error = {"type": f"/problems/{kind}", "detail": "It went wrong.", "field": None, "remedy": "Do this."}
    failed = {
        **search,
        "id": "search-failed",
        "state": "failed",
        "result": None,
        "progress": None,
        "error": error,
    }
    failed["request"] = {**search["request"], "constraints": ["latency_ms<=9"], "verify": 8}
    front = service.get("/v1/searches/default/front")
    answer(visit, "**/v1/searches/search-failed", failed)
    answer(visit, "**/v1/searches/search-failed/front", {**front, "subnets": []})
    answer(visit, "**/v1/searches/search-failed/events*", {"events": [], "next_page_token": None})
    visit.go("#/searches/search-failed")
    page = visit.page
    expect(page.get_by_role("alert")).to_have_text("It went wrong.Do this.")
    assert (page.get_by_role("button", name="Resume").count() > 0) == resumable
    expect(page.locator(".pair")).to_be_hidden()
    page.get_by_role("link", name="Fork").click()
    expect(page.get_by_label("Latency at most (ms)")).to_have_value("9")
    expect(page.get_by_label("Measure the best (subnets)")).to_have_value("8")
    expect(page.get_by_role("checkbox", name="Accuracy")).to_be_checked()


def test_a_refusal_goes_when_the_form_is_changed(visit: Visit) -> None:
    refusal = {"type": "/problems/infeasible-budget", "status": 422, "detail": "None fits.", "field": "macs"}
    answer(visit, "**/v1/searches", refusal, status=422)
    visit.go("#/searches/new")
    field = visit.page.get_by_label("Multiply-accumulates at most (G)")
    field.fill("1")
    visit.page.get_by_role("button", name="Start the search").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("None fits.")
    field.fill("")
    expect(visit.page.get_by_role("alert")).to_have_count(0)
    expect(field).to_have_attribute("aria-invalid", "false")
    visit.errors.clear()  # the browser reports the answer 422


def test_an_unknown_search_is_said_with_the_remedy(visit: Visit) -> None:
    visit.go("#/front?search=search-unknown")
    expect(visit.page.get_by_role("alert")).to_contain_text("The page Searches lists all there are.")
    expect(visit.page.locator(".subnet-card")).to_be_hidden()
    expect(visit.page.locator(".answer")).to_be_hidden()
    visit.page.get_by_role("link", name="To the default front").click()
    visit.page.locator(".facts code").wait_for()
    expect(visit.page.locator(".subnet-card")).to_be_visible()
    visit.go("#/searches/search-unknown")
    expect(visit.page.get_by_role("alert")).to_contain_text("There is no search search-unknown.")
    expect(visit.page.get_by_role("progressbar")).to_have_count(0)
    expect(visit.page.locator(".pair")).to_be_hidden()
    tall = "document.documentElement.scrollHeight - document.documentElement.clientHeight"
    assert visit.page.evaluate(tall) <= 0
    visit.page.get_by_role("link", name="All searches").click()
    expect(visit.page.get_by_role("heading", name="Searches")).to_be_visible()
    visit.go("#/nowhere")
    expect(visit.page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    visit.errors.clear()  # the browser reports the answers 404
