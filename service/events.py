"""The events of a job as a stream of server-sent events, which begins behind any event and ends with the job."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from fastapi.sse import format_sse_event

from service.jobs import Event, JobState

Fetch = Callable[[int], Awaitable[Sequence[Event]]]
"""Events behind a number, in order."""

RETRY_MS = 1000
_PAUSE = 0.25
_PING_EVERY = 15.0
_PING = b": ping\n\n"
_FINAL = {state.value for state in JobState if state.is_final}


def encode(event: Event) -> bytes:
    """One event on the wire; `id` is what a client sends back as Last-Event-ID."""
    data = json.dumps({"time": event.time, **event.data})
    return format_sse_event(data_str=data, event=event.kind, id=str(event.number))


async def stream(fetch: Fetch, after: int, leaving: asyncio.Event) -> AsyncIterator[bytes]:
    """Events behind number `after`, then new ones as they happen, until the job or the service ends."""
    yield format_sse_event(retry=RETRY_MS)
    spoke = time.monotonic()
    while True:
        events = await fetch(after)
        for event in events:
            after, spoke = event.number, time.monotonic()
            yield encode(event)
        if events and events[-1].kind in _FINAL:
            if not await fetch(after):
                return
            continue
        if time.monotonic() - spoke > _PING_EVERY:
            spoke = time.monotonic()
            yield _PING
        if await _left(leaving):
            return


async def _left(leaving: asyncio.Event) -> bool:
    """Wait a moment for the service to leave."""
    try:
        await asyncio.wait_for(leaving.wait(), _PAUSE)
    except TimeoutError:
        return False
    return True
