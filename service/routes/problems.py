"""The errors that any route can answer with, for the OpenAPI document, and what each type means."""

from __future__ import annotations

from typing import Any

from service.http import PROBLEM
from service.schemas import Problem

_STATUSES = {
    400: "The body could not be parsed.",
    401: "An API key is demanded.",
    403: "The key, or the origin of the page, does not allow it.",
    404: "There is no such resource.",
    406: "Not available in an accepted representation.",
    409: "The resource is in another state.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "The request was understood and cannot be done.",
    429: "Too many jobs or requests of this kind are in hand, or requests come too fast.",
    503: "A part of the service does not answer.",
}

_RETRY = {"Retry-After": {"description": "When to try again, in s.", "schema": {"type": "integer"}}}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": about,
        **({"headers": _RETRY} if status in (429, 503) else {}),
        "content": {PROBLEM: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
    }
    for status, about in _STATUSES.items()
}
