"""The front: budget, points, colours, what can be downloaded, a search now."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from tests.e2e.conftest import Service, Visit, accuracy, latency, query

pytestmark = pytest.mark.slow

TRACES = (
    "(plot) => plot.data.map(({ x, y, mode, marker, customdata }) => ({ x, y, mode, marker, customdata }))"
)
PIXEL = """(plot, [x, y]) => {
    const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
}"""


def best_within(front: list[dict[str, Any]], budget: float) -> str:
    return str(max((s for s in front if latency(s) <= budget), key=accuracy)["id"])


def named(visit: Visit) -> str:
    return visit.page.locator(".facts code").inner_text()


def test_the_budget_names_the_best_subnet(visit: Visit, front: list[dict[str, Any]]) -> None:
    visit.front()
    best = best_within(front, float(visit.page.locator(".budget-field").input_value()))
    assert named(visit) == best
    visit.wait_for_card(best)
    predicted = next(accuracy(s) for s in front if s["id"] == best)
    assert visit.page.locator(".score").inner_text() == f"CC {predicted:.3f}"
    expect(visit.page.locator(".stages rect.out").first).to_be_visible()
    expect(visit.page.locator(".subnet-card .map")).not_to_have_attribute("aria-busy", "true")

    budget = round(sorted(map(latency, front))[len(front) // 4] + 0.005, 2)
    visit.page.locator(".budget-field").fill(str(budget))
    visit.page.keyboard.press("Enter")
    visit.wait_for_card(best_within(front, budget))
    assert float(query(visit.page.url, "budget")) == pytest.approx(budget, abs=0.01)
    visit.page.locator(".budget-field").fill("0.0001")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".facts")).to_contain_text("No subnet of this front is within")


def test_the_budget_follows_the_arrow_keys(visit: Visit, front: list[dict[str, Any]]) -> None:
    visit.front()
    before = named(visit)
    slider = visit.page.get_by_role("slider", name="Budget: Latency")
    slider.focus()
    slider.press("End")
    assert named(visit) == best_within(front, np.inf)
    assert "best accuracy" in (slider.get_attribute("aria-valuetext") or "")
    for _ in range(3):
        slider.press("PageDown")
    budget = float(query(visit.page.url, "budget"))
    assert named(visit) == best_within(front, budget) != before


def test_the_budget_line_can_be_dragged(visit: Visit, front: list[dict[str, Any]]) -> None:
    visit.front()
    box = visit.page.locator(".budget-handle").bounding_box()
    plot = visit.page.locator(".plot-box").bounding_box()
    assert box
    assert plot
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 120)
    visit.page.mouse.down()
    seen = set()
    for share in (0.4, 0.6, 0.8, 0.95):
        visit.page.mouse.move(plot["x"] + share * plot["width"], box["y"] + 120, steps=3)
        seen.add(named(visit))
    visit.page.mouse.up()
    assert len(seen) > 1
    expect(visit.page).to_have_url(re.compile("budget="))
    visit.wait_for_card(best_within(front, float(query(visit.page.url, "budget"))))


def test_a_click_on_a_point_shows_that_subnet(visit: Visit, front: list[dict[str, Any]]) -> None:
    visit.front()
    picked = max(front, key=accuracy)
    x, y = visit.page.locator(".plot-canvas").evaluate(PIXEL, [latency(picked), accuracy(picked)])
    visit.page.mouse.move(x, y)
    visit.page.locator(".hoverlayer .hovertext").wait_for()
    visit.page.mouse.click(x, y)
    visit.page.wait_for_url("**subnet=*")
    identity = query(visit.page.url, "subnet")
    clicked = next(s for s in front if s["id"] == identity)
    assert latency(clicked) == pytest.approx(latency(picked), rel=0.05)
    visit.wait_for_card(identity)
    visit.page.go_back()
    visit.page.go_forward()
    visit.wait_for_card(identity)


def test_measured_is_told_from_predicted_and_the_knee_is_marked(
    visit: Visit, service: Service, front: list[dict[str, Any]]
) -> None:
    visit.front()
    plot = visit.page.locator(".plot-canvas")
    traces = plot.evaluate(TRACES)
    diamonds = [trace for trace in traces if (trace.get("marker") or {}).get("symbol") == "diamond-open"]
    measured = {s["id"] for s in front if s["accuracy"]["measured"] is not None}
    assert {identity for trace in diamonds for identity in trace["customdata"]} == measured
    drawn = {identity for trace in traces for identity in trace.get("customdata") or ()}
    assert drawn == {s["id"] for s in front}
    legend = visit.page.locator(".legend-row")
    expect(legend).to_contain_text("interval of the prediction")
    assert (legend.get_by_text("measured").count() > 0) == bool(measured)
    knee = next(s for s in front if s["id"] == service.get("/v1/searches/default/front")["knee"])
    box = visit.page.locator(".knee-ring").bounding_box()
    assert box
    x, y = plot.evaluate(PIXEL, [latency(knee), accuracy(knee)])
    assert box["x"] + box["width"] / 2 == pytest.approx(x, abs=2)
    assert box["y"] + box["height"] / 2 == pytest.approx(y, abs=2)


def test_points_are_coloured_by_any_gene(visit: Visit, service: Service) -> None:
    visit.front()
    genes = {gene["name"]: gene["choices"] for gene in service.get("/v1/spaces/salnas")["genes"]}
    chooser = visit.page.get_by_label("Colour by")
    offered = chooser.locator("option").evaluate_all("(options) => options.map((one) => one.value)")
    assert set(offered) == set(genes)
    chooser.select_option("mb5.kernel")
    expect(visit.page.locator(".legend-row")).to_contain_text("mb5 kernel:")
    traces = visit.page.locator(".plot-canvas").evaluate(TRACES)
    painted = {}
    for trace in traces:
        if isinstance((trace.get("marker") or {}).get("size"), list):
            for identity in trace["customdata"]:
                painted[identity] = trace["marker"]["color"]
    identity = next(iter(painted))
    kernel = service.post("/v1/subnets:describe", {"arch": identity})["arch"]["stages"][4]["kernel"]
    swatch = visit.page.locator(".legend-row li", has_text=re.compile(rf"^{kernel}$")).locator("i")
    shown = swatch.evaluate("(one) => getComputedStyle(one).backgroundColor.replaceAll(' ', '')")
    assert shown == painted[identity]
    assert query(visit.page.url, "colour") == "mb5.kernel"


def test_another_axis_has_another_best_subnet_and_a_search_of_its_own(visit: Visit) -> None:
    visit.front()
    for axis, unit in (("Parameters", "M"), ("Macs", "G")):
        visit.page.get_by_role("radio", name=axis).check()
        expect(visit.page.locator(".budget-words")).to_contain_text(unit)
        visit.page.locator(".facts code").wait_for()
    suggestion = visit.page.locator(".front-notes")
    expect(suggestion).to_contain_text("This front was searched for latency")
    suggestion.get_by_role("button", name="Search accuracy over macs").click()
    visit.page.wait_for_url("**search=search-*")
    expect(visit.page.locator(".meta")).to_contain_text("scored in")
    expect(visit.page.locator(".front-notes")).to_be_empty()
    expect(visit.page.locator(".sources select")).to_have_value(query(visit.page.url, "search"))


def test_a_link_restores_the_view(visit: Visit, front: list[dict[str, Any]]) -> None:
    chosen = front[-1]
    visit.front(f"#/front?x=macs&budget={chosen['macs']}&subnet={chosen['id']}&colour=mb2.kernel&photo=lake")
    visit.wait_for_card(chosen["id"])
    expect(visit.page.get_by_role("radio", name="Macs")).to_be_checked()
    expect(visit.page.get_by_label("Colour by")).to_have_value("mb2.kernel")
    expect(visit.page.get_by_role("button", name="Lake")).to_have_attribute("aria-pressed", "true")
    best = max((s for s in front if s["macs"] <= chosen["macs"]), key=accuracy)
    assert named(visit) == best["id"]
    visit.page.locator("summary", has_text="Download").click()
    visit.page.get_by_role("button", name="Link to this view").click()
    expect(visit.page.locator("#toast")).to_have_text("Link copied")
    link = visit.page.evaluate("navigator.clipboard.readText()")
    assert query(link, "subnet") == chosen["id"]
    assert float(query(link, "budget")) == pytest.approx(chosen["macs"], rel=1e-3)


def test_the_front_comes_as_a_table_and_as_a_picture(visit: Visit, front: list[dict[str, Any]]) -> None:
    visit.front()
    saved = {}
    for name in ("Table (CSV)", "Picture (PNG)", "Drawing (SVG)"):
        visit.page.locator("summary", has_text="Download").click()
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name=name).click()
        saved[name[-4:-1]] = Path(download.value.path()).read_bytes()
    assert len(saved["CSV"].decode().splitlines()) == len(front) + 1
    assert saved["PNG"].startswith(b"\x89PNG")
    assert b"<svg" in saved["SVG"]


def test_a_search_now_is_compared_with_the_stored_front(visit: Visit, service: Service) -> None:
    visit.front()
    budget = float(visit.page.locator(".budget-field").input_value())
    visit.page.get_by_role("button", name="Search now").click()
    notice = visit.page.locator(".front-notes")
    expect(notice).to_contain_text(re.compile(r"found CC 0\.\d+.*better than the stored front"))
    notice.get_by_role("button", name="Show it").click()
    shown = query(visit.page.url, "subnet")
    visit.wait_for_card(shown)
    described = service.post("/v1/subnets:describe", {"arch": shown})["predictions"]["latency_ms"]
    assert described["cpu-1-thread"]["predicted"] <= budget


def test_reference_models_are_named_points(visit: Visit) -> None:
    model = {
        "id": "fastsal-a",
        "title": "FastSal A",
        "macs": 9e8,
        "parameters": 3_650_000,
        "accuracy": {"cc": 0.69},
        "held_out_accuracy": {"cc": 0.71},
        "latency_ms": {"cpu-1-thread": 21.5},
    }
    nowhere = {**model, "title": "Never timed", "latency_ms": {}}
    body = json.dumps({"models": [model, nowhere]})
    visit.page.route("**/v1/models", lambda route: route.fulfill(body=body, content_type="application/json"))
    visit.front()
    expect(visit.page.locator(".legend-row")).to_contain_text("reference model")
    expect(visit.page.locator(".textpoint")).to_have_text("FastSal A")
    named_ones = visit.page.locator(".plot-canvas").evaluate(
        "(plot) => plot.data.filter((trace) => trace.mode === 'markers+text').map(({ x, y }) => [x[0], y[0]])"
    )
    assert named_ones == [[21.5, 0.71]]
    visit.page.get_by_role("radio", name="Macs").check()
    expect(visit.page.locator(".textpoint")).to_have_text(["FastSal A", "Never timed"])


def test_thousands_of_points_do_not_lag(visit: Visit, service: Service) -> None:
    front = service.get("/v1/searches/default/front")
    rng = np.random.default_rng(0)
    seed = front["subnets"][-1]
    front["subnets"] = [
        {
            **seed,
            "id": seed["id"],
            "latency_ms": {**seed["latency_ms"], "predicted": at},
            "accuracy": {**seed["accuracy"], "predicted": 0.5 + 0.3 * np.log(at) / np.log(60) + noise},
        }
        for at, noise in zip(rng.uniform(5, 60, 5000), rng.uniform(-0.1, 0, 5000), strict=True)
    ]
    body = json.dumps(front)

    def answer(route: Route) -> None:
        route.fulfill(body=body, content_type="application/json")

    visit.page.route("**/v1/searches/default/front", answer)
    visit.front()
    expect(visit.page.locator(".meta")).to_contain_text("5,000 subnets")
    frames = visit.page.evaluate(
        """async () => {
            const slider = document.querySelector(".budget-slider"), frames = [];
            for (let value = 100; value <= 900; value += 20) {
                const began = performance.now();
                slider.value = value;
                slider.dispatchEvent(new Event("input"));
                frames.push(performance.now() - began);
                await new Promise(requestAnimationFrame);
            }
            return frames;
        }"""
    )
    assert np.median(frames) < 16, "moving the line costs less than a frame"
