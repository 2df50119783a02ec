"""Limits on how many requests of a kind are answered at the same time, and how many may wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import TooManyRequests


class Gate:
    """`places` at the same time; `waiting` more wait their turn, on the event loop and without a thread."""

    def __init__(self, what: str, places: int, waiting: int = 0) -> None:
        self._what = what
        self._places = asyncio.Semaphore(places)
        self._most = places + waiting
        self._inside = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place until the block ends, as soon as one is free. Raises TooManyRequests where too many wait."""
        if self._inside >= self._most:
            raise TooManyRequests(
                f"The service has {self._inside} {self._what} in hand and takes no more.",
                remedy="Try again in a moment.",
            )
        self._inside += 1
        try:
            async with self._places:
                yield
        finally:
            self._inside -= 1
