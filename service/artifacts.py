"""Exported files, named by what is in them, so that no name from a user reaches the file system."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import NotFound
from service.scratch import clear, scratch

_INCOMING = ".incoming-"
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}")


class Artifacts:
    """A folder of files called SHA-256.SUFFIX."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def incoming(self, suffix: str) -> Iterator[Path]:
        """A path to write a new file to; what is left of it afterwards is removed."""
        with scratch(self._folder, _INCOMING) as folder:
            yield folder / f"artifact{suffix}"

    def clear(self) -> None:
        """Remove what killed workers left."""
        clear(self._folder, _INCOMING)

    def keep(self, path: Path, sha256: str | None = None) -> Path:
        """Move a written file to its place; the same content is kept once. `sha256` of it, where that is known."""
        with path.open("rb") as stream:
            digest = sha256 or hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        target = self._folder / f"{digest}{path.suffix}"
        os.replace(path, target)
        return target

    def path(self, name: str) -> Path:
        """The file of that name. Raises NotFound."""
        path = self._folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise NotFound(
                "The exported file is no longer here.",
                field="artifact",
                value=name[:80],
                remedy="Export the subnet again.",
            )
        return path

    def tidy(self, before: float, most_bytes: int) -> int:
        """Remove files written before that time, and the oldest beyond `most_bytes`.

        Returns how many artifacts went.
        """
        if not self._folder.is_dir():
            return 0
        found = [(path, path.stat()) for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        found.sort(key=lambda entry: entry[1].st_mtime, reverse=True)
        total, removed = 0, 0
        for path, status in found:
            total += status.st_size
            if status.st_mtime < before or total > most_bytes:
                path.unlink(missing_ok=True)
                removed += 1
        return removed
