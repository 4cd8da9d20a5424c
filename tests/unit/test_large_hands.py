"""How much of large arguments and items is under way at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from offloop import WorkerPool
from offloop.contexts.process_link import ProcessLink

SIZE = 4 << 20
#: The turn of the event loop in which each item was loaded.
loads: Counter[int] = Counter()
turn = 0


async def test_few_tasks_with_large_arguments_are_in_a_hand() -> None:
    def held() -> int:
        links = [handle.link for handle in pool._dispatcher.handles.values()]
        return sum(link._exchange.bytes_held for link in links if isinstance(link, ProcessLink))

    array = np.zeros(SIZE, "u1")
    async with WorkerPool(2) as pool:
        await asyncio.gather(*(pool.submit(len, "short") for _ in range(100)))
        for _ in range(10):  # what it is to be known by
            assert await pool.submit(len, array) == SIZE
        executions = [pool.submit(len, array) for _ in range(60)]
        most = 0
        while not all(execution.done() for execution in executions):
            await asyncio.sleep(0)
            most = max(most, held())
        assert await asyncio.gather(*executions) == [SIZE] * 60
    assert SIZE <= most <= 12 * SIZE


def load_slowly(data: bytes) -> int:
    """Make an item of what came."""
    time.sleep(0.002)
    loads[turn] += 1
    return len(data)


class Slow:
    """Takes a while to be loaded."""

    def __reduce__(self) -> Any:
        return load_slowly, (bytes(100_000),)


def slow_items(count: int) -> Iterator[Slow]:
    for _ in range(count):
        yield Slow()


async def test_a_stream_loads_few_slow_items_in_a_turn_of_the_event_loop() -> None:
    def count_turns() -> None:
        global turn
        turn += 1
        nonlocal due
        due = loop.call_soon(count_turns)

    loop = asyncio.get_running_loop()
    due = loop.call_soon(count_turns)
    loads.clear()
    async with WorkerPool(1) as pool:
        assert [item async for item in pool.stream(slow_items, 60)] == [100_000] * 60
    due.cancel()
    assert loads.total() == 60
    assert max(loads.values()) <= 4
