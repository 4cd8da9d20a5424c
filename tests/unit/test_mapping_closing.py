"""How a `Map` ends before its end: closing, cancelling, dropping it; and misuse."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakepool import AsyncSource, FakePool, collect, run_map, square, turns

from offloop import WorkerPool, maprun
from offloop.testing import InlineWorkerFactory


@pytest.mark.parametrize("is_async", [True, False])
async def test_closing_early_cancels_the_rest_and_closes_the_input(is_async: bool) -> None:
    closed: list[bool] = []

    def numbers() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    async def async_numbers() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    pool = FakePool(2, is_manual=True)
    results = run_map(pool, square, async_numbers() if is_async else numbers())
    first = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(0)
    assert await first == 0
    assert pool.outstanding
    await results.aclose()
    assert not pool.outstanding
    assert closed == [True]
    assert [x async for x in results] == []
    await results.aclose()


async def test_closing_while_the_reader_wakes_up_lets_the_input_clean_up() -> None:
    closed: list[bool] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    pool = FakePool(2, is_manual=True)
    results = run_map(pool, square, numbers(), chunksize=1, buffersize=2)
    first = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(0)
    await turns()
    assert first.done()
    pool.finish(1)
    assert await anext(results) == 1  # makes room, for which the reader waits
    await results.aclose()
    assert closed == [True]


async def test_closing_cancels_the_last_ones_first_so_that_no_other_starts_in_between() -> None:
    pool = FakePool(2, is_manual=True)
    results = run_map(pool, square, itertools.count())
    first = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(0)
    await first
    left, ended = pool.outstanding, []
    for number in left:
        pool.executions[number].add_done_callback(lambda _, number=number: ended.append(number))
    await results.aclose()
    assert len(left) > 1
    assert ended == left[::-1]


async def test_break_closes_the_map() -> None:
    pool = FakePool(2, seconds=lambda item: float(item > 0))
    async for _ in run_map(pool, square, itertools.count()):
        break
    pool.is_manual = True
    gc.collect()
    await turns()
    assert pool.executions
    assert not pool.outstanding


async def test_a_dropped_map_is_closed() -> None:
    pool = FakePool(2, seconds=lambda item: float(item > 0))
    results = run_map(pool, square, itertools.count())
    await anext(results)
    pool.is_manual = True
    del results
    await turns()
    assert not pool.outstanding


@pytest.mark.parametrize("is_awaited", [True, False])
async def test_cancelling_the_consumer_cancels_the_rest(is_awaited: bool) -> None:
    async def consume() -> None:
        results = run_map(pool, square, source)
        if is_awaited:
            await results
        else:
            async for _ in results:
                pass

    pool, source = FakePool(2, is_manual=True), AsyncSource()
    source.queue.put_nowait(1)
    consumer = asyncio.ensure_future(consume())
    await turns()
    assert pool.outstanding == [0]
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert not pool.outstanding
    assert source.is_closed


async def test_closing_wakes_a_waiting_consumer() -> None:
    results = run_map(FakePool(is_manual=True), square, range(3))
    consumer = asyncio.ensure_future(anext(results))
    await turns()
    await results.aclose()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def test_a_second_consumer_is_an_error_and_no_deadlock() -> None:
    pool = FakePool(is_manual=True)
    results = run_map(pool, square, range(3))
    first = asyncio.ensure_future(collect(results))
    await turns()
    with pytest.raises(RuntimeError, match="one consumer"):
        await anext(results)
    for number in range(3):
        pool.finish(number)
        await turns()
    assert await first == [0, 1, 4]


async def test_a_next_result_that_is_not_waited_for_any_longer_is_not_lost() -> None:
    pool = FakePool(is_manual=True)
    results = run_map(pool, square, range(5), chunksize=2)
    for number in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(results), 0.001)
        pool.finish(number)
        await turns()
        assert await anext(results) == (2 * number) ** 2
        if number < 2:
            assert await anext(results) == (2 * number + 1) ** 2
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_results_that_were_asked_for_one_by_one_and_then_in_a_loop_come_once() -> None:
    results = run_map(FakePool(), square, range(100), chunksize=30)
    got = [await anext(results) for _ in range(40)]
    async for result in results:
        got.append(result)
        if len(got) == 70:
            break
    got += [await anext(results) for _ in range(10)]
    got += await results
    assert got == [number**2 for number in range(100)]


async def test_a_map_that_was_asked_for_a_result_and_dropped_is_cancelled() -> None:
    pool = FakePool(is_manual=True)
    results = run_map(pool, square, range(100))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(results), 0.001)
    assert pool.outstanding
    del results
    gc.collect()
    await turns()
    assert not pool.outstanding


async def test_a_failure_that_is_asked_for_by_itself_closes_the_map() -> None:
    pool = FakePool(is_manual=True)
    results = run_map(pool, lambda item: 1 / item, [1, 0, 2, 3, 4, 5], chunksize=1)
    first = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(0)
    pool.finish(1)
    assert await first == 1
    with pytest.raises(ZeroDivisionError):
        await anext(results)
    assert not pool.outstanding


async def test_what_an_input_raises_while_it_is_closed_is_raised() -> None:
    def stubborn() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            raise OSError("still busy")

    pool = FakePool(2, is_manual=True)
    results = run_map(pool, square, stubborn(), buffersize=2)
    first = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(0)
    await first
    with pytest.raises(OSError, match="still busy"):
        await results.aclose()
    await results.aclose()


async def test_leaving_a_block_closes_the_map() -> None:
    pool = FakePool(2, seconds=lambda item: float(item > 0))
    async with run_map(pool, square, itertools.count()) as results:
        await anext(results)
    assert not pool.outstanding


async def test_the_rest_of_a_begun_map_can_be_awaited_once() -> None:
    results = run_map(FakePool(), square, range(100))
    assert await anext(results) == 0
    assert await results == [x * x for x in range(1, 100)]
    with pytest.raises(RuntimeError, match="only once"):
        await results


def test_another_event_loop_is_a_clear_error(run_loop: Any) -> None:
    pool = FakePool(is_manual=True)
    results = run_map(pool, square, range(3), buffersize=1)

    async def begin() -> None:
        first = asyncio.ensure_future(anext(results))
        await turns()
        pool.finish(0)
        assert await first == 0
        results._items = None  # the loop would close it at its end

    kept = results._run
    run_loop(begin())
    with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
        run_loop(kept.next_values())


@pytest.mark.parametrize("is_awaited", [True, False])
@pytest.mark.parametrize("use", ["anext", "loop", "await", "iterator", "close"])
async def test_a_use_on_another_event_loop_than_its_pool_s_is_refused_and_harms_nothing(
    use: str, is_awaited: bool
) -> None:
    async def use_it() -> None:
        if use == "loop":
            await iterate(results)
        elif use == "await":
            await results
        elif use == "close":
            await results.aclose()
        else:
            await anext(results if use == "anext" else iterator)

    async with WorkerPool(1, factory=InlineWorkerFactory()) as pool:
        await pool.submit(square, 1)  # it is this loop's now
        results = pool.map(square, range(3))
        iterator = aiter(results) if use == "iterator" else None
        with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
            await asyncio.to_thread(lambda: asyncio.run(use_it()))
        assert await (results if is_awaited else iterate(results)) == [0, 1, 4]


async def iterate(results: Any) -> list[int]:
    return [item async for item in results]


async def test_its_repr_shows_state_and_counts() -> None:
    results = run_map(FakePool(), square, range(3), buffersize=1)
    assert repr(results) == "<Map square not started ordered delivered=0 in_flight=0>"
    await anext(results)
    assert repr(results).startswith("<Map square running ordered delivered=1 of 3 in_flight=")
    await results
    assert repr(results) == "<Map square finished ordered delivered=3 of 3 in_flight=0>"


async def test_after_a_failure_or_its_end_a_map_has_no_next_result() -> None:
    pool = FakePool()
    failing = run_map(pool, lambda item: 1 / item, [1, 0, 2], chunksize=1)
    assert await anext(failing) == 1
    with pytest.raises(ZeroDivisionError):
        await anext(failing)
    closed = run_map(pool, square, range(100), chunksize=50)
    assert await anext(closed) == 0
    await closed.aclose()
    for results in (failing, closed):
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(results)
        assert [item async for item in results] == []


async def test_a_failure_is_not_lost_where_closing_the_map_for_it_is_not_waited_for() -> None:
    class Slow:
        """An input that takes its time to close."""

        def __init__(self) -> None:
            self.may_close = asyncio.Event()
            self.left = [1, 0, 2]

        def __aiter__(self) -> Slow:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                await asyncio.Event().wait()
            return self.left.pop(0)

        async def aclose(self) -> None:
            await self.may_close.wait()

    source = Slow()
    results = run_map(FakePool(), lambda item: 1 / item, source, chunksize=1)
    assert await anext(results) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(results), 0.01)
    source.may_close.set()
    with pytest.raises(ZeroDivisionError):
        await anext(results)
    with pytest.raises(StopAsyncIteration):
        await anext(results)


@pytest.mark.parametrize("use", ["anext", "loop", "await"])
async def test_whoever_comes_while_somebody_waits_is_refused_and_harms_nobody(use: str) -> None:
    async def loop_over() -> None:
        async for _ in results:
            pass

    async def wait_for_all() -> None:
        await results

    pool = FakePool(is_manual=True)
    results = run_map(pool, square, range(3), chunksize=1)
    first = asyncio.ensure_future(anext(results))
    await turns()
    with pytest.raises(RuntimeError, match="one consumer"):
        await {"anext": results.__anext__, "loop": loop_over, "await": wait_for_all}[use]()
    for number in range(3):
        pool.finish(number)
    assert await first == 0
    assert await results == [1, 4]


async def test_asking_for_one_result_after_the_other_gives_others_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        asyncio.get_running_loop().call_soon(tick)

    monkeypatch.setattr(maprun, "TURN", 0.0)
    results = run_map(FakePool(), square, range(3000), chunksize=3000)
    await anext(results)
    asyncio.get_running_loop().call_soon(tick)
    assert [await anext(results) for _ in range(2999)][-1] == 2999**2
    assert ticks >= 2999 // maprun.BLOCK


@pytest.mark.parametrize("later", range(8))
@pytest.mark.parametrize("is_async", [True, False])
async def test_closing_raises_nothing_that_an_input_raised_before(later: int, is_async: bool) -> None:
    async with WorkerPool(1, factory=InlineWorkerFactory()) as pool:
        results = pool.map(square, afailing() if is_async else failing())
        await anext(results)
        for _ in range(later):
            await asyncio.sleep(0)
        await results.aclose()


def failing() -> Iterator[int]:
    yield from range(3)
    raise OSError("behind what was asked for")


async def afailing() -> AsyncIterator[int]:
    for number in failing():
        yield number
