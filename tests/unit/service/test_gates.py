from __future__ import annotations

import asyncio

import pytest

from service.errors import TooManyRequests
from service.gates import Gate


async def entered(gate: Gate, leaving: asyncio.Event, inside: list[int]) -> None:
    async with gate.place():
        inside.append(len(inside))
        await leaving.wait()


def test_some_are_inside_some_wait_and_others_are_refused() -> None:
    async def run() -> None:
        gate, leaving, inside = Gate("things", places=2, waiting=1), asyncio.Event(), list[int]()
        tasks = [asyncio.create_task(entered(gate, leaving, inside)) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(inside) == 2
        with pytest.raises(TooManyRequests, match="3 things"):
            await entered(gate, leaving, inside)
        tasks[2].cancel()
        await asyncio.gather(tasks[2], return_exceptions=True)
        tasks.append(asyncio.create_task(entered(gate, leaving, inside)))
        await asyncio.sleep(0)
        assert len(inside) == 2, "it waits where another gave up"
        leaving.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(inside) == 3
        await entered(gate, leaving, inside)

    asyncio.run(run())
