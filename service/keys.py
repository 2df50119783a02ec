"""API keys: what a client shows, what is stored of it, and what it allows.

A key reads `salnas_ID_SECRET`. The secret has 256 random bits, so one round of SHA-256 keeps it safe at rest.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from enum import StrEnum

from supernet.errors import SettingsError

_KEY = re.compile(r"salnas_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")


class Scope(StrEnum):
    """What a key allows; each allows what stands before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def allows(self, wanted: Scope) -> bool:
        """Whether this scope is enough for what is wanted."""
        order = list(Scope)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True)
class ApiKey:
    """What is stored of a key; times are seconds since 1970 (UTC)."""

    id: str
    name: str
    scope: Scope
    digest: str
    created: float
    revoked: float | None = None

    def opened_by(self, secret: str) -> bool:
        """Whether the key is in force and the secret is its own; takes the same time for every secret."""
        fits = hmac.compare_digest(self.digest, _digest(secret))
        return fits and self.revoked is None

    def revoke(self, now: float) -> ApiKey:
        """The key, out of force."""
        return self if self.revoked is not None else replace(self, revoked=now)


def new_key(name: str, scope: Scope, now: float) -> tuple[ApiKey, str]:
    """A new key as it is stored, and its text, which nobody can find out later. Raises SettingsError."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"A key cannot be called {name[:80]!r}.",
            field="name",
            value=name[:80],
            remedy="Use up to 64 letters, digits, spaces, dots, hyphens, underscores and @.",
        )
    identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return ApiKey(identity, name, scope, _digest(secret), now), f"salnas_{identity}_{secret}"


def parse_scope(text: str) -> Scope:
    """The scope of that name. Raises SettingsError."""
    try:
        return Scope(text)
    except ValueError:
        raise SettingsError(
            f"There is no scope {text[:80]!r}.",
            field="scope",
            value=text[:80],
            remedy=f"Choose one of {', '.join(Scope)}.",
        ) from None


def split_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a key as clients show it, None where it is none."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
