"""Who may do what: keys where the service can be reached from other machines, and at which pace."""

from __future__ import annotations

import base64
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from service.errors import Forbidden, TooManyRequests, Unauthorised
from service.keys import ApiKey, Scope, split_key
from service.ports import KeyStore

_REMEMBERED_CLIENTS = 10_000


class Access:
    """Checks the Authorization header of requests: `Bearer KEY`, or `Basic` with the key as the password.

    Basic is what browsers offer by themselves, so that a person can open the page with a key.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        required: bool,
        rate: float = 50.0,
        burst: float = 200.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self.required = required
        self._pace = _Pace(rate, burst, clock)

    def check(self, header: str | None, wanted: Scope) -> ApiKey | None:
        """The key of a request, None where none is demanded.

        Raises Unauthorised, Forbidden (its scope is too small), TooManyRequests.
        """
        if not self.required:
            return None
        key = self._found(header)
        if not key.scope.allows(wanted):
            raise Forbidden(
                f"The key {key.name!r} may {key.scope}, not {wanted}.",
                field="Authorization",
                value=key.scope.value,
                remedy=f"Ask for a key with the scope {wanted}.",
            )
        if not self._pace.allows(key.id):
            raise TooManyRequests(
                f"The key {key.name!r} is used faster than the service allows.",
                remedy="Wait a moment, and ask less often.",
            )
        return key

    def any_key(self) -> bool:
        """Whether there is a key that opens anything."""
        return any(key.revoked is None for key in self._keys.api_keys())

    def _found(self, header: str | None) -> ApiKey:
        parts = split_key(_presented(header))
        key = self._keys.key(parts[0]) if parts else None
        if parts is None or key is None or not key.opened_by(parts[1]):
            raise Unauthorised(
                "This service demands an API key." if header is None else "This API key is not in force.",
                field="Authorization",
                remedy="Send `Authorization: Bearer KEY`; make a key with `salnas keys add NAME`.",
            )
        return key


class _Pace:
    """A bucket of requests for each client, which fills at a steady rate."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """Take one request from the client's bucket; False where it is empty."""
        now = self._clock()
        with self._lock:
            left, since = self._left.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._rate)
            allowed = left >= 1.0
            self._left[client] = (left - allowed, now)
            while len(self._left) > _REMEMBERED_CLIENTS:
                self._left.popitem(last=False)
        return allowed


def _presented(header: str | None) -> str:
    """The key in a header, empty where there is none."""
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:  # also what is not Base64, or no text
        return ""
