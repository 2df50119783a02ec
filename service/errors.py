"""What can go wrong in the service beside what the libraries raise: one tree, from `SalnasError` down."""

from __future__ import annotations

import math

from supernet.errors import SalnasError

_LONGEST_LIST = 20
_LONGEST_TEXT = 200
_DEEPEST = 4


class ServiceError(SalnasError):
    """Base of the errors that only the service knows."""

    kind = "service-error"


class NotFound(ServiceError):
    """There is no such resource."""

    kind = "not-found"


class InvalidRequest(ServiceError):
    """A request that is well-formed but makes no sense."""

    kind = "invalid-request"


class IllegalTransition(ServiceError):
    """A job that is in another state than the request needs."""

    kind = "wrong-state"


class AlreadyExists(ServiceError):
    """A name or an id that something else has."""

    kind = "already-exists"


class NotReady(ServiceError):
    """A resource that exists but has no content yet."""

    kind = "not-ready"


class LeaseLost(ServiceError):
    """A worker that no longer holds its job; never reaches a client."""

    kind = "lease-lost"


class IdempotencyMismatch(ServiceError):
    """An idempotency key that was used for another request."""

    kind = "idempotency-mismatch"


class QueueFull(ServiceError):
    """More jobs are waiting than the service accepts."""

    kind = "queue-full"


class TooLarge(ServiceError):
    """A body beyond the limit."""

    kind = "too-large"


class NotAcceptable(ServiceError):
    """A representation that the service does not have."""

    kind = "not-acceptable"


class Unauthorised(ServiceError):
    """A request without a key, or with one that is not in force."""

    kind = "unauthorised"


class Forbidden(ServiceError):
    """A request that its key, or its origin, does not allow."""

    kind = "forbidden"


class TooManyRequests(ServiceError):
    """A client that asks faster than it may."""

    kind = "too-many-requests"


class Unavailable(ServiceError):
    """A part of the service that does not answer: the database, the supernet, a full disk."""

    kind = "unavailable"


def plain(value: object, depth: int = _DEEPEST) -> object:
    """A value of an error as JSON data: short texts, numbers and lists of them as they are, the rest as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple) and len(value) <= _LONGEST_LIST and depth:
        return [plain(item, depth - 1) for item in value]
    try:
        return str(value)[:_LONGEST_TEXT]
    except RecursionError:
        return "…"
