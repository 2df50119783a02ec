"""Own photos through the eyes of several subnets."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.e2e.conftest import Visit, drop, paste, query
from tests.fixtures.serving import wait_for
from tests.fixtures.tiny import write_photo

pytestmark = pytest.mark.slow


def ink(visit: Visit, index: int = 0) -> Any:
    """Pixels of the map of a tile, (height, width, 4)."""
    code = """(canvas) => {
        const { width, height } = canvas;
        return [height, width, ...canvas.getContext("2d").getImageData(0, 0, width, height).data];
    }"""
    height, width, *values = visit.page.locator(".tile canvas").nth(index).evaluate(code)
    return np.array(values, dtype=np.int16).reshape(height, width, 4)


def picture(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, "PNG")
    return stream.getvalue()


def test_own_photos_are_compared_side_by_side(visit: Visit, tmp_path: Path) -> None:
    visit.go("#/photo")
    page = visit.page
    tiles = page.locator(".tile:not(.tile-adder)")
    expect(tiles).to_have_count(3)
    expect(page.locator(".tile canvas[aria-label*='street']").first).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add your own photo").click()
    chooser.value.set_files(write_photo(tmp_path / "garden.png", (96, 128)))
    with_a_map = "[aria-label^='garden.png'][aria-label*='with the saliency map']"
    expect(page.locator(f".tile canvas{with_a_map}")).to_have_count(3)
    assert ink(visit).shape == (96, 128, 4)
    with_map = ink(visit)
    page.get_by_role("slider", name="Map").fill("0")
    wait_for(lambda: not np.array_equal(ink(visit), with_map), 60)
    assert ink(visit)[32, 64, 0] > 200, "the bright disc of the photo, bare"
    page.get_by_role("slider", name="Map").fill("100")

    for _ in range(3):
        page.get_by_role("button", name="Random", exact=True).click()
    expect(tiles).to_have_count(6)
    expect(page.locator(".tile-adder")).to_have_count(0)
    expect(page.locator(".tile", has_text=re.compile(r"answered in \d+ ms"))).to_have_count(6)
    maps = ink(visit, 1)
    page.get_by_role("radio", name="Difference").check()
    expect(page.locator(".tile", has_text="mean difference")).to_have_count(5)
    expect(page.locator(".photo-key")).to_be_visible()
    wait_for(lambda: not np.array_equal(ink(visit, 1), maps), 60)
    assert query(page.url, "show") == "difference"
    expect(tiles.nth(1)).to_contain_text(re.compile(r"mean difference \d+\.\d % from Smallest"))
    page.get_by_role("button", name="Remove Largest").click()
    expect(tiles).to_have_count(5)
    assert "max" not in query(page.url, "subnets")
    page.get_by_role("button", name="Remove Smallest").click()
    expect(tiles.first).not_to_contain_text("mean difference")
    expect(tiles.nth(1)).to_contain_text("from Knee of the front")
    expect(page.locator(".photo-key")).to_contain_text("looked at more than by Knee of the front")


def test_several_photos_can_be_pasted_and_none_is_kept_elsewhere(visit: Visit) -> None:
    visit.go("#/photo?subnets=min")
    page = visit.page
    page.locator(".tile canvas[aria-label*='street']").wait_for()
    paste(visit, {"blue.png": picture((30, 30, 200)), "green.png": picture((30, 200, 30))})
    expect(page.locator("#toast")).to_have_text("2 photos added")
    expect(page.locator(".tile canvas[aria-label^='green.png']")).to_be_visible()
    page.get_by_role("button", name="blue.png").click()
    expect(page.locator(".tile canvas[aria-label^='blue.png']")).to_be_visible()
    page.reload()
    page.locator(".tile canvas[aria-label*='street']").wait_for()
    assert page.get_by_role("button", name="blue.png").count() == 0


def test_a_photo_can_be_dropped_and_what_is_none_is_refused(visit: Visit) -> None:
    visit.front()
    drop(visit, ".subnet-card", "red.png", picture((200, 30, 30)))
    visit.page.locator(".subnet-card canvas[aria-label^='red.png']").wait_for()
    drop(visit, ".subnet-card", "notes.txt", b"no picture")
    expect(visit.page.get_by_role("alert")).to_contain_text("notes.txt is not a photo")


def test_a_tile_added_while_the_service_is_away_goes_on_by_itself(visit: Visit) -> None:
    visit.go("#/photo?subnets=min")
    page = visit.page
    page.locator(".tile canvas[aria-label*='with the saliency map']").wait_for()
    page.context.set_offline(True)
    page.get_by_role("button", name="Random", exact=True).click()
    page.get_by_role("button", name="Lake").click()
    expect(page.get_by_role("alert").first).to_contain_text("goes on by itself")
    page.context.set_offline(False)
    expect(page.locator(".tile canvas[aria-label*='with the saliency map']")).to_have_count(2)
    expect(page.locator(".tile [role=alert]:visible")).to_have_count(0)
    visit.errors.clear()  # the browser reports what it could not fetch
