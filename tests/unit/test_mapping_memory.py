"""What a `Map` that has ended keeps alive: nothing, without a collection of garbage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any
from weakref import ref

import pytest
from fakepool import FakePool, collect, run_map, turns

from offloop.mapping import Map

pytestmark = pytest.mark.usefixtures("without_collections")


class Row:
    """An argument that can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


def number_of(row: Row) -> int:
    return row.number


def fail_at_three(row: Row) -> int:
    if row.number == 3:
        raise ValueError("three")
    return row.number


# Ways to the end


async def leave_a_block(results: Map[int]) -> None:
    async with results:
        async for _ in results:
            break


async def close(results: Map[int]) -> None:
    await anext(results)
    await results.aclose()


async def break_and_close(results: Map[int]) -> None:
    async for _ in results:
        break
    await results.aclose()


async def iterate(results: Map[int]) -> None:
    async for _ in results:
        pass


async def ask_one_by_one(results: Map[int]) -> None:
    while True:
        try:
            await anext(results)
        except StopAsyncIteration:
            return


async def cancel(consume: Coroutine[Any, Any, Any]) -> None:
    consumer = asyncio.ensure_future(consume)
    await turns(5)
    consumer.cancel()
    await asyncio.wait([consumer])


async def cancel_awaiting(results: Map[int]) -> None:
    await cancel(collect(results))


async def cancel_iterating(results: Map[int]) -> None:
    await cancel(iterate(results))


ENDS = [iterate, collect, ask_one_by_one]
LEAVING = [leave_a_block, close, break_and_close, cancel_awaiting, cancel_iterating]


class Rows:
    """Makes inputs, and knows which of their rows live."""

    def __init__(self) -> None:
        self._made: list[ref[Row]] = []

    def _make(self, number: int) -> Row:
        row = Row(number)
        self._made.append(ref(row))
        return row

    def listed(self, count: int = 40) -> list[Row]:
        return [self._make(number) for number in range(count)]

    def generated(self, count: int = 40) -> Iterator[Row]:
        for number in range(count):
            yield self._make(number)

    async def awaited(self, count: int = 40) -> AsyncIterator[Row]:
        for number in range(count):
            await asyncio.sleep(0)
            yield self._make(number)

    def broken(self) -> Iterator[Row]:
        yield from self.generated(5)
        raise OSError("gone")

    async def broken_awaited(self) -> AsyncIterator[Row]:
        async for row in self.awaited(5):
            yield row
        raise OSError("gone")

    @property
    def alive(self) -> int:
        assert self._made
        return sum(row() is not None for row in self._made)


Way = Callable[[Map[int]], Coroutine[Any, Any, Any]]


async def run_to_the_end(way: Way, rows: Rows, source: Any, fn: Callable[[Row], int], ordered: bool) -> None:
    """Let a map end in a way, and see that nothing is left of it."""
    pool = FakePool(2, pickles=True)
    results = run_map(pool, fn, source, ordered=ordered)
    del source
    with suppress(ValueError, OSError):  # of the function, and of the input
        await way(results)
    await turns()
    pool.forget()
    assert rows.alive == 0
    run = ref(results._run)
    del results
    assert run() is None


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["listed", "generated", "awaited"])
@pytest.mark.parametrize("way", [*LEAVING, *ENDS])
async def test_a_map_that_ends_or_is_left_keeps_nothing(way: Way, kind: str, ordered: bool) -> None:
    rows = Rows()
    await run_to_the_end(way, rows, getattr(rows, kind)(), number_of, ordered)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["listed", "generated", "awaited"])
@pytest.mark.parametrize("way", ENDS)
async def test_a_map_whose_function_raises_keeps_nothing(way: Way, kind: str, ordered: bool) -> None:
    rows = Rows()
    await run_to_the_end(way, rows, getattr(rows, kind)(), fail_at_three, ordered)


@pytest.mark.parametrize("kind", ["broken", "broken_awaited"])
@pytest.mark.parametrize("way", [*LEAVING, *ENDS])
async def test_a_map_whose_input_raises_keeps_nothing(way: Way, kind: str) -> None:
    rows = Rows()
    await run_to_the_end(way, rows, getattr(rows, kind)(), number_of, ordered=True)


async def test_a_map_that_is_broken_off_keeps_nothing_once_its_tasks_have_ended() -> None:
    rows, pool = Rows(), FakePool(2)
    async for _ in run_map(pool, number_of, rows.generated()):
        break
    await turns()
    pool.forget()
    assert rows.alive == 0
