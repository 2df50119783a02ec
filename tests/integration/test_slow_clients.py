"""Clients that take their time, against a server that listens."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from fastapi import FastAPI, Response

from service import patience
from tests.fixtures.serving import free_port

LARGE = 20_000_000


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.5)
    app = FastAPI()

    @app.get("/slow")
    def slow() -> str:
        time.sleep(1.2)
        return "done"

    @app.get("/large")
    def large() -> Response:
        return Response(bytes(LARGE))

    found = free_port()
    config = uvicorn.Config(app, port=found, http=patience.PatientProtocol, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield found
    server.should_exit = True
    thread.join()


def connected(port: int) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port))
    found.settimeout(10)
    return found


def test_a_client_that_never_asks_is_not_waited_for(port: int) -> None:
    with connected(port) as silent, connected(port) as slow:
        began = time.monotonic()
        for byte in b"GET /slow HTTP/1.1\r\nHost: x\r\nX-Long: ":
            try:
                slow.send(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        else:
            assert slow.recv(100) == b""
        assert silent.recv(100) == b""
        assert 0.4 < time.monotonic() - began < 5


def test_an_answer_may_take_longer_than_a_question(port: int) -> None:
    with connected(port) as client:
        for _ in range(2):
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.recv(4096)
            while b"done" not in answer:
                more = client.recv(4096)
                assert more, "closed before the answer"
                answer += more
            assert answer.startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_take_its_answer_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "READ_SECONDS", 0.5)
    with connected(port) as greedy, connected(port) as steady:
        for client in (greedy, steady):
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        began = time.monotonic()
        assert taken(steady, pause=0.05) > LARGE
        time.sleep(max(0.0, began + 2.0 - time.monotonic()))
        assert taken(greedy) < LARGE


def taken(client: socket.socket, pause: float = 0.0) -> int:
    """How many bytes come until the end of the connection, good or bad."""
    count = 0
    with suppress(ConnectionResetError):
        while content := client.recv(1_000_000):
            count += len(content)
            time.sleep(pause)
    return count
