"""Folders for work in progress, which go with it; of a process that was killed, the next one clears what is left.

Who works in a folder holds a lock in it, which the system lets go of when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONG_AGO = 86_400.0
_MARK = ".in-use"


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, removed when the block ends."""
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent):  # nobody clears between its making and its lock
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        # Not on the folder itself: tables of measurements in it lock that.
        lock = _lock(folder / _MARK, os.O_RDONLY | os.O_CREAT)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def clear(parent: Path, prefix: str) -> None:
    """Remove the folders of that prefix that nobody works in."""
    if not parent.is_dir():
        return
    with _locked(parent):
        for folder in parent.glob(f"{prefix}*"):
            with suppress(OSError):  # it has just gone, or belongs to somebody else
                if _is_left(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path, flags: int = os.O_RDONLY) -> int:
    """The open file or folder, locked until it is closed; some file systems of a network know no locks."""
    opened = os.open(path, flags, 0o600)
    with suppress(OSError):
        fcntl.flock(opened, fcntl.LOCK_EX)
    return opened


def _is_left(folder: Path) -> bool:
    """Whether nobody works in a folder: its mark has no lock, or, where there are no locks, it is old."""
    try:
        opened = os.open(folder / _MARK, os.O_RDONLY)
    except FileNotFoundError:  # its owner was killed before it had one
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(opened).st_mtime > _LONG_AGO
    finally:
        os.close(opened)
    return True
