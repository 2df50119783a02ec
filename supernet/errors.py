"""One tree of errors: each names the field, the value and what to do about it."""

from __future__ import annotations

from typing import Any


class SalnasError(Exception):
    """Base of all errors that a user can mend.

    `message` says what is wrong, `field` and `value` what it was said about, `remedy` what to do.
    """

    kind = "error"

    def __init__(
        self, message: str, *, field: str | None = None, value: Any = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidSpace(SalnasError):
    """A search space that is unknown or makes no sense."""

    kind = "invalid-space"


class InvalidArch(SalnasError):
    """An architecture that is not a member of its space."""

    kind = "invalid-arch"


class CheckpointError(SalnasError):
    """A checkpoint that is corrupt, or made for another space."""

    kind = "invalid-checkpoint"


class DataError(SalnasError):
    """A data set, or a file of it, that cannot be used."""

    kind = "invalid-data"


class ImageError(SalnasError):
    """Bytes that are not an image, or an image beyond the limits."""

    kind = "invalid-image"


class InvalidConstraint(SalnasError):
    """A constraint or objective that cannot be understood."""

    kind = "invalid-constraint"


class InfeasibleBudget(SalnasError):
    """No subnet satisfies the constraints; the message says what is possible."""

    kind = "infeasible-budget"


class DeviceError(SalnasError):
    """A device, or a table of its measurements, that cannot be used."""

    kind = "invalid-device"


class PredictorError(SalnasError):
    """A predictor that is missing, corrupt, or made for another supernet."""

    kind = "invalid-predictor"


class ExportError(SalnasError):
    """An export whose result differs from the network, or cannot be written."""

    kind = "export-failed"


class SettingsError(SalnasError):
    """A setting outside its range."""

    kind = "invalid-settings"
