"""Streams: items that arrive while their generator still runs."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest
from support import streaming, tasks
from support.bounds import fail_after
from support.gates import Gate, Log, Mailbox

from contract.base import Context
from offloop import StatusError, Stream, TaskTimeout
from offloop.wire.credit import ITEMS

BOTH = pytest.mark.parametrize(
    "count", [tasks.count_to, tasks.acount_to], ids=["generator", "async generator"]
)
BOTH_TELL = pytest.mark.parametrize(
    "count",
    [streaming.count_and_tell, streaming.acount_and_tell],
    ids=["generator", "async generator"],
)


class StreamContract(Context):
    """What a stream gives, and when."""

    @BOTH
    async def test_items_come_in_order_and_all_of_them(self, count: object) -> None:
        async with self.worker() as worker:
            assert [item async for item in worker.stream(count, 1000)] == list(range(1000))

    @BOTH
    async def test_a_stream_of_nothing_is_empty(self, count: object) -> None:
        async with self.worker() as worker:
            assert [item async for item in worker.stream(count, 0)] == []

    @pytest.mark.parametrize("task", [tasks.Numbers(3), tasks.AsyncNumbers(3)])
    async def test_a_task_that_yields_is_streamed(self, task: object) -> None:
        async with self.worker() as worker:
            assert [item async for item in worker.stream(task)] == [0, 1, 2]

    async def test_a_streamed_task_has_its_environment_and_context(self) -> None:
        async with self.worker() as worker:
            assert (await anext(worker.stream(streaming.NumbersWithEnvironment()))) == 1
            stream = worker.stream(streaming.NumbersWithEnvironment())
            assert [item async for item in stream] == [2, stream.execution.id]

    async def test_any_iterator_will_do(self) -> None:
        async with self.worker() as worker:
            assert [item async for item in worker.stream(map, abs, [-1, 2, -3])] == [1, 2, 3]

    @pytest.mark.parametrize(
        "count",
        [streaming.count_with_gates, streaming.acount_with_gates],
        ids=["generator", "async generator"],
    )
    async def test_an_item_arrives_while_the_generator_still_runs(self, count: object, gate: Gate) -> None:
        async with self.worker() as worker:
            seen: list[Any] = []
            async for item in worker.stream(count, 4, gate.path):
                seen.append(item)
                await gate.arrived()
                gate.let_through()
            assert seen == [0, 1, 2, 3]

    async def test_an_item_that_was_not_waited_for_is_found_behind_a_generator_that_went_on(
        self, gate: Gate
    ) -> None:
        async with self.worker() as worker:
            stream = worker.stream(streaming.count_with_gates, 3, gate.path)
            assert await anext(stream) == 0
            for number in (1, 2):
                await gate.arrived()  # nobody waits for an item while the generator goes on to the next one
                gate.let_through()
                if number == 1:
                    await gate.arrived()
                async with fail_after(20):
                    assert await anext(stream) == number
                gate.open()
            await stream.aclose()

    async def test_large_items_come_as_they_are(self) -> None:
        values = [os.urandom(size) for size in (10, 1 << 16, 3 << 20, 100)]
        async with self.worker() as worker:
            assert [bytes(item) async for item in worker.stream(streaming.yield_all, values)] == values

    async def test_what_is_no_generator_is_a_type_error(self, log: Log) -> None:
        async with self.worker() as worker:
            for fn, args, named in (
                (tasks.echo, (1,), "int"),
                (tasks.echo, (None,), "None"),
                (tasks.aecho, (1,), "coroutine"),
            ):
                stream = worker.stream(fn, *args)
                with pytest.raises(TypeError, match=f"generator.*{named}"):
                    await anext(stream)
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_bad_arguments_are_refused_at_once(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(TypeError, match="no arguments"):
                worker.stream(tasks.Numbers(3), 4)
            with pytest.raises(TypeError, match="callable"):
                worker.stream(5)  # type: ignore[arg-type]
            await worker.shutdown()
            with pytest.raises(StatusError):
                worker.stream(tasks.count_to, 1)

    async def test_the_error_of_a_generator_comes_after_its_items(self) -> None:
        async with self.worker() as worker:
            seen: list[Any] = []
            with pytest.raises(ValueError, match="the generator broke"):
                await collect(worker.stream(tasks.count_then_fail, 500), seen)
            assert seen == list(range(500))
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_a_stream_ends_only_once(self) -> None:
        async with self.worker() as worker:
            stream = worker.stream(tasks.count_to, 2)
            assert [item async for item in stream] == [0, 1]
            assert [item async for item in stream] == []
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            assert await stream.execution is None

    async def test_pools_leases_and_options_have_streams(self) -> None:
        async with self.pool(2) as pool:
            async with pool.get_worker() as lease:
                stream = lease.stream(tasks.count_to, 2)
                assert [item async for item in stream] == [0, 1]
                assert stream.execution.worker_id == lease.worker_id
            with pytest.raises(StatusError):
                lease.stream(tasks.count_to, 1)
            many = [pool.options(priority=n).stream(tasks.count_to, 50) for n in range(5)]
            seen: list[list[int]] = [[] for _ in many]
            await asyncio.gather(*map(collect, many, seen))
            assert seen == [list(range(50))] * 5

    async def test_a_timeout_ends_a_stream(self, gate: Gate) -> None:
        async with self.worker() as worker:
            stream = worker.options(timeout=0.1).stream(streaming.acount_with_gates, 3, gate.path)
            seen: list[Any] = []
            with pytest.raises(TaskTimeout):
                await collect(stream, seen)
            assert seen == [0]

    async def test_two_consumers_at_a_time_are_refused(self, gate: Gate) -> None:
        async with self.worker() as worker:
            stream = worker.stream(streaming.acount_with_gates, 2, gate.path)
            assert await anext(stream) == 0
            await gate.arrived()
            waiting = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one consumer"):
                await anext(stream)
            gate.open()
            assert await waiting == 1
            await stream.aclose()

    async def test_a_second_loop_over_a_stream_leaves_the_first_one_alone(self, gate: Gate) -> None:
        async with self.worker() as worker:
            stream = worker.stream(streaming.acount_with_gates, 3, gate.path)
            seen: list[Any] = []
            first = asyncio.ensure_future(collect(stream, seen))
            await gate.arrived()
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one consumer"):
                await collect(stream, [])
            gate.open()
            await first
            assert seen == [0, 1, 2]

    async def test_a_generator_may_run_event_loops_after_async_tasks_too(self) -> None:
        async with self.worker() as worker:
            for _ in range(2):
                assert [item async for item in worker.stream(streaming.run_loops, 3)] == [0, 1, 2]
                assert await worker.submit(tasks.aecho, 1) == 1  # from now on there is a loop

    async def test_a_repr_says_how_it_goes(self) -> None:
        async with self.worker() as worker:
            stream = worker.stream(tasks.count_to, 2)
            assert "open received=0" in repr(stream)
            assert [item async for item in stream] == [0, 1]
            assert "ended received=2 waiting=0" in repr(stream) or "closed" in repr(stream)


class StreamFlowContract(Context):
    """Back-pressure, and several streams side by side."""

    async def test_a_generator_runs_only_so_far_ahead(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            stream = worker.stream(streaming.tell_each, 10 * ITEMS, mailbox.path)
            assert await anext(stream) == 0
            said = [await mailbox.next() for _ in range(ITEMS)]
            assert said[-1] == str(ITEMS - 1)
            assert mailbox.drain() == []
            assert [await anext(stream) for _ in range(ITEMS // 2 - 1)] == list(range(1, ITEMS // 2))
            said = [await mailbox.next() for _ in range(ITEMS // 2)]
            assert said[-1] == str(ITEMS + ITEMS // 2 - 1)
            await stream.aclose()
            assert mailbox.drain() == []

    async def test_a_consumer_that_never_reads_costs_a_window_and_can_be_shut_down(
        self, mailbox: Mailbox
    ) -> None:
        async with self.pool(1) as pool:
            stream = pool.stream(streaming.tell_each, 100_000, mailbox.path)
            for _ in range(ITEMS):
                await mailbox.next()
            await stream.aclose()
            assert mailbox.drain() == []
            assert await pool.submit(tasks.echo, 1) == 1

    @BOTH_TELL
    async def test_a_stream_that_nobody_holds_is_cancelled(self, count: object, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            stream = worker.stream(count, 100_000, mailbox.path)
            assert await anext(stream) == 0
            del stream
            gc.collect()
            assert [await mailbox.next() for _ in range(2)] == ["GeneratorExit", "finally"]

    async def test_a_slow_consumer_holds_up_no_other_stream_of_its_worker(self, mailbox: Mailbox) -> None:
        async with self.worker(concurrency=3) as worker:
            slow = [
                worker.stream(tasks.acount_to, 10 * ITEMS),
                worker.stream(tasks.count_to, 10 * ITEMS),
            ]
            assert [await anext(stream) for stream in slow] == [0, 0]
            async with fail_after(30):
                fast = [item async for item in worker.stream(tasks.acount_to, 3 * ITEMS)]
                assert fast == list(range(3 * ITEMS))
                fast = [item async for item in worker.stream(tasks.count_to, 3 * ITEMS)]
                assert fast == list(range(3 * ITEMS))
            for stream in slow:
                assert [item async for item in stream] == list(range(1, 10 * ITEMS))

    async def test_an_endless_stream_lets_the_event_loop_go_on(self) -> None:
        async with self.worker() as worker:
            turns = 0

            async def take_turns() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            other = asyncio.ensure_future(take_turns())
            async for item in worker.stream(tasks.count_to, 1 << 40):
                if item == 20_000:
                    break
            assert turns >= 20_000 // ITEMS
            other.cancel()
            await asyncio.wait([other])


async def collect(stream: Stream[Any], into: list[Any]) -> None:
    """Append all of a stream's items, up to its end or its error."""
    async for item in stream:
        into.append(item)  # noqa: PERF401 -- what came before an error counts
