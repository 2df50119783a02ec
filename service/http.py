"""What every route shares: problem details, limits on bodies, request ids, what a client accepts."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import NotAcceptable, plain
from service.metrics import Metrics
from supernet.errors import SalnasError

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
REQUEST_ID = "X-Request-ID"
BODY_SECONDS = 30.0
"""How long a client may take to send its body."""

_STATUS: Mapping[str, int] = {
    "unauthorised": 401,
    "forbidden": 403,
    "not-found": 404,
    "not-acceptable": 406,
    "wrong-state": 409,
    "already-exists": 409,
    "not-ready": 409,
    "too-large": 413,
    "queue-full": 429,
    "too-many-requests": 429,
    "export-failed": 500,
    "unavailable": 503,
}
"""By kind of error; what is not here is 422: the request was understood and cannot be done."""

_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": 'Bearer realm="SalNAS", Basic realm="SalNAS", charset="UTF-8"'},
    429: {"Retry-After": "10"},
    503: {"Retry-After": "2"},
}
_HTTP_KINDS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "too-slow",
    413: "too-large",
    415: "unsupported-media-type",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class _Problem(JSONResponse):
    media_type = PROBLEM

    def render(self, content: Any) -> bytes:
        """As JSON; half a character, which a client may send but UTF-8 cannot hold, becomes a question mark."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Download(FileResponse):
    """A large file: in pieces of a megabyte it takes half the time."""

    chunk_size = 1 << 20


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    field: str | None = None,
    value: Any = None,
    remedy: str | None = None,
    errors: Sequence[Mapping[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An RFC 9457 answer; `type` is stable, and relative to the service."""
    content: dict[str, Any] = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "field": field,
        "value": plain(value),
        "remedy": remedy,
    }
    if errors is not None:
        content["errors"] = list(errors)
    return _Problem(content, status, {**_HEADERS.get(status, {}), **(headers or {})})


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with problem details."""
    app.add_exception_handler(SalnasError, _salnas_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _salnas_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SalnasError)
    status = _STATUS.get(error.kind, 422)
    return problem(
        status, error.kind, error.message, field=error.field, value=error.value, remedy=error.remedy
    )


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {
            "field": _field(item["loc"]),
            "detail": str(item["msg"]),
            "value": None if item["type"] == "missing" else plain(item.get("input")),
        }
        for item in error.errors()
    ]
    first = errors[0] if errors else {"field": None, "detail": "The request is not valid.", "value": None}
    return problem(
        422,
        "invalid-request",
        f"{first['field']}: {first['detail']}.",
        field=str(first["field"]),
        value=first["value"],
        remedy="See /docs for what the request may hold.",
        errors=errors,
    )


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code
    kind = _HTTP_KINDS.get(status, "http-error")
    detail, remedy = str(error.detail), None
    if status == 404:
        detail, remedy = f"There is nothing at {request.url.path[:200]}.", "See /docs for what there is."
    elif status == 405:
        detail = f"{request.method} is not possible at {request.url.path[:200]}."
        remedy = "See /docs for what is."
    elif detail == HTTPStatus(status).phrase:
        detail = f"{detail}."
    return problem(status, kind, detail, remedy=remedy, headers=error.headers)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    return problem(
        500,
        "internal-error",
        "The service met an error of its own.",
        remedy=f"Look for request {request.scope.get('request_id', '-')} in the log of the service.",
    )


def _field(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location]
    return ".".join(parts[1:]) if len(parts) > 1 else parts[0]


def accepted(request: Request, offers: Sequence[str]) -> str:
    """The offered media type that the Accept header likes best, the first where it says nothing.

    Raises NotAcceptable where it excludes all of them.
    """
    header = request.headers.get("accept", "").strip() or "*/*"
    wishes = [_wish(part) for part in header.split(",")[:50]]
    ranked = [(max((_quality(offer, *wish) for wish in wishes), default=(0, 0.0)), offer) for offer in offers]
    best = max(ranked, key=lambda entry: entry[0][1])
    if best[0][1] <= 0.0:
        raise NotAcceptable(
            f"This is not available as {header[:80]}.",
            field="Accept",
            value=header[:80],
            remedy=f"Accept one of {', '.join(offers)}.",
        )
    return best[1]


def _wish(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = float(parameter[2:])
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(offer: str, wish: str, quality: float) -> tuple[int, float]:
    """How specific a wish is for an offer, and its quality; (0, 0) where it says nothing of it."""
    if wish == offer:
        return 2, quality
    if wish == f"{offer.partition('/')[0]}/*":
        return 1, quality
    return (0, quality) if wish == "*/*" else (0, 0.0)


class RequestContext:
    """Gives each request an id, counts and times it, and logs it when it is done."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"").decode("latin-1")
        request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(8)
        scope["request_id"] = request_id
        status = 500
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (REQUEST_ID.lower().encode(), request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            # Each method is a series of its own for as long as the service runs, and clients make some up.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.request(method, route, status, seconds)
            log.info(
                "%s %s %d",
                method,
                route,
                status,
                extra={"request": request_id, "milliseconds": round(1000 * seconds, 1)},
            )


class BodyLimit:
    """Refuses bodies that are too large or come too slowly, before anything reads them whole."""

    def __init__(self, app: ASGIApp, limit: int, limits: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._limit)
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        received = 0
        deadline: float | None = None
        whole = False

        async def receive_within_limit() -> Message:
            nonlocal received, whole, deadline
            if whole:
                return await receive()
            now = time.monotonic()
            deadline = deadline or now + BODY_SECONDS
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - now))
            except TimeoutError:
                raise HTTPException(408, "The body did not arrive in time.") from None
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"The body has more than {limit} bytes.")
            return message

        await self._app(scope, receive_within_limit, send)


def _too_large(limit: int) -> JSONResponse:
    return problem(
        413,
        "too-large",
        f"The body has more than {limit} bytes.",
        field="body",
        remedy="Send less; photos may be made smaller first.",
        headers={"Connection": "close"},
    )
