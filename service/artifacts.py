"""Exported files, named by what is in them, so that no name from a user reaches the file system."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import NotFound

_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}")


class Artifacts:
    """A folder of files called SHA-256.SUFFIX."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def incoming(self, suffix: str) -> Iterator[Path]:
        """A path to write a new file to; what is left of it afterwards is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".incoming-") as folder:
            yield Path(folder) / f"artifact{suffix}"

    def keep(self, path: Path) -> Path:
        """Move a written file to its place; the same content is kept once."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
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
