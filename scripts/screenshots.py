"""Photographs of every view of the page at desktop and phone width, and a short film of the budget line.

Starts the service on a free port with an empty store of its own and runs some searches, so that the pictures show
what a person sees. Prints the files that it wrote.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SIZES: Mapping[str, ViewportSize] = {
    "desktop": {"width": 1440, "height": 900},
    "phone": {"width": 390, "height": 844},
}
FILM: ViewportSize = {"width": 1280, "height": 900}
MOVE = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"
FILM_WIDTH, FILM_FRAMES, FILM_FRAME_MS = 960, 28, 90
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SETTLE_MS = 1200
SEEN: Mapping[str, str] = {
    "front": ".plot-canvas .points path, .plot-canvas .gl-canvas",
    "subnet": ".stages",
    "photo": ".tile canvas",
    "difference": ".tile canvas",
    "searches": "tbody tr",
    "search": ".small-plot .js-line",
    "search-new": ".form-fields fieldset",
    "compare": ".compare-plot .js-line",
    "devices": ".devices tbody tr",
}
"""What shows that a view is there."""

ENDED = {"succeeded", "failed", "cancelled"}
SEARCHES: Sequence[Mapping[str, Any]] = (
    {"objectives": ["accuracy", "macs"], "seed": 1},
    {"objectives": ["accuracy", "latency_ms"], "constraints": ["resolution==384x288"], "seed": 1},
    {"objectives": ["accuracy", "latency_ms"], "constraints": ["macs<=1e9", "parameters<=9e6"], "seed": 1},
)


@contextmanager
def running_service() -> Iterator[str]:
    """Address of a service that lives as long as the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("salnas")), "serve", "--host", "127.0.0.1", "--port", port]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        service = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "SALNAS_STATE": folder}, stdout=log, stderr=log
        )
        try:
            wait_until_ready(address, service)
            yield address
        finally:
            service.terminate()
            service.wait(timeout=60)


def wait_until_ready(address: str, service: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    """Return when the service answers; raise when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise RuntimeError(f"the service ended with status {service.returncode}")
        try:
            if httpx.get(f"{address}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the service was not ready after {seconds:.0f} s")


def search(address: str, request: Mapping[str, Any]) -> str:
    """Id of a search that has succeeded; raise where it ends otherwise."""
    created = httpx.post(f"{address}/v1/searches", json=request, timeout=60).raise_for_status()
    identity = str(created.json()["id"])
    wait_for_search(address, identity)
    return identity


def wait_for_search(address: str, identity: str, seconds: float = 300.0) -> None:
    """Return when the search has succeeded; raise where it ends otherwise or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = httpx.get(f"{address}/v1/searches/{identity}", timeout=60).raise_for_status().json()
        if job["state"] in ENDED:
            if job["state"] != "succeeded":
                raise RuntimeError(f"the search ended as {job['state']}: {job}")
            return
        time.sleep(0.2)
    raise TimeoutError(f"the search took more than {seconds:.0f} s")


@contextmanager
def opened(browser: Browser, size: ViewportSize, *, dark: bool = False) -> Iterator[Page]:
    """A page of that size; raise when it reports an error."""
    page = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(error.message))
    yield page
    page.close()
    if errors:
        raise RuntimeError(f"the page reports {errors}")


def photograph(page: Page, address: str, path: Path) -> None:
    """Write a picture of the whole page; the name of the file begins with that of the view."""
    settled(page, address, SEEN[path.stem.rpartition("-")[0]])
    page.screenshot(path=path, full_page=True)
    print(path)


def settled(page: Page, address: str, seen: str) -> None:
    """Open an address and wait until an element is there and nothing changes any more.

    A page that follows a search holds a stream of events open, so the network never falls idle.
    """
    page.goto("about:blank")
    page.goto(address, wait_until="load")
    page.locator(seen).first.wait_for(state="attached")
    page.wait_for_timeout(SETTLE_MS)
    page.wait_for_function("!document.querySelector('[aria-busy], .skeleton, .progress.unknown')")
    page.wait_for_timeout(100)


def film(page: Page, address: str, path: Path) -> None:
    """Write a film of the budget line as it is dragged, and of what follows it."""
    settled(page, address, SEEN["front"])
    slider = page.locator(".budget-slider")
    first, last = 60, 900
    frames = []
    for index in range(FILM_FRAMES):
        slider.evaluate(MOVE, round(first + (last - first) * index / (FILM_FRAMES - 1)))
        page.wait_for_timeout(250)  # the map and the drawing follow when the line rests
        page.wait_for_function("!document.querySelector('[aria-busy]')")
        page.wait_for_timeout(100)
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            height = round(picture.height * FILM_WIDTH / picture.width)
            frames.append(picture.convert("RGB").resize((FILM_WIDTH, height), Image.Resampling.LANCZOS))
    there_and_back = [*frames, *frames[-2:0:-1]]
    there_and_back[0].save(
        path,
        save_all=True,
        append_images=there_and_back[1:],
        duration=FILM_FRAME_MS,
        loop=0,
        quality=70,
        method=6,
    )
    print(path)


def views(searches: Sequence[str]) -> Mapping[str, str]:
    """Where each view lies, by the name of its picture."""
    compared = ",".join(["default", *searches[1:]])
    return {
        "front": "#/front",
        "subnet": "#/subnet/max",
        "photo": "#/photo",
        "difference": "#/photo?show=difference&photo=table",
        "searches": "#/searches",
        "search": f"#/searches/{searches[-1]}",
        "search-new": "#/searches/new",
        "compare": f"#/compare?ids={compared}",
        "devices": "#/devices",
    }


def main() -> int:
    """Take the pictures; exit status 1 where there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "screenshots", help="folder of the pictures"
    )
    parser.add_argument("--only", nargs="+", metavar="VIEW", help="take these again; film is the animation")
    arguments = parser.parse_args()
    folder: Path = arguments.out
    wanted = set(arguments.only or (*SEEN, "film"))
    began = time.monotonic()
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        print("No Chromium here. Install it: make setup-system, or by hand.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with running_service() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        wait_for_search(address, "default")
        places = views([search(address, request) for request in SEARCHES])
        for size, viewport in SIZES.items():
            with opened(browser, viewport) as page:
                for name, place in places.items():
                    if name not in wanted:
                        continue
                    photograph(page, f"{address}/{place}", folder / f"{name}-{size}.png")
        with opened(browser, SIZES["desktop"], dark=True) as page:
            for name in wanted & {"front", "photo"}:
                photograph(page, f"{address}/{places[name]}", folder / f"{name}-dark.png")
        with opened(browser, FILM) as page:
            if "film" in wanted:
                film(page, f"{address}/#/front", folder / "budget.webp")
        browser.close()
    print(f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
