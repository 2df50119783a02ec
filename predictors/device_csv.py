"""Reading what a user measured on a device: a CSV with an id, a latency and perhaps an energy on each line.

Lines of one subnet are repeats of a measurement and are combined. What cannot be meant is refused with DeviceError,
which names the line; what can be left out is left out and noted.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from predictors.estimate import FloatArray
from predictors.tables import rows_of_ids
from supernet.cost import cost
from supernet.errors import DeviceError, InvalidArch
from supernet.space import Rows, Space

FEWEST = 10
"""Different subnets that a device needs."""

MOST_BYTES = 5_000_000
_UNITS = {"ms": 1.0, "s": 1e3, "us": 1e-3, "ns": 1e-6}
_ENERGY_UNITS = {"mj": 1.0, "j": 1e3, "uj": 1e-3, "mwh": 3.6e3}
_SLOWEST, _FASTEST = 1e8, 5e12
"""Multiply-accumulates a second that a device at hand can be believed to do, one photo at a time."""

_REPEATS_AGREE = 1.25
"""Two measurements of one subnet may differ by this factor; from the third on the median decides."""

_WEAKEST, _STRONGEST = 1e-3, 3e3
"""Watts that a device at hand can be believed to draw."""

_COLUMN = re.compile(r"latency[_ ]?\(?(ms|s|us|µs|ns)\)?", re.IGNORECASE)
_ENERGY_COLUMN = re.compile(r"energy[_ ]?\(?(mj|j|uj|µj|mwh)\)?", re.IGNORECASE)
_EMPTY = ("", "nan", "na", "n/a", "null", "none", "-")

Line: TypeAlias = tuple[int, str, float]


@dataclass(frozen=True, eq=False)
class Measurements:
    """Of n different subnets: ids, genotypes (n, d), latency in milliseconds (n,), what was left out, the runtime
    and the threads that the file names, and energy in millijoules (n,), NaN where it was not measured."""

    ids: tuple[str, ...]
    rows: Rows
    latency_ms: FloatArray
    notes: tuple[str, ...] = ()
    runtime: str = ""
    energy_mj: FloatArray | None = None
    threads: int | None = None

    def __len__(self) -> int:
        return len(self.ids)


def read_measurements(source: Path | str | bytes, space: Space, *, unit: str | None = None) -> Measurements:
    """Read the CSV at a path, or its bytes, with the columns `id` and `latency_ms` (or _s, _us, _ns).

    A column `energy_mj` (or _j, _uj, _mwh), for one photo, is read where there is one. `unit` says what the
    latencies are in where the heading is wrong, and silences the doubt about it. Commas, semicolons (then with
    decimal commas too) and tabs separate. Raises DeviceError.
    """
    table = _table(_text(source))
    latency, found_unit = _latency_column(table.heading, unit)
    lines, notes = _lines(table, latency, _UNITS[found_unit], "latency")
    values, repeat_notes = _combined(lines, "ms")
    ids = tuple(values)
    if len(ids) < FEWEST:
        raise DeviceError(
            f"{len(ids)} subnets with a latency are too few.",
            field="rows",
            value=len(ids),
            remedy=f"Measure at least {FEWEST} different ones; a device's pack holds enough.",
        )
    rows = _genotypes(space, ids, {identity: number for number, identity, _ in reversed(lines)})
    latency_ms = np.array([values[identity] for identity in ids])
    if unit is None:
        _doubt(space, rows, latency_ms, found_unit)
    energy_mj, energy_notes = _energies(table, ids, latency_ms)
    notes = [*notes, *repeat_notes, *energy_notes]
    _only(table, "provider")
    return Measurements(
        ids, rows, latency_ms, tuple(notes), _only(table, "runtime"), energy_mj, _threads(table)
    )


@dataclass(frozen=True)
class _Cells:
    """A CSV: lower-case names of the columns, and of each line its number in the file and its cells."""

    heading: list[str]
    lines: list[tuple[int, list[str]]]
    decimal_comma: bool


def _text(source: Path | str | bytes) -> str:
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise DeviceError(
            f"{source!s} cannot be read: {error.strerror}.",
            field="csv",
            value=str(source),
            remedy="Check the path.",
        ) from error
    if len(content) > MOST_BYTES:
        raise DeviceError(
            f"The file has {len(content):,} bytes.",
            field="csv",
            value=len(content),
            remedy=f"Measurements of 10 to 100 subnets are wanted, {MOST_BYTES:,} bytes at most.",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DeviceError(
            "The file is not text.", field="csv", value=repr(content[:16]), remedy="Save it as CSV in UTF-8."
        ) from error


def _table(text: str) -> _Cells:
    kept = [line for line in text.splitlines() if not line.startswith("#")]
    first = next((line for line in kept if line.strip()), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=False)
    try:
        lines = [
            (reader.line_num, [cell.strip() for cell in cells])
            for cells in reader
            if any(cell.strip() for cell in cells) and not cells[0].startswith("#")
        ]
    except csv.Error as error:
        raise DeviceError(
            f"The file is not CSV: {error}.", field="csv", value=first[:80], remedy="Save it as CSV in UTF-8."
        ) from error
    heading = [cell.lower() for cell in lines[0][1]] if lines else []
    if heading.count("id") != 1:
        raise DeviceError(
            "The first line must name the columns, `id` among them.",
            field="id",
            value=first[:80],
            remedy="Begin the file with the line: id,latency_ms",
        )
    return _Cells(heading, lines[1:], separator == ";")


def _latency_column(heading: Sequence[str], unit: str | None) -> tuple[int, str]:
    """Index of the column of latencies, and their unit."""
    named = {i: match for i, name in enumerate(heading) if (match := _COLUMN.fullmatch(name))}
    if len(named) != 1 or (unit is not None and unit not in _UNITS):
        raise DeviceError(
            f"The unit {unit!r} is not known."
            if named and unit
            else "There must be one column `latency_ms`.",
            field="unit" if named and unit else "latency_ms",
            value=unit if named and unit else ", ".join(heading)[:80],
            remedy="Use latency_ms, or latency_s, latency_us, latency_ns for other units.",
        )
    ((index, match),) = named.items()
    return index, unit or match[1].lower().replace("µ", "u")


def _energies(
    table: _Cells, ids: Sequence[str], latency_ms: FloatArray
) -> tuple[FloatArray | None, list[str]]:
    """(n,) millijoules of the subnets `ids`, NaN where the file has none; None where it has no such column."""
    named = {i: match for i, name in enumerate(table.heading) if (match := _ENERGY_COLUMN.fullmatch(name))}
    if len(named) > 1:
        raise DeviceError(
            "There is more than one column of energies.",
            field="energy_mj",
            value=", ".join(table.heading[i] for i in named),
            remedy="Keep one of them: energy_mj, or energy_j, energy_uj, energy_mwh for other units.",
        )
    if not named:
        return None, []
    ((column, match),) = named.items()
    lines, _ = _lines(table, column, _ENERGY_UNITS[match[1].lower().replace("µ", "u")], "energy")
    values, _ = _combined(lines, "mJ")
    energy_mj = np.array([values.get(identity, math.nan) for identity in ids])
    known = np.isfinite(energy_mj)
    if known.sum() < FEWEST:
        few = f"Energy was left out: it is known of {known.sum()} subnets, and {FEWEST} are needed."
        return None, [few] if known.any() else []
    watts = float(np.median(energy_mj[known] / latency_ms[known]))
    if not _WEAKEST <= watts <= _STRONGEST:
        raise DeviceError(
            f"These energies would mean {watts:,.3g} watts while a photo is computed.",
            field="energy_mj",
            value=table.heading[column],
            remedy="Call the column by the unit that its values have: energy_mj, energy_j, energy_uj or energy_mwh.",
        )
    without = int((~known).sum())
    return energy_mj, [f"{without} subnets have a latency and no energy."] if without else []


def _only(table: _Cells, name: str) -> str:
    """What the column of that name holds, if there is one. Two runtimes, or numbers of threads, are two devices."""
    if name not in table.heading:
        return ""
    column = table.heading.index(name)
    found = sorted({cells[column] for _, cells in table.lines if column < len(cells) and cells[column]})
    if len(found) > 1:
        raise DeviceError(
            f"The lines were measured with more than one {name}: {', '.join(found)}.",
            field=name,
            value=found,
            remedy="Measure all alike: another version, or another number of threads, is another device.",
        )
    return found[0] if found else ""


def _threads(table: _Cells) -> int | None:
    """The number in the column of threads; None without one, and for 0, with which a runtime takes what it likes."""
    text = _only(table, "threads")
    if text and not text.isdecimal():
        raise DeviceError(
            f"{text[:40]!r} is no number of threads.",
            field="threads",
            value=text[:40],
            remedy="Write how many there were, or remove the column.",
        )
    return int(text or 0) or None


def _lines(table: _Cells, column: int, factor: float, what: str) -> tuple[list[Line], list[str]]:
    """Number, id and value of the lines whose `column` holds a latency, or whatever `what` is."""
    found, empty = [], 0
    id_column = table.heading.index("id")
    for number, cells in table.lines:
        identity = cells[id_column].lower() if id_column < len(cells) else ""
        text = cells[column] if column < len(cells) else ""
        if not identity or text.lower() in _EMPTY:
            empty += 1
            continue
        value = _number(text.replace(",", ".") if table.decimal_comma else text) * factor
        if not (math.isfinite(value) and value > 0):
            raise DeviceError(
                f"Line {number}: {text[:40]!r} is not {'an energy' if what == 'energy' else 'a latency'}.",
                field=table.heading[column],
                value=text[:40],
                remedy="It is a number above 0; leave the cell empty where a subnet could not be measured.",
            )
        found.append((number, identity, value))
    return found, [f"{empty} lines without a {what} were left out."] if empty else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _combined(lines: Sequence[Line], unit: str) -> tuple[dict[str, float], list[str]]:
    """The median value of each id."""
    repeats: dict[str, list[Line]] = {}
    for line in lines:
        repeats.setdefault(line[1], []).append(line)
    for identity, own in repeats.items():
        values = [value for _, _, value in own]
        if len(own) == 2 and max(values) > _REPEATS_AGREE * min(values):
            raise DeviceError(
                f"Lines {own[0][0]} and {own[1][0]} disagree about {identity}: "
                f"{values[0]:g} and {values[1]:g} {unit}.",
                field=identity,
                value=values,
                remedy="Remove the wrong one, or measure it again.",
            )
    repeated = [identity for identity, own in repeats.items() if len(own) > 1]
    notes = [f"Repeated measurements were combined by their median: {_named(repeated)}."] if repeated else []
    return {identity: float(np.median([v for _, _, v in own])) for identity, own in repeats.items()}, notes


def _named(ids: Sequence[str], most: int = 5) -> str:
    """The first ids, and how many more there are."""
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more


def _genotypes(space: Space, ids: Sequence[str], line: Mapping[str, int]) -> Rows:
    try:
        return rows_of_ids(space, ids)
    except InvalidArch as error:
        wrong = str(error.value)
        raise DeviceError(
            f"Line {line.get(wrong, 0)}: {error.message}", field="id", value=wrong[:80], remedy=error.remedy
        ) from error


def _doubt(space: Space, rows: Rows, latency_ms: FloatArray, unit: str) -> None:
    """Refuse latencies of a speed that no device has: they are in another unit than their heading says."""
    speed = float(np.median(cost(space, rows).macs / (latency_ms / 1e3)))
    if _SLOWEST <= speed <= _FASTEST:
        return
    likelier = ("s" if unit == "ms" else "ms") if speed > _FASTEST else ("us" if unit == "ms" else "ms")
    raise DeviceError(
        f"Latencies in {unit} would mean {speed / 1e9:,.3g} billion multiply-accumulates a second.",
        field="unit",
        value=unit,
        remedy=f"They look like {likelier}: call the column latency_{likelier}, or say the unit if they are right.",
    )
