"""How far long work is, on standard error: a bar in a terminal, elsewhere a line twice a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import typer

StageProgress = Callable[[str, int, int], None]
"""Called with what is going on, steps done, steps in all."""

SECONDS = 30.0
"""Between two lines of what is no terminal."""


class Advance(Protocol):
    """Says how much is done, of how much where that is known, and what it is where that has changed."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None, /) -> None: ...


@contextmanager
def shown_progress(what: str, total: int | None = None) -> Iterator[Advance]:
    """Show the progress of the block, which reports it to what it is given; the bar goes at its end."""
    # A command that shows none need not wait for these.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, known=None, now=None: bar.update(
            task, completed=done, total=known, description=now
        )


def _say(line: str) -> None:
    typer.echo(line, err=True)


class Lines:
    """Progress for a log: lines such as "epoch 2 of 3: 120 of 500, 4 minutes left"."""

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        say: Callable[[str], None] = _say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total = what, total
        self._say, self._clock = say, clock
        self._said = clock()
        self._began: tuple[float, int] | None = None

    def __call__(self, done: int, total: int | None = None, what: str | None = None, /) -> None:
        now = self._clock()
        self._total = self._total if total is None else total
        if what is not None and what != self._what:
            self._what, self._began = what, None
        # What was done before, by a run that this one continues, says nothing of the pace.
        self._began = self._began or (now, done)
        if now - self._said < SECONDS:
            return
        self._said = now
        self._say(f"{self._what}: {done:,}" + self._outlook(now, done))

    def _outlook(self, now: float, done: int) -> str:
        if self._total is None:
            return ""
        assert self._began is not None
        began, first = self._began
        of = f" of {self._total:,}"
        if done <= first:
            return of
        seconds = (now - began) * (self._total - done) / (done - first)
        return of + (
            f", {seconds / 60:.0f} minutes left" if seconds >= 90 else f", {seconds:.0f} seconds left"
        )
