"""MATLAB files of level 5 (versions 5 to 7), read without trusting a byte of them.

SciPy's reader is compiled and can crash the process on a damaged file; here every length is checked against
what is left of the file before it is believed, and whatever is wrong becomes a DataError. Source of the
format: "MAT-File Format", The MathWorks, 2019.

What a variable becomes: numbers an array with the shape in the file, text a str, a cell array the list of its
cells (column by column), a structure a dict, an array of structures a list of dicts. Sparse arrays, objects and
functions become None. Files of version 7.3 are HDF5; they are read where h5py is installed.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supernet.errors import DataError

_HEADER = 128
_DEEPEST = 32
_LARGEST = 1 << 30
"""Bytes that a compressed variable may hold."""
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_CLASSES = dict(zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))
_HDF5 = b"\x89HDF\r\n\x1a\n"


class _Damaged(Exception):
    """What is wrong with the bytes."""


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a file by name. Raises DataError that names the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refused(path, str(error.strerror)) from error
    if content[512 : 512 + len(_HDF5)] == _HDF5 or content.startswith(_HDF5):
        return _read_hdf5(path)
    try:
        return _variables(content)
    except (_Damaged, struct.error, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise _refused(path, str(error)) from error


def _refused(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is not a MATLAB file that can be read: {why}.",
        field="file",
        value=str(path),
        remedy="Download the data set again, or save the file with `save -v7`.",
    )


@dataclass(frozen=True)
class _Stream:
    """Bytes with the order of their numbers, "<" or ">"."""

    content: memoryview
    order: str

    def element(self, start: int) -> tuple[int, memoryview, int]:
        """Kind and bytes of the element at `start`, and where the next one starts."""
        if start + 8 > len(self.content):
            raise _Damaged("it ends too early")
        kind, length = struct.unpack_from(f"{self.order}II", self.content, start)
        if kind >> 16:  # small: kind and length share four bytes, the data follow in the next four
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise _Damaged("a small element claims more than four bytes")
            return kind, self.content[start + 4 : start + 4 + length], start + 8
        end = start + 8 + length
        if end > len(self.content):
            raise _Damaged("an element is longer than the file")
        padded = end if kind == _COMPRESSED else end + -length % 8
        return kind, self.content[start + 8 : end], min(padded, len(self.content))

    def numbers(self, kind: int, data: memoryview) -> np.ndarray[Any, Any]:
        """The flat numbers of an element."""
        if kind not in _NUMBERS:
            raise _Damaged(f"an element of kind {kind} stands where numbers belong")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if len(data) % dtype.itemsize:
            raise _Damaged("an array ends within a number")
        return np.frombuffer(data, dtype)


def _variables(content: bytes) -> dict[str, Any]:
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise _Damaged("it has no header of level 5")
    stream = _Stream(memoryview(content), "<" if content[126:128] == b"IM" else ">")
    found: dict[str, Any] = {}
    start = _HEADER
    while start < len(content):
        kind, data, start = stream.element(start)
        inner = stream
        if kind == _COMPRESSED:
            inner = _Stream(memoryview(_inflate(data)), stream.order)
            kind, data, _ = inner.element(0)
        if kind == _MATRIX:
            name, value = _matrix(_Stream(data, stream.order), 0)
            found[name] = value
    return found


def _inflate(data: memoryview) -> bytes:
    machine = zlib.decompressobj()
    plain = machine.decompress(data, _LARGEST)
    if machine.unconsumed_tail:
        raise _Damaged("a variable is larger than a gigabyte")
    return plain


def _matrix(stream: _Stream, depth: int) -> tuple[str, Any]:
    """Name and value of one array."""
    if depth > _DEEPEST:
        raise _Damaged("it is nested too deep")
    if len(stream.content) == 0:
        return "", np.empty((0, 0))
    kind, data, start = stream.element(0)
    flags = stream.numbers(kind, data)
    kind, data, start = stream.element(start)
    shape = tuple(int(n) for n in stream.numbers(kind, data))
    kind, data, start = stream.element(start)
    name = bytes(data).decode("latin-1")
    if len(flags) == 0 or len(shape) < 2 or min(shape) < 0:
        raise _Damaged("an array has no type or shape")
    array_class = int(flags[0]) & 0xFF
    count = math.prod(shape)
    if count > 8 * len(stream.content):
        raise _Damaged("an array is larger than the file")
    if array_class == _CELL:
        return name, _cells(stream, start, count, depth)
    if array_class == _STRUCT:
        return name, _structures(stream, start, count, depth)
    if array_class != _CHAR and array_class not in _CLASSES:
        return name, None
    kind, data, _ = stream.element(start) if count else (2, memoryview(b""), start)
    if array_class == _CHAR:
        return name, _text(stream, kind, data, shape)
    values = stream.numbers(kind, data)
    if len(values) != count:
        raise _Damaged("an array has more or fewer numbers than its shape says")
    # Numbers are stored in the smallest type that holds them, whatever the type of their array.
    return name, values.astype(_CLASSES[array_class]).reshape(shape, order="F")


def _text(stream: _Stream, kind: int, data: memoryview, shape: tuple[int, ...]) -> str:
    """Rows of text one after the other."""
    if kind not in _TEXT:
        raise _Damaged("text has an unknown encoding")
    encoding = _TEXT[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if stream.order == "<" else "-be"
    plain = bytes(data).decode(encoding)
    rows = shape[0]
    return plain if rows <= 1 else "".join(plain[row::rows] for row in range(rows))


def _cells(stream: _Stream, start: int, count: int, depth: int) -> list[Any]:
    found = []
    for _ in range(count):
        value, start = _inner(stream, start, depth)
        found.append(value)
    return found


def _inner(stream: _Stream, start: int, depth: int) -> tuple[Any, int]:
    kind, data, end = stream.element(start)
    if kind != _MATRIX:
        raise _Damaged("a cell or field is no array")
    return _matrix(_Stream(data, stream.order), depth + 1)[1], end


def _structures(stream: _Stream, start: int, count: int, depth: int) -> dict[str, Any] | list[dict[str, Any]]:
    kind, data, start = stream.element(start)
    lengths = stream.numbers(kind, data)
    length = int(lengths[0]) if len(lengths) else 0
    _, data, start = stream.element(start)
    if length < 1 or len(data) % length:
        raise _Damaged("the fields of a structure have no names")
    names = [
        bytes(data[i : i + length]).split(b"\0")[0].decode("latin-1") for i in range(0, len(data), length)
    ]
    found: list[dict[str, Any]] = []
    for _ in range(count if names else 0):
        entry = {}
        for name in names:
            entry[name], start = _inner(stream, start, depth)
        found.append(entry)
    return found[0] if count == 1 and found else found


def _read_hdf5(path: Path) -> dict[str, Any]:
    """Arrays and cells of arrays of a file of version 7.3; its axes are the other way round."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path} is a MATLAB file of version 7.3, which is HDF5.",
            field="file",
            value=str(path),
            remedy="Install h5py (pip install 'salnas[matlab]'), or save the file with `save -v7`.",
        ) from error
    try:
        with h5py.File(path, "r") as stored:
            return {
                name: _hdf5_value(stored, item)
                for name, item in stored.items()
                if isinstance(item, h5py.Dataset)
            }
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _refused(path, str(error)) from error


def _hdf5_value(stored: Any, item: Any) -> Any:
    values = item[()]
    if values.dtype == object:
        return [np.asarray(stored[reference][()]).T for reference in values.T.ravel(order="F")]
    return np.asarray(values).T
