"""The service under load: budget queries at a steady rate, with a search running and without, beside a bare route.

The load is an open loop: a request is due when the clock says so, and its latency counts from then, so a slow answer
delays no question. A bare FastAPI route with the same body and an answer of the same size runs in a process of its
own and is asked in the same run: what it takes is the price of HTTP, Python and this machine's other work. Load
generator, service, its workers and the bare route share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import publish
from tests.fixtures.serving import answers, free_port

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "service" / "web" / "samples" / "street.jpg"
QUERY = {"constraints": ["latency_ms<=40", "macs<=2.5e9"], "k": 5}
CONNECTIONS = 32
ENDLESS = 1_000_000_000
"""Evaluations of a search that does not end by itself."""
NOTE = (
    "Milliseconds from the moment a request was due to the last byte of its answer. The machine's other work, see "
    "the load, is in every figure; compare with the bare route of the same run."
)
BARE = """
from typing import Any
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

class Query(BaseModel):
    constraints: list[str]
    k: int

app = FastAPI()
answer: Any = {"subnets": [{"id": "salnas-000000000", "text": "x" * 280}] * 5}

@app.post("/query")
async def query(body: Query) -> Any:
    return JSONResponse(answer)

@app.get("/readyz")
async def ready() -> Any:
    return {}
"""


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[tuple[httpx.Client, int]]:
    """A server, until the block ends: a client of it, and its process id."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            wait_for(lambda: answers(client, process))
            yield client, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_for(what: Callable[[], bool], seconds: float = 300.0) -> None:
    """Return when it is so."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def ended_job(client: httpx.Client, path: str) -> dict[str, Any]:
    """The job at `path`, when it has ended."""
    job: dict[str, Any] = {}

    def has_ended() -> bool:
        job.update(client.get(path).json())
        return job["state"] not in ("queued", "running")

    wait_for(has_ended)
    return job


async def load(port: int, path: str, body: Any, rate: float, seconds: float) -> list[float]:
    """Latencies in milliseconds of requests that are due `rate` times a second."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    message = head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: list[float] = []

    async def ask(due: float) -> None:
        reader, writer = await free.get()
        writer.write(message)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        latencies.append(1000 * (time.perf_counter() - due))
        free.put_nowait((reader, writer))
        assert answer.startswith(b"HTTP/1.1 200"), answer

    began = time.perf_counter()
    asked = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*asked)
    while not free.empty():
        free.get_nowait()[1].close()
    return latencies


def soak(client: httpx.Client, pid: int, rate: float, seconds: float) -> str:
    """Ask for all kinds of things for a while; says how the memory of the service grew."""
    port = client.base_url.port or 80
    kinds: dict[str, list[dict[str, Any]]] = {
        "/v1/subnets:query": [{"constraints": [f"latency_ms<={ms}"], "k": 3} for ms in range(20, 60)],
        "/v1/subnets:describe": [{"arch": f"random:{seed}"} for seed in range(40)],
    }
    asked, sizes = 0, [resident(pid)]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path, bodies in kinds.items():
            body = bodies[asked % len(bodies)]
            share = rate if path.endswith("query") else rate / 10
            asked += len(asyncio.run(load(port, path, body, share, 1.0)))
        predict(client, "min")
        client.get("/v1/searches/default/front", params={"k": 20}).raise_for_status()
        asked += 2
        sizes.append(resident(pid))
    half = len(sizes) // 2
    slope = np.polyfit(np.arange(half), sizes[-half:], 1)[0] * half / (asked / 2) * 1000
    return (
        f"Soak: {asked:,} requests of four kinds; resident memory of the answering process {sizes[0]:.0f} MB before, "
        f"{np.median(sizes[:half]):.0f} MB in the first half, {np.median(sizes[-half:]):.0f} MB in the second, which "
        f"grew by {slope:.2f} MB per 1,000 requests."
    )


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def one_after_the_other(ask: Callable[[], Any], n: int) -> list[float]:
    """Latencies in milliseconds of n requests, after one that does not count."""
    ask()
    latencies = []
    for _ in range(n):
        began = time.perf_counter()
        ask()
        latencies.append(1000 * (time.perf_counter() - began))
    return latencies


def export(client: httpx.Client, arch: str) -> None:
    """From the request to the last byte of the file."""
    answer = client.post("/v1/exports", json={"arch": arch}).raise_for_status()
    job = ended_job(client, answer.headers["location"])
    client.get(job["links"]["file"]).raise_for_status()


def predict(client: httpx.Client, arch: str, media: str = "image/png") -> None:
    """One photo; the answer is an overlay."""
    files = {"image": PHOTO.read_bytes()}
    client.post(
        "/v1/predictions", files=files, data={"arch": arch}, headers={"Accept": media}
    ).raise_for_status()


def figures(what: str, latencies: list[float]) -> tuple[str, int, float, float, float]:
    """A line of the table."""
    p50, p99 = np.percentile(latencies, [50, 99])
    return what, len(latencies), float(p50), float(p99), float(max(latencies))


def measure(client: httpx.Client, bare: httpx.Client, rate: float, seconds: float) -> pd.DataFrame:
    """All latencies."""
    wait_for(lambda: client.get("/v1/searches/default").json()["state"] == "succeeded")
    client.post("/v1/subnets:query", json=QUERY).raise_for_status()

    def both(when: str) -> Iterator[tuple[str, int, float, float, float]]:
        for server, what, path in (
            (bare, "bare route", "/query"),
            (client, "budget query", "/v1/subnets:query"),
        ):
            latencies = asyncio.run(load(server.base_url.port or 80, path, QUERY, rate, seconds))
            yield figures(f"{what}, {rate:.0f} a second{when}", latencies)

    lines = list(both(""))
    job = client.post("/v1/searches", json={"evaluations": ENDLESS, "seed": 1}).raise_for_status().json()
    lines += both(", while a search runs")
    client.post(f"{job['links']['self']}:cancel")
    if (state := ended_job(client, job["links"]["self"])["state"]) != "cancelled":
        raise SystemExit(f"The search beside the load {state} before the load ended: let it take longer.")
    fresh = {**QUERY, "fresh": True}
    lines.append(
        figures("fresh search", one_after_the_other(lambda: client.post("/v1/subnets:query", json=fresh), 20))
    )
    for arch, name in (("min", "XS"), ("max", "XL")):
        for kind in ("png", "jpeg"):
            ask = partial(predict, client, arch, f"image/{kind}")
            lines.append(figures(f"prediction, {name}, {kind.upper()}", one_after_the_other(ask, 20)))
        lines.append(figures(f"export, {name}", one_after_the_other(partial(export, client, arch), 5)))
    return pd.DataFrame(lines, columns=["what", "n", "p50 ms", "p99 ms", "max ms"])


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--soak", type=float, default=40.0, help="seconds of mixed requests")
    asked = parser.parse_args()
    ports = free_port(), free_port()
    serve = [str(Path(sys.executable).with_name("salnas")), "serve", "--port", str(ports[0])]
    code = f"import uvicorn\n{BARE}\nuvicorn.run(app, port={ports[1]}, access_log=False)"
    settings = {"SALNAS_RAY": "demand", "SALNAS_MAX_EVALUATIONS": str(ENDLESS)}
    with (
        tempfile.TemporaryDirectory() as state,
        running(serve, ports[0], SALNAS_STATE=state, **settings) as (client, pid),
        running([sys.executable, "-c", code], ports[1]) as (bare, _),
    ):
        frame = measure(client, bare, asked.rate, asked.seconds)
        memory = soak(client, pid, asked.rate, asked.soak)
    command = f"python benchmarks/bench_service.py --rate {asked.rate:.0f} --seconds {asked.seconds:.0f}"
    publish("service", "The service under load", frame, command=command, note=f"{memory}\n\n{NOTE}")


if __name__ == "__main__":
    main()
