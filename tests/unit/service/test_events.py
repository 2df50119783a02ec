from __future__ import annotations

import asyncio

from service.events import encode, stream
from service.jobs import Event


def event(number: int, kind: str = "progress") -> Event:
    return Event("j", number, 1.5, kind, {"text": "a\nb"})


def collect(batches: list[list[Event]], after: int = 0) -> tuple[list[bytes], list[int]]:
    """What the stream sends while each look at the store finds the next batch, and where it looked."""
    asked: list[int] = []

    async def fetch(number: int) -> list[Event]:
        asked.append(number)
        return batches.pop(0) if batches else []

    async def run() -> list[bytes]:
        return [chunk async for chunk in stream(fetch, after, asyncio.Event())]

    return asyncio.run(run()), asked


def test_an_event_on_the_wire() -> None:
    assert encode(event(7)) == b'event: progress\ndata: {"time": 1.5, "text": "a\\nb"}\nid: 7\n\n'


def test_a_stream_ends_with_its_job() -> None:
    chunks, asked = collect([[event(1), event(2)], [], [event(3, "succeeded")]])
    assert chunks[0] == b"retry: 1000\n\n"
    assert chunks[1:] == [encode(event(1)), encode(event(2)), encode(event(3, "succeeded"))]
    assert asked == [0, 2, 2, 3]


def test_a_stream_begins_behind_what_the_client_has() -> None:
    chunks, asked = collect([[event(5, "failed")]], after=4)
    assert asked[0] == 4
    assert chunks[-1] == encode(event(5, "failed"))


def test_a_job_that_was_resumed_goes_on(  # its first end is not the end of the stream
) -> None:
    batches = [[event(1, "cancelled")], [event(2, "queued")], [event(2, "queued")], [event(3, "succeeded")]]
    chunks, _ = collect(batches)
    assert chunks[-1] == encode(event(3, "succeeded"))


def test_a_stream_ends_when_the_service_leaves() -> None:
    async def fetch(number: int) -> list[Event]:
        return []

    async def run() -> int:
        leaving = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, leaving.set)
        return len([chunk async for chunk in stream(fetch, 0, leaving)])

    assert asyncio.run(asyncio.wait_for(run(), 5)) == 1
