"""Ends a process in which nothing moves any more, so that whoever watches it starts another.

A worker starts Ray while it searches, and Ray starts processes by fork, which waits for locks of libraries below
Python while it holds the interpreter (OpenBLAS did that, see `service.processes.environment_of`). A dead worker is
replaced and its job goes on; one that stands still would be waited for.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time

_PATIENCE = 60.0
"""Seconds: importing torch from a slow disk holds the interpreter for less."""

_LOOKS = 12
"""Signs of life within the patience."""


def end_at_standstill(seconds: float = _PATIENCE) -> None:
    """Let this process exit with status 1, and the stacks of its threads on standard error, once no thread of it can
    run Python for so long. Threads that wait are no standstill, nor is a long computation in a library."""

    def live() -> None:
        while True:
            # A thread in C counts down: it needs no interpreter.
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)
            time.sleep(seconds / _LOOKS)

    threading.Thread(target=live, name="standstill", daemon=True).start()
