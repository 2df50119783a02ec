"""The page in a real browser against a real service process, which holds the shipped supernet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.fixtures.serving import SERVE, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
SHIPPED = "salnas-osie"
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE_MS = 60_000
_HARMLESS = ("GL Driver Message", "WebGL")

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Service:
    """The service as a process, which can be killed and started again at the same address."""

    results: Path
    state: Path
    supernet: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        chosen = {"results": self.results, "state": self.state, "supernet": self.supernet, "port": self.port}
        quick = {"lease_seconds": 2, "save_seconds": 1}
        environment = {f"SALNAS_{name.upper()}": str(value) for name, value in {**chosen, **quick}.items()}
        with (self.state.parent / f"{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE],
                cwd=ROOT,
                env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )
        wait_for(self._ready, 200)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.address}{path}", timeout=30).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return httpx.post(f"{self.address}{path}", json=body, timeout=30).raise_for_status().json()

    def front_is_there(self) -> bool:
        return bool(self.get("/v1/searches/default")["state"] == "succeeded")

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the service ended"
        try:
            return httpx.get(f"{self.address}/readyz", timeout=30).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The results folder of the repository; skips where the supernet or its predictors are not there."""
    wanted = (f"supernets/{SHIPPED}.safetensors", f"predictors/{SHIPPED}/accuracy.safetensors")
    for name in wanted:
        if not (RESULTS / name).is_file():
            pytest.skip(f"no results/{name}")
    return RESULTS


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, browser_path: str, shipped: Path) -> Iterator[Service]:
    """One service for all journeys that leave it running, its default front found."""
    with running(shipped, tmp_path_factory.mktemp("page") / "state", SHIPPED) as service:
        wait_for(service.front_is_there, 200)
        yield service


@contextmanager
def running(results: Path, state: Path, supernet: str) -> Iterator[Service]:
    service = Service(results, state, supernet)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    # Of a module, not of the session: its event loop must be gone before tests that run one of their own.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """An open page, and what went wrong on it."""

    page: Page
    service: Service
    errors: list[str]
    elsewhere: list[str]

    def go(self, hash_: str = "") -> None:
        """Open a view anew."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.service.address}/{hash_}")

    def front(self, hash_: str = "") -> None:
        """Open the front and wait until it answers."""
        self.go(hash_)
        self.page.locator(".facts code").wait_for()
        self.page.locator(".budget-slider").wait_for()

    @property
    def shown(self) -> str:
        """Id of the subnet on the card."""
        return self.page.locator(".subnet-id").inner_text()

    def wait_for_card(self, identity: str) -> None:
        self.page.locator(f".subnet-id:text-is('{identity}')").wait_for()


@contextmanager
def browsing(browser: Browser, size: ViewportSize, **options: Any) -> Iterator[BrowserContext]:
    """A browser's profile, whose pages share a cache."""
    context = browser.new_context(viewport=size, accept_downloads=True, **options)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@contextmanager
def visiting(context: BrowserContext, service: Service) -> Iterator[Visit]:
    """A page that notes errors, and requests to other servers."""
    page = context.new_page()
    visit = Visit(page, service, [], [])

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(word in message.text for word in _HARMLESS):
            visit.errors.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith((service.address, "blob:", "data:", "about:")):
            visit.elsewhere.append(request.url)

    page.on("pageerror", lambda error: visit.errors.append(error.message))
    page.on("console", on_console)
    page.on("request", on_request)
    yield visit
    page.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A wide window."""
    with browsing(browser, DESKTOP, permissions=["clipboard-read", "clipboard-write"]) as context:
        yield context


@pytest.fixture
def visit(context: BrowserContext, service: Service) -> Iterator[Visit]:
    """A page that must report no error and reach no other server."""
    with visiting(context, service) as visit:
        yield visit
        assert visit.errors == []
        assert visit.elsewhere == [], "the page needs no other server"


@pytest.fixture(scope="session")
def front(service: Service) -> list[dict[str, Any]]:
    """The subnets of the default front."""
    return front_of(service, "default")


def front_of(service: Service, search: str) -> list[dict[str, Any]]:
    """The subnets of a front, each with the numbers that count: measured ones only where all were measured."""
    subnets: list[dict[str, Any]] = service.get(f"/v1/searches/{search}/front")["subnets"]
    for name in ("accuracy", "latency_ms"):
        if any(subnet[name]["measured"] is None for subnet in subnets):
            for subnet in subnets:
                subnet[name]["counts"] = subnet[name]["predicted"]
    return subnets


def shown(estimate: dict[str, Any]) -> float:
    """The number that stands for a quantity: what counts, else what was measured, else what is predicted."""
    known = (estimate.get("counts"), estimate["measured"], estimate["predicted"])
    return float(next(value for value in known if value is not None))


def three_digits(value: float) -> str:
    """As the page writes a quantity below a thousand."""
    return f"{value:#.3g}".rstrip(".")


def latency(subnet: dict[str, Any]) -> float:
    return shown(subnet["latency_ms"])


def accuracy(subnet: dict[str, Any]) -> float:
    return shown(subnet["accuracy"])


def answer(visit: Visit, address: str, body: Any, status: int = 200) -> None:
    """Let the service answer so."""
    text = json.dumps(body)
    visit.page.route(
        address, lambda route: route.fulfill(status=status, body=text, content_type="application/json")
    )


def overflow(page: Page, selector: str = "html") -> int:
    """Pixels by which what an element holds is wider than itself."""
    wide: int = page.locator(selector).first.evaluate("(one) => one.scrollWidth - one.clientWidth")
    return wide


def query(text: str, name: str) -> str:
    """A value in an address."""
    found = re.search(rf"[?&]{name}=([^&]*)", text)
    assert found, text
    return found[1]


def drop(visit: Visit, selector: str, name: str, content: bytes) -> None:
    """Drop a file on an element."""
    code = """([selector, bytes, name]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
        document.querySelector(selector).dispatchEvent(
            new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    visit.page.evaluate(code, [selector, list(content), name])


def paste(visit: Visit, files: Mapping[str, bytes]) -> None:
    """Paste files into the page."""
    code = """(files) => {
        const data = new DataTransfer();
        for (const [name, bytes] of Object.entries(files)) {
            data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
        }
        window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
    }"""
    visit.page.evaluate(code, {name: list(content) for name, content in files.items()})
