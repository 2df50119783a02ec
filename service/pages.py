"""Places in a list as opaque text, so that clients cannot come to depend on what is in it."""

from __future__ import annotations

import base64
import binascii
import json

from service.errors import InvalidRequest
from service.ports import Place


def encode_place(place: Place | None) -> str | None:
    """The token of a place, None at the end of the list."""
    if place is None:
        return None
    content = json.dumps([place.created, place.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_place(token: str | None) -> Place | None:
    """The inverse of `encode_place`. Raises InvalidRequest."""
    if token is None:
        return None
    created, name = _content(token)
    # What is not printable is in no id, and no database takes NUL or half a character.
    if not isinstance(created, int | float) or not isinstance(name, str) or not name.isprintable():
        raise _refused(token)
    return Place(float(created), name)


def encode_number(number: int | None) -> str | None:
    """The token of a position, None at the end of the list."""
    return encode_place(None if number is None else Place(number, ""))


def decode_number(token: str | None) -> int:
    """The inverse of `encode_number`; 0 without a token. Raises InvalidRequest."""
    place = decode_place(token)
    if place is None:
        return 0
    if place.id or not 0 <= place.created < 2**31:
        raise _refused(token or "")
    return int(place.created)


def _content(token: str) -> tuple[object, object]:
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        first, second = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _refused(token) from None
    return first, second


def _refused(token: str) -> InvalidRequest:
    return InvalidRequest(
        "This page_token was not issued here.",
        field="page_token",
        value=token[:80],
        remedy="Send next_page_token of the page before, or none to begin.",
    )
