"""What a browser may be talked into by a page from elsewhere, and what it may do with our page.

A service on loopback can be reached by every page that its user opens: under its own address, which the browser
forbids other origins to read but not always to ask, or under a name that was bound anew to 127.0.0.1. So other
host names are refused there, and requests that change something are refused from other origins everywhere.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import problem

_SAFE = {"GET", "HEAD", "OPTIONS"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_DOCS = ("/docs", "/redoc")

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Plotly's WebGL plots compile functions and its styles are set by script.
_POLICY = (
    b"content-security-policy",
    b"default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
)


class Guard:
    """Refuses foreign hosts (where `hosts` is given) and origins; tells browsers to be strict."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            answer = problem(
                403, "forbidden", refusal[0], field=refusal[1], value=refusal[2], remedy=refusal[3]
            )
            await answer(scope, receive, send)
            return
        extra = _HEADERS if scope["path"].startswith(_DOCS) else (*_HEADERS, _POLICY)

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self._app(scope, receive, send_strictly)

    def _refusal(self, method: str, headers: dict[bytes, str]) -> tuple[str, str, str, str] | None:
        """What is wrong with a request: detail, field, value, remedy; None where nothing is."""
        host = headers.get(b"host", "")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            return (
                "The service is not called by this name.",
                "Host",
                host,
                "Use 127.0.0.1 or localhost, or name the host with SALNAS_HOSTS.",
            )
        origin = headers.get(b"origin")
        if method in _SAFE or origin is None or _place(origin) == host:
            return None
        return "Pages of other origins may not change anything here.", "Origin", origin, "Use the page at /."


def allowed_hosts(hosts: str, *, loopback: bool) -> frozenset[str] | None:
    """The names that requests may use: those given (separated by commas), the loopback ones; None for any."""
    named = {name.strip().lower() for name in hosts.split(",") if name.strip()}
    if not named and not loopback:
        return None
    return frozenset(named | _LOOPBACK)


def _place(origin: str) -> str | None:
    """Host and port of an origin, None where it has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
