"""One subnet: drawn to scale, in numbers, timed now, taken home."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import DESKTOP, PHONE, Service, Visit, overflow, three_digits
from tests.fixtures.tiny import write_photo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def largest(service: Service) -> Any:
    return service.post("/v1/subnets:describe", {"arch": "max"})


def bars(page: Page) -> list[dict[str, Any]]:
    """The blocks of the drawing: what each says in words, and its size."""
    found: list[dict[str, Any]] = page.locator(".stages g > g").evaluate_all(
        """(blocks) => blocks.map((block) => {
            const bar = block.querySelector("rect.out"), middle = block.querySelector("rect.middle");
            return { words: block.querySelector("title").textContent, width: bar.width.baseVal.value,
                height: bar.height.baseVal.value, middle: middle?.height.baseVal.value ?? 0 };
        })"""
    )
    return found


def test_the_stages_are_drawn_to_scale(visit: Visit, largest: Any) -> None:
    visit.go(f"#/subnet/{largest['id']}")
    visit.page.locator(".stages").wait_for()
    drawn = bars(visit.page)
    for number, stage in enumerate(largest["arch"]["stages"], start=1):
        blocks = [bar for bar in drawn if bar["words"].startswith(f"mb{number}:")]
        assert len(blocks) == stage["depth"]
    stages = largest["arch"]["stages"]
    last = {f"mb{n}": next(b for b in drawn if b["words"].startswith(f"mb{n}:")) for n in (2, 7)}
    tall = last["mb7"]["height"] / last["mb2"]["height"]
    assert tall == pytest.approx(stages[6]["width"] / stages[1]["width"], rel=0.01)
    wide = last["mb7"]["width"] / last["mb2"]["width"]
    assert wide == pytest.approx(stages[6]["kernel"] / stages[1]["kernel"], rel=0.01)
    assert last["mb2"]["middle"] > last["mb2"]["height"]
    height, width = largest["resolution"]
    expect(visit.page.locator(".details-card")).to_contain_text(f"{width} × {height} pixels")


def test_the_layer_table_holds_every_layer(visit: Visit, largest: Any) -> None:
    visit.go(f"#/subnet/{largest['id']}")
    visit.page.locator("summary", has_text="Layers").click()
    rows = visit.page.locator(".layer-table tbody tr")
    layers = [layer for layer in largest["layers"] if layer["macs"] > 0]
    expect(rows).to_have_count(len(layers))
    macs = [float(text) for text in rows.locator("td:nth-child(8)").all_inner_texts()]
    assert sum(macs) * 1e6 == pytest.approx(largest["macs"], rel=0.01)


def test_numbers_say_their_interval_and_their_device(visit: Visit, largest: Any) -> None:
    visit.go(f"#/subnet/{largest['id']}")
    name = visit.page.get_by_text("Latency, cpu-1-thread", exact=True)
    row = visit.page.locator(".subnet-card .numbers > div", has=name)
    expected = largest["predictions"]["latency_ms"]["cpu-1-thread"]
    expect(row).to_contain_text(three_digits(expected["predicted"]))
    expect(row).to_contain_text(f"{three_digits(expected['low'])}–{three_digits(expected['high'])}")
    visit.page.locator("summary", has_text="Other metrics and devices").click()
    shown = visit.page.locator(".more-numbers").inner_text()
    others = Counter(name for name in ("NSS", "SIM", "AUC", "KLD", "cpu-2-threads") if name in shown)
    assert len(others) == 5


def test_a_subnet_that_is_not_known_yet_cannot_be_taken_home(visit: Visit) -> None:
    held: list[Route] = []
    visit.page.route("**/v1/subnets:describe", lambda route: held.append(route))
    with visit.page.expect_request("**/v1/subnets:describe"):
        visit.go("#/subnet/min")
    for name in ("Export ONNX", "Measure now"):
        expect(visit.page.get_by_role("button", name=name)).to_be_disabled()
    held.pop().continue_()
    for name in ("Export ONNX", "Measure now"):
        expect(visit.page.get_by_role("button", name=name)).to_be_enabled()


def test_a_subnet_is_timed_now_and_its_file_runs_with_the_code_beside_it(
    visit: Visit, service: Service, tmp_path: Path
) -> None:
    identity = service.post("/v1/subnets:describe", {"arch": "min"})["id"]
    visit.go(f"#/subnet/{identity}")
    visit.page.get_by_role("button", name="Measure now").click()
    measured = visit.page.locator(".measured")  # the first export of a service loads torch
    expect(measured).to_contain_text("ms on one thread of the service's machine", timeout=180_000)
    visit.page.get_by_role("button", name="Export ONNX").click()
    expect(visit.page.locator(".export .progress")).to_be_visible()
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("link", name=f"Download {identity}.onnx").click()
    assert saved.value.suggested_filename == f"{identity}.onnx"
    saved.value.save_as(tmp_path / f"{identity}.onnx")
    visit.page.locator("summary", has_text="Run it with onnxruntime").click()
    for size in (DESKTOP, PHONE):
        visit.page.set_viewport_size(size)
        expect(visit.page.locator("pre.code")).to_be_visible()
        assert overflow(visit.page) <= 0
    assert overflow(visit.page, "pre.code") > 0, "the code scrolls in its card"
    visit.page.set_viewport_size(DESKTOP)
    visit.page.get_by_role("button", name="Copy the code").click()
    expect(visit.page.locator("#toast")).to_have_text("Copied")
    code = visit.page.evaluate("navigator.clipboard.readText()")
    photo = write_photo(tmp_path / "photo.jpg", (90, 120))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    with Image.open(tmp_path / "saliency.png") as saliency, Image.open(photo) as original:
        assert saliency.size == original.size
        assert np.ptp(np.asarray(saliency)) > 100


def test_an_unknown_subnet_is_said_with_the_remedy(visit: Visit) -> None:
    visit.go("#/subnet/salnas-nonsense")
    expect(visit.page.get_by_role("alert")).to_contain_text("copy it whole")
    visit.errors.clear()  # the browser reports the answer 422
