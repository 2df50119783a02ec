from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message, Receive, Scope, Send

from service import http
from service.errors import InvalidRequest, NotAcceptable, plain
from service.http import BodyLimit, RequestContext, accepted, problem
from service.metrics import Gauge, Metrics
from service.pages import decode_number, decode_place, encode_number, encode_place
from service.ports import Place

OFFERS = ("application/json", "text/csv")


def asking(accept: str | None) -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0, */*", "text/csv"),
        ("text/csv;q=high, */*;q=0.2", "application/json"),
    ],
)
def test_what_a_client_accepts(accept: str | None, expected: str) -> None:
    assert accepted(asking(accept), OFFERS) == expected


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0, application/json;q=0", "nonsense"])
def test_what_is_not_there_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="not available"):
        accepted(asking(accept), OFFERS)


def test_a_problem_has_all_parts() -> None:
    answer = problem(429, "queue-full", "Full.", field="f", value=object(), remedy="Wait.")
    content = json.loads(bytes(answer.body))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    assert content["type"] == "/problems/queue-full"
    assert content["title"] == "Queue full"
    assert isinstance(content["value"], str)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("x" * 500, "x" * 200),
        ((1, "a", None), [1, "a", None]),
        (b"\xff", "b'\\xff'"),
        ({"a": 1}, "{'a': 1}"),
        ([[1, float("nan")]], [[1, "nan"]]),
    ],
)
def test_values_in_errors_are_plain(value: object, expected: object) -> None:
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def limited(messages: list[Message], limit: int = 10) -> list[Message]:
    """What a service that reads its body answers to the messages of a client."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "path": "/x", "headers": []}
    asyncio.run(BodyLimit(app, limit, {})(scope, receive, send))
    return sent


def body(size: int, more: bool) -> Message:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


def test_a_body_within_the_limit_passes() -> None:
    assert limited([body(5, True), body(5, False)])[0]["status"] == 200


def test_a_body_that_grows_beyond_the_limit_is_refused() -> None:
    with pytest.raises(Exception, match="413"):
        limited([body(5, True), body(6, False)])


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    with pytest.raises(Exception, match="408"):
        limited([body(5, True)])


def test_places_survive_as_tokens() -> None:
    place = Place(1234.5678, "search-é")
    token = encode_place(place)
    assert token is not None
    assert token.isascii()
    assert decode_place(token) == place
    assert decode_number(encode_number(7)) == 7
    assert encode_place(None) is None
    assert decode_place(None) is None
    assert decode_number(None) == 0


HALF_A_CHARACTER = base64.urlsafe_b64encode(rb'[1,"\ud800"]').decode().rstrip("=")
NUL = base64.urlsafe_b64encode(rb'[1,"\u0000"]').decode().rstrip("=")


@pytest.mark.parametrize(
    "token", [HALF_A_CHARACTER, NUL, "", "x", "é", "W10", "WzEsMl0", "eyJhIjoxfQ", "[" * 200, "WyJhIiwiYiJd"]
)
def test_tokens_of_others_are_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_place(token)
    with pytest.raises(InvalidRequest):
        decode_number(token)


def test_metrics_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.request("GET", "/x", 200, 0.002)
    metrics.request("GET", "/x", 200, 99.0)
    lines = metrics.text([Gauge("g", "About.", [({"a": 'q"\n'}, 2.0)])]).splitlines()
    assert 'salnas_http_requests_total{method="GET",route="/x",status="200"} 2' in lines
    assert 'salnas_http_request_seconds_bucket{route="/x",le="0.001"} 0' in lines
    assert 'salnas_http_request_seconds_bucket{route="/x",le="0.0025"} 1' in lines
    assert 'salnas_http_request_seconds_bucket{route="/x",le="10.0"} 1' in lines
    assert 'salnas_http_request_seconds_bucket{route="/x",le="+Inf"} 2' in lines
    assert 'salnas_http_request_seconds_count{route="/x"} 2' in lines
    assert 'g{a="q\\"\\n"} 2' in lines


def test_what_utf_8_cannot_hold_is_told_all_the_same() -> None:
    answer = problem(
        422, "invalid-request", "No \ud800.", field="\udfff", value=["\ud800"], errors=[{"a": "\ud800"}]
    )
    content = json.loads(bytes(answer.body))
    assert (content["detail"], content["field"], content["value"]) == ("No ?.", "?", ["?"])
    assert content["errors"] == [{"a": "?"}]
    assert answer.headers["content-length"] == str(len(bytes(answer.body)))


def test_values_of_any_depth_are_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert json.dumps(plain(deep))
    assert plain([[1, "a"], [2.5]]) == [[1, "a"], [2.5]]


def test_methods_that_clients_make_up_are_counted_together() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 405, "headers": []})

    metrics = Metrics()
    context = RequestContext(app, metrics)
    for method in ("GET", *(f"MADE{number}UP" for number in range(50))):
        asyncio.run(asked(context, method))
    lines = [line for line in metrics.text().splitlines() if line.startswith("salnas_http_requests_total")]
    assert lines == [
        'salnas_http_requests_total{method="GET",route="other",status="405"} 1',
        'salnas_http_requests_total{method="other",route="other",status="405"} 50',
    ]


async def asked(app: RequestContext, method: str, *headers: tuple[bytes, bytes]) -> list[Message]:
    """What an application sends to a request without a body."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "method": method, "path": "/x", "headers": list(headers)}, receive, send)
    return sent


@pytest.mark.parametrize("wanted", [b"a\r\nX-Evil: 1", b'a"b', b"a b", b"\xe9", b"", b"x" * 65])
def test_a_request_id_from_outside_splits_no_header(wanted: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    (start,) = asyncio.run(asked(RequestContext(app, Metrics()), "GET", (b"x-request-id", wanted)))
    ((name, value),) = start["headers"]
    assert name == b"x-request-id"
    assert re.fullmatch(rb"[0-9a-f]{16}", value)
