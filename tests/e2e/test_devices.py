"""Devices: how well their latency is predicted, a pack to time one, measurements to bring."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from tests.e2e.conftest import Service, Visit, three_digits

pytestmark = pytest.mark.slow


def measurements(service: Service, count: int = 14) -> str:
    """A CSV of a device three times as slow as the built-in one."""
    rng = np.random.default_rng(0)
    lines = ["id,latency_ms"]
    for seed in range(count):
        subnet = service.post("/v1/subnets:describe", {"arch": f"random:{seed}"})
        predicted = subnet["predictions"]["latency_ms"]["cpu-1-thread"]["predicted"]
        lines.append(f"{subnet['id']},{3 * predicted * np.exp(0.01 * rng.standard_normal()):.4f}")
    return "\n".join(lines)


def test_devices_say_how_well_they_are_predicted(visit: Visit, service: Service) -> None:
    visit.go("#/devices")
    device = service.get("/v1/devices")["devices"][0]
    row = visit.page.locator(".devices tbody tr", has=visit.page.get_by_text(device["id"], exact=True))
    expect(row).to_contain_text(f"within ±10 %{round(100 * device['quality']['within_10'])} %")
    smallest = service.post("/v1/subnets:describe", {"arch": "min"})["predictions"]["latency_ms"]
    expected = smallest[device["id"]]["measured"] or smallest[device["id"]]["predicted"]
    expect(row.locator("td.n").first).to_contain_text(three_digits(expected))


def test_a_device_is_registered_from_a_csv_and_removed(
    visit: Visit, service: Service, tmp_path: Path
) -> None:
    visit.go("#/devices")
    page = visit.page
    page.get_by_label("Name", exact=True).fill("slow-board")
    page.get_by_label("Measurements").set_input_files(
        {"name": "wrong.csv", "mimeType": "text/csv", "buffer": b"id,latency_ms\nsalnas-nonsense,7\n"}
    )
    page.get_by_role("button", name="Add the device").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visit.errors.clear()  # the browser reports the answer 422

    path = tmp_path / "slow-board.csv"
    path.write_text(measurements(service))
    page.get_by_label("Measurements").set_input_files(path)
    page.get_by_role("button", name="Add the device").click()
    expect(page.locator(".device-form .notice")).to_contain_text(
        "slow-board is ready. On 14 subnets held out"
    )
    expect(page.locator(".device-form .notice")).to_contain_text("off by")
    row = page.locator(".devices tbody tr", has_text="slow-board")
    expect(row).to_contain_text("within ±10 %")
    visit.front()
    visit.page.goto(f"{service.address}/#/subnet/min")
    page.locator("summary", has_text="Other metrics and devices").click()
    expect(page.locator(".more-numbers")).to_contain_text("Latency, slow-board")
    page.get_by_role("link", name="Devices").click()
    page.get_by_role("button", name="Remove slow-board").click()
    expect(row).to_have_count(0)


def test_the_pack_comes_as_a_file(visit: Visit, service: Service, tmp_path: Path) -> None:
    def ten_models(route: Route) -> None:
        route.continue_(url=f"{route.request.url}?models=10")  # the least, to be quick

    visit.page.route("**/pack", ten_models)
    visit.go("#/devices")
    visit.page.get_by_label("Name", exact=True).fill("my-phone")
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download the pack").click()
    assert saved.value.suggested_filename == "salnas-my-phone.zip"
    content = io.BytesIO(Path(saved.value.path()).read_bytes())
    with zipfile.ZipFile(content) as pack:
        names = pack.namelist()
    assert sum(name.endswith(".onnx") for name in names) == 10
    assert any(name.endswith(".py") for name in names)


def test_the_energy_of_a_device_becomes_an_axis(visit: Visit, service: Service, tmp_path: Path) -> None:
    heading, *lines = measurements(service).splitlines()
    energies = [f"{line},{1.5 + 6.0 * float(line.split(',')[1]):.4f}" for line in lines]
    path = tmp_path / "camera.csv"
    path.write_text("\n".join([f"{heading},energy_mj", *energies]))
    visit.go("#/devices")
    page = visit.page
    page.get_by_label("Name", exact=True).fill("camera")
    page.get_by_label("Measurements").set_input_files(path)
    page.get_by_role("button", name="Add the device").click()
    expect(page.locator(".device-form .notice")).to_contain_text("Of the predicted energies")
    row = page.locator(".devices tbody tr", has_text="camera")
    expect(row).to_contain_text("energy:")
    expect(row.get_by_role("img", name="14 subnets on camera")).to_be_visible()
    assert row.locator(".heldout-dot").count() == 14

    page.goto(f"{service.address}/#/searches/new")
    energy = page.get_by_role("checkbox", name="Energy")
    expect(energy).to_be_disabled()
    page.get_by_label("Latency and energy on").select_option("camera")
    expect(energy).to_be_enabled()
    energy.check()
    page.get_by_role("checkbox", name="Latency").uncheck()
    least = service.post("/v1/subnets:describe", {"arch": "min"})["predictions"]["energy_mj"]["camera"]
    page.get_by_label("Energy at most (mJ)").fill(f"{3 * least['predicted']:.0f}")
    page.get_by_role("radio", name="Quick").check()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/#/searches/search-*")
    expect(page.locator(".page-head .badge")).to_have_text("succeeded")
    page.get_by_role("link", name="Open the front").click()
    page.locator(".facts code").wait_for()
    expect(page.get_by_role("radio", name="Energy")).to_be_checked()
    expect(page.get_by_text("Energy on camera (mJ)")).to_be_visible()
    expect(page.locator(".subnet-card")).to_contain_text("Energy, camera")
    page.get_by_role("link", name="Devices").click()
    page.get_by_role("button", name="Remove camera").click()
    expect(row).to_have_count(0)
