"""Refusals that the settings of every kind of training share; all raise SettingsError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supernet.errors import SettingsError


def require_choices(settings: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Each named setting is one of its choices."""
    for name, known in choices.items():
        value = getattr(settings, name)
        if value not in known:
            raise SettingsError(
                f"{name} is {value!r}.",
                field=name,
                value=value,
                remedy=f"Choose {', '.join(known[:-1])} or {known[-1]}.",
            )


def require_at_least(settings: object, smallest: Mapping[str, int]) -> None:
    """Each named setting is not below its number."""
    for name, least in smallest.items():
        value = getattr(settings, name)
        if value < least:
            raise SettingsError(
                f"{name} is {value}.", field=name, value=value, remedy=f"It is at least {least}."
            )


def require_data_weights(weights: Sequence[float], sets: int) -> None:
    """One weight for each data set, or none."""
    if weights and len(weights) != sets:
        raise SettingsError(
            f"{len(weights)} weights are given for {sets} data sets.",
            field="data_weights",
            value=weights,
            remedy="Give --data-weight once for each --data, in the same order.",
        )


def require_learning_rate(value: float) -> None:
    """A learning rate that can be meant."""
    if not 0 < value < 10:
        raise SettingsError(
            f"learning_rate is {value}.",
            field="learning_rate",
            value=value,
            remedy="Choose a number above 0, such as 0.05.",
        )


def require_crop(value: float) -> None:
    """The least share of a photo's area that augmentation leaves."""
    if not 0 < value <= 1:
        raise SettingsError(
            f"smallest_crop is {value}.",
            field="smallest_crop",
            value=value,
            remedy="It is a share of a photo's area above 0 and up to 1, which leaves photos whole.",
        )
