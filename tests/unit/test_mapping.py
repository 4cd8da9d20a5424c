"""`Map` over a pool in virtual time: order, back-pressure, inputs, closing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fakepool import AsyncSource, FakePool, Source, collect, run_map, square, turns, until_failure
from hypothesis import given, settings, strategies as st

from offloop import maprun
from offloop.errors import QueueFull, StatusError
from offloop.mapping import BLOCK, Map
from offloop.maprun import BUFFER, CHUNKS_PER_WORKER
from offloop.scheduling.chunking import MOST_ITEMS


def echo(item: Any) -> Any:
    return item


async def agen(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


# Order and completeness


async def test_awaiting_a_map_gives_all_results_in_order() -> None:
    assert await run_map(FakePool(), square, range(5000)) == [x * x for x in range(5000)]


async def test_iterating_gives_all_results_in_order() -> None:
    assert [x async for x in run_map(FakePool(), square, range(5000))] == [x * x for x in range(5000)]


async def test_no_items_give_no_results() -> None:
    assert await run_map(FakePool(), square, []) == []
    assert [x async for x in run_map(FakePool(), square, agen([]))] == []


async def test_several_inputs_are_passed_side_by_side_and_the_shortest_ends_them() -> None:
    assert await run_map(FakePool(), pow, range(10), itertools.repeat(2)) == [x * x for x in range(10)]
    rows = run_map(FakePool(), lambda *row: row, agen(range(10)), [1, 2], itertools.count())
    assert await rows == [(0, 1, 0), (1, 2, 1)]


async def test_unordered_results_come_as_completed() -> None:
    pool = FakePool(2, is_manual=True)
    results = aiter(run_map(pool, square, [1, 2, 3], ordered=False))
    first = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(1)
    assert await first == 4
    pool.finish(2)
    assert await anext(results) == 9
    pool.finish(0)
    assert [x async for x in results] == [1]


async def test_ordered_results_wait_for_those_before_them() -> None:
    pool = FakePool(2, is_manual=True)
    first = asyncio.ensure_future(anext(run_map(pool, square, [1, 2])))
    await turns()
    pool.finish(1)
    await turns()
    assert not first.done()
    pool.finish(0)
    assert await first == 1


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_item_gives_one_result_whatever_takes_how_long(data: st.DataObject) -> None:
    seconds = data.draw(st.lists(st.sampled_from([1e-7, 1e-5, 2e-4, 2e-3, 0.1]), max_size=120))
    workers = data.draw(st.integers(1, 4))
    options = data.draw(
        st.fixed_dictionaries(
            {
                "ordered": st.booleans(),
                "chunksize": st.none() | st.integers(1, 20),
                "buffersize": st.none() | st.integers(1, 20),
            }
        )
    )
    is_async = data.draw(st.booleans())
    has_limit = data.draw(st.booleans())

    async def main() -> list[int]:
        pool = FakePool(workers, seconds=lambda item: seconds[item], queue_limit=2 if has_limit else None)
        items = range(len(seconds))
        async with asyncio.timeout(30):
            return await run_map(pool, square, agen(items) if is_async else items, **options)

    results = asyncio.run(main())
    expected = [x * x for x in range(len(seconds))]
    assert (results if options["ordered"] else sorted(results)) == expected


# Back-pressure


@pytest.mark.parametrize("buffersize", [1, 2, 7, 100])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_an_infinite_input_is_pulled_no_further_ahead_than_buffersize(
    buffersize: int, ordered: bool, is_async: bool
) -> None:
    source = Source(itertools.count())
    results = run_map(
        FakePool(3), square, agen(source) if is_async else source, buffersize=buffersize, ordered=ordered
    )
    async with results:
        handed = 0
        async for _ in results:
            handed += 1
            assert source.pulled <= handed + buffersize
            await turns(3)
            if handed == 150:
                break


async def test_results_that_wait_behind_a_slow_one_count_as_in_flight() -> None:
    pool = FakePool(2, is_manual=True, seconds=lambda _: 1.0)
    source = Source(itertools.count())
    results = run_map(pool, square, source, buffersize=5)
    first = asyncio.ensure_future(anext(results))
    await turns()
    for number in range(1, 5):
        pool.finish(number)
        await turns()
    assert source.pulled == 5
    pool.finish(0)
    assert await first == 0
    await turns()
    assert source.pulled == 6
    await results.aclose()


async def test_the_default_buffer_grows_with_the_chunks_of_light_items() -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    async with run_map(pool, echo, itertools.count()) as results:
        most = 0
        while (await anext(results)) < 100_000:
            most = max(most, results._run.in_flight)
        await turns()
        assert max(map(len, pool.chunks)) == MOST_ITEMS
        assert pool.most_outstanding <= 2 * CHUNKS_PER_WORKER
        assert BUFFER < most <= 2 * CHUNKS_PER_WORKER * MOST_ITEMS


async def test_others_on_the_event_loop_have_their_turn_within_a_large_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maprun, "TURN", 0.0)
    passed = 0

    async def others() -> None:
        nonlocal passed
        while True:
            await asyncio.sleep(0)
            passed += 1

    other = asyncio.ensure_future(others())
    results = run_map(FakePool(1), echo, range(10 * BLOCK), chunksize=10 * BLOCK)
    seen = [passed async for item in results if not item % BLOCK]
    other.cancel()
    assert all(before < after for before, after in itertools.pairwise(seen))


async def test_a_map_closed_within_a_chunk_gives_no_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maprun, "TURN", 0.0)
    results = run_map(FakePool(1), echo, range(10 * BLOCK), chunksize=10 * BLOCK)
    got = 0

    async def consume() -> None:
        nonlocal got
        async for _ in results:
            got += 1

    consumer = asyncio.ensure_future(consume())
    while not got:
        await asyncio.sleep(0)
    await results.aclose()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert got < 10 * BLOCK


async def test_nothing_is_pulled_before_the_first_result_is_asked_for() -> None:
    source = Source(range(3))
    results = run_map(FakePool(), square, source)
    await turns()
    assert source.pulled == 0
    assert await results == [0, 1, 4]


async def test_a_default_buffer_bounds_an_infinite_input() -> None:
    source = Source(itertools.count())
    async with run_map(FakePool(2, seconds=lambda item: 10.0), square, source) as results:
        await anext(results)
        await turns()
        assert source.pulled < 100  # slow items: only as many as keep two workers busy


async def test_a_large_sync_input_lets_the_event_loop_turn() -> None:
    def slow_input() -> Iterator[int]:
        for number in range(40):
            deadline = loop.time() + 0.002
            while loop.time() < deadline:
                pass
            yield number

    loop = asyncio.get_running_loop()
    source = Source(slow_input())
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append(source.pulled)
            await asyncio.sleep(0)

    watcher = asyncio.ensure_future(watch())
    await run_map(FakePool(8), square, source)
    watcher.cancel()
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 2


async def test_a_full_queue_is_waited_for() -> None:
    pool = FakePool(2, queue_limit=1)
    assert await run_map(pool, square, range(50)) == [x * x for x in range(50)]
    assert pool.refusals > 0
    assert pool.most_outstanding == 1


async def test_a_full_queue_is_waited_for_with_the_pools_own_means() -> None:
    class Crowded(FakePool):
        async def wait_for_room(self) -> None:
            self.queue_limit = None

    pool = Crowded(queue_limit=0)
    assert await run_map(pool, square, range(5)) == [0, 1, 4, 9, 16]
    assert pool.refusals == 1


async def test_a_queue_full_of_others_tasks_is_an_error_where_nothing_can_be_waited_for() -> None:
    with pytest.raises(QueueFull):
        await run_map(FakePool(queue_limit=0), square, range(5))


async def test_an_enqueue_that_fails_ends_the_map() -> None:
    class Closed(FakePool):
        def enqueue(self, task: Any, *, timeout: float | None = None) -> Any:
            if len(self.chunks) == 2:
                raise StatusError("The worker has been shut down")
            return super().enqueue(task, timeout=timeout)

    results, error = await until_failure(run_map(Closed(), square, range(100)))
    assert results == [0, 1]
    assert isinstance(error, StatusError)


# Async inputs


async def test_an_input_that_goes_on_though_its_worker_has_ended_is_left() -> None:
    class Ending(FakePool):
        def _watch(self, tell: Callable[[Exception], object]) -> Callable[[], object]:
            self.tell = tell
            return list

    async def stubborn() -> AsyncIterator[int]:
        yield 1
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        for number in itertools.count(2):
            yield number

    pool = Ending()
    results = run_map(pool, square, stubborn(), buffersize=2)
    assert await anext(results) == 1
    pool.tell(StatusError("The worker has been shut down"))
    with pytest.raises(StatusError):
        await anext(results)
    assert pool.chunks == [[1]]


async def test_results_arrive_while_the_input_is_waited_for() -> None:
    source = AsyncSource()
    results = run_map(FakePool(), square, source, chunksize=10)
    source.queue.put_nowait(3)
    assert await anext(results) == 9
    source.queue.put_nowait(4)
    assert await anext(results) == 16
    await results.aclose()
    assert source.is_closed


async def test_rows_gather_into_chunks_while_workers_are_busy() -> None:
    pool = FakePool(1, is_manual=True)
    source = AsyncSource()
    results = asyncio.ensure_future(collect(run_map(pool, square, source, chunksize=5)))
    for number in range(24):
        source.queue.put_nowait(number)
        await turns(5)
    source.queue.put_nowait(StopAsyncIteration)
    await turns()
    assert pool.chunks == [[0], [1], [2], [3]]
    for number in range(8):
        pool.finish(number)
        await turns()
    assert await results == [x * x for x in range(24)]
    assert [len(chunk) for chunk in pool.chunks] == [1, 1, 1, 1, 5, 5, 5, 5]


async def test_what_an_async_input_raises_comes_behind_the_results_before_it() -> None:
    source = AsyncSource()
    for item in (1, 2, OSError("gone")):
        source.queue.put_nowait(item)
    await expect_failure(run_map(FakePool(), square, source), [1, 4], OSError("gone"))
    assert source.is_closed


async def test_what_a_sync_input_raises_comes_behind_the_results_before_it() -> None:
    def broken() -> Iterator[int]:
        yield from range(500)
        raise OSError("gone")

    await expect_failure(run_map(FakePool(), square, broken()), [x * x for x in range(500)], OSError("gone"))


async def test_an_input_whose_iter_raises_ends_the_map() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise OSError("gone")

    await expect_failure(run_map(FakePool(), square, Broken()), [], OSError("gone"))
    await expect_failure(run_map(FakePool(), square, agen([1]), Broken()), [], OSError("gone"))


async def expect_failure(results: Map[Any], expected: list[Any], failure: Exception) -> None:
    got, error = await until_failure(results)
    assert got == expected
    assert (type(error), str(error)) == (type(failure), str(failure))


async def test_a_map_can_be_the_input_of_a_map() -> None:
    pool = FakePool()
    inner = run_map(pool, square, range(300))
    assert await run_map(pool, square, inner) == [x**4 for x in range(300)]
