"""The front: budget, points, colours, what can be downloaded, a search now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DESKTOP, Service, Visit, accuracy, answer, latency, query, three_digits

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
    score = next(accuracy(s) for s in front if s["id"] == best)
    assert visit.page.locator(".score").inner_text() == f"CC {score:.3f}"
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
    drawing = saved["SVG"].decode()
    assert "<svg" in drawing
    budget = visit.page.locator(".budget-handle").get_attribute("data-text")
    for text in (
        "Pareto front: CC over latency, cpu-1-thread",
        "256 × 192",
        ">knee<",
        named(visit),
        str(budget),
    ):
        assert text in drawing


def test_a_verified_front_is_shown_by_what_was_measured(visit: Visit, service: Service) -> None:
    search, front = service.get("/v1/searches/default"), service.get("/v1/searches/default/front")
    for rank, subnet in enumerate(front["subnets"]):
        predicted, took = subnet["accuracy"]["predicted"], subnet["latency_ms"]["predicted"]
        subnet["accuracy"]["measured"] = predicted - 0.01 * (1 + rank % 3)
        subnet["latency_ms"]["measured"] = 1.1 * took
    search["request"]["verify"] = 70
    search["result"]["measurements"] = 70
    answer(visit, "**/v1/searches/default", search)
    answer(visit, "**/v1/searches/default-salnas-osie", search)
    answer(visit, "**/v1/searches/default/front", front)
    answer(visit, "**/v1/searches/default-salnas-osie/front", front)
    visit.front()
    budget = float(visit.page.locator(".budget-field").input_value())
    best = next(s for s in front["subnets"] if s["id"] == best_within(front["subnets"], budget))
    assert named(visit) == best["id"]
    measured = f"{best['accuracy']['measured']:.3f}"
    expect(visit.page.locator(".score")).to_have_text(f"CC {measured}")
    facts = visit.page.locator(".facts")
    expect(facts).to_contain_text(f"measured; predicted {best['accuracy']['predicted']:.3f}")
    expect(facts).to_contain_text(f"{three_digits(latency(best))}\u00a0ms measured")
    expect(visit.page.locator(".meta")).to_contain_text(f"{len(front['subnets'])} of them measured")
    expect(visit.page.locator(".meta")).to_contain_text("70 measured in all")
    expect(visit.page.locator(".subnet-card .numbers > div").first).to_contain_text(f"{measured}measured")
    places = {(latency(s), accuracy(s)) for s in front["subnets"]}
    for trace in visit.page.locator(".plot-canvas").evaluate(TRACES):
        if trace.get("customdata"):
            assert set(zip(trace["x"], trace["y"], strict=True)) <= places
    visit.page.goto(f"{service.address}/#/searches/default")
    drawn = visit.page.locator(".small-plot").first
    drawn.locator(".point").first.wait_for()
    ((across, up),) = drawn.evaluate("(plot) => plot.data.map(({ x, y }) => [x, y])")
    assert set(zip(across, up, strict=True)) <= places
    expect(visit.page.locator(".figures div", has_text="Measured").locator("dd")).to_have_text("70")


@pytest.mark.parametrize("text", ["0", "-5", "abc"])
def test_what_is_no_budget_is_refused(visit: Visit, text: str) -> None:
    visit.front()
    field = visit.page.locator(".budget-field")
    field.fill(text)
    field.press("Enter")
    expect(visit.page.locator(".answer")).to_contain_text(f"“{text}” is no budget: write a number above 0.")
    expect(visit.page.locator(".score")).to_have_text("–")
    field.fill("900")
    field.press("Enter")
    expect(visit.page.locator(".score")).to_contain_text("CC 0.")
    expect(visit.page.locator(".answer .fault-text")).to_be_empty()
    visit.go(f"#/front?budget={text}")
    expect(visit.page.locator(".answer")).to_contain_text("is no budget")
    assert "NaN" not in visit.page.locator("main").inner_text()


def test_a_zoom_can_be_undone(visit: Visit, front: list[dict[str, Any]]) -> None:
    latencies = [latency(subnet) for subnet in front]
    budget = three_digits(0.9 * min(latencies) + 0.1 * max(latencies))
    visit.front(f"#/front?budget={budget}")
    page, handle = visit.page, visit.page.locator(".budget-handle")
    box = page.locator(".plot-box").bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    page.mouse.up()
    expect(handle).to_have_attribute("data-text", re.compile(f"^← ≤ {budget}"))
    assert page.locator(".budget-line").count() == 0
    page.get_by_role("button", name="Show all").click()
    expect(handle).to_have_attribute("data-text", re.compile(f"^≤ {budget}"))
    expect(page.get_by_role("button", name="Show all")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_step_of_a_gene_stands_out(visit: Visit, scheme: Literal["light", "dark"]) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    visit.front("#/front?colour=mb6.width")
    contrasts = visit.page.locator(".legend-row .swatch[style]").evaluate_all(
        """(swatches) => {
            const light = (text) => {
                const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255)
                    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
            };
            const card = light(getComputedStyle(document.querySelector(".plot-card")).backgroundColor);
            return swatches.map((one) => light(getComputedStyle(one).backgroundColor))
                .map((own) => Math.max(own, card) / Math.min(own, card));
        }"""
    )
    assert len(contrasts) > 1
    assert min(contrasts) >= 3


def test_axis_legend_and_colours_are_above_the_fold(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 800})
    visit.front()
    for selector in (".legend-row", ".plot-tools select", ".plot-canvas .xtitle"):
        box = visit.page.locator(selector).bounding_box()
        assert box
        assert box["y"] + box["height"] <= 800, selector
    visit.page.set_viewport_size(DESKTOP)


def test_a_search_without_a_front_yet_says_what_it_does(visit: Visit, service: Service) -> None:
    search, front = service.get("/v1/searches/default"), service.get("/v1/searches/default/front")
    progress = {"generation": 9, "evaluations": 12_345, "subnets": 67, "hypervolume": 1.0}
    progress |= {"seconds": 2.0, "fraction": 0.5, "remaining_seconds": 2.0}
    running = {**search, "state": "running", "result": None, "progress": progress}
    answer(visit, "**/v1/searches/search-new", running)
    answer(visit, "**/v1/searches/default-salnas-osie", running)
    answer(visit, "**/front", {**front, "subnets": []})
    visit.page.route("**/events*", lambda route: route.fulfill(body="", content_type="text/event-stream"))
    for place in ("#/front?search=search-new", "#/searches/search-new"):
        visit.go(place)
        expect(visit.page.locator("main")).to_contain_text(
            "12,345 subnets are scored, 67 of them on the front."
        )
        expect(visit.page.locator("main")).to_contain_text("drawn from the first save on")
    visit.go("#/front?search=search-new")
    expect(visit.page.locator(".subnet-card")).to_be_hidden()


def test_the_processor_stands_beside_the_name_of_a_device(visit: Visit, service: Service) -> None:
    devices = service.get("/v1/devices")["devices"]
    text = "Some(R) Processor @ 2.50GHz, 1 thread, onnxruntime 1.31.1"
    devices[0]["description"] = text
    answer(visit, "**/v1/devices", {"devices": devices})
    visit.front()
    expect(visit.page.locator(".meta")).to_contain_text(f"{devices[0]['id']}: {text}")
    expect(visit.page.locator(".subnet-card")).to_contain_text(text)
    visit.page.get_by_role("link", name="Devices").click()
    expect(visit.page.locator(".devices .processor").first).to_have_text(text)


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
    slow = {
        **model,
        "title": "Slow",
        "latency_ms": {"cpu-1-thread": 9000.0},
        "macs": 9e12,
        "parameters": 9e12,
    }
    objects = {**model, "title": "CSNet", "task": "salient object"}
    unscored = {key: value for key, value in model.items() if key != "held_out_accuracy"}
    answer(visit, "**/v1/models", {"models": [model, nowhere, unscored, objects, slow]})
    visit.front()
    expect(visit.page.locator(".legend-row")).to_contain_text("reference model")
    expect(visit.page.locator(".annotation-text")).to_have_text("Slow: CC 0.710 at 9,000\u00a0ms →")
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
            "latency_ms": {**seed["latency_ms"], "predicted": at, "measured": None},
            "accuracy": {
                **seed["accuracy"],
                "predicted": 0.5 + 0.3 * np.log(at) / np.log(60) + noise,
                "measured": None,
            },
        }
        for at, noise in zip(rng.uniform(5, 60, 5000), rng.uniform(-0.1, 0, 5000), strict=True)
    ]
    answer(visit, "**/v1/searches/default/front", front)
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
