"""Photographs of every view of the page at desktop and phone width.

Starts the service with the shipped supernet on a free port, with a store of its own. Prints the files that it wrote.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VIEWS = ("front", "photo", "searches", "devices")
SETTLE_MS = 4000  # the page holds a stream of events open, so the network never falls idle
ENDED = {"succeeded", "failed", "cancelled"}


@contextmanager
def running_service() -> Iterator[str]:
    """Address of a service that lives as long as the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("salnas")), "serve", "--host", "127.0.0.1", "--port", port]
    with tempfile.TemporaryDirectory() as folder:
        service = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SALNAS_STATE": folder})
        try:
            wait_until_ready(address, service)
            yield address
        finally:
            service.terminate()
            service.wait(timeout=30)


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


def search(address: str, seconds: float = 300.0) -> None:
    """Let the service run the search that it runs by default; raise unless it succeeds."""
    created = httpx.post(f"{address}/v1/searches", json={"seed": 1}).raise_for_status()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = httpx.get(f"{address}{created.headers['location']}").raise_for_status().json()
        if job["state"] in ENDED:
            if job["state"] != "succeeded":
                raise RuntimeError(f"the search ended as {job['state']}: {job}")
            return
        time.sleep(0.2)
    raise TimeoutError(f"the search took more than {seconds:.0f} s")


def photograph(browser: Browser, address: str, path: Path, width: int, height: int) -> None:
    """Write a picture of the whole page at that width; raise when the page reports an error."""
    page = browser.new_page(viewport={"width": width, "height": height})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(error.message))
    page.goto(address, wait_until="load")
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=path, full_page=True)
    page.close()
    if errors:
        raise RuntimeError(f"the page reports {errors}")
    print(path)


def main() -> int:
    """Take the pictures; exit status 1 where there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "screenshots", help="folder of the pictures"
    )
    folder: Path = parser.parse_args().out
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        print("No Chromium here. Install it: make setup-system, or by hand.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with running_service() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        search(address)
        for (size, (width, height)), view in product(SIZES.items(), VIEWS):
            photograph(browser, f"{address}/#/{view}", folder / f"{view}-{size}.png", width, height)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
