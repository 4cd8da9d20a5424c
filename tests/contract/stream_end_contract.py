"""How streams end: left early, cancelled, killed, or with something that can't be sent."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import psutil
import pytest
from support import streaming, tasks
from support.bounds import eventually
from support.gates import Gate, Mailbox

from contract.base import Context
from contract.stream_contract import BOTH_TELL, collect
from offloop import SerializationError, TaskFailed, WorkerCrashed
from offloop.wire.credit import ITEMS


class StreamClosingContract(Context):
    """Leaving a stream early."""

    @BOTH_TELL
    async def test_leaving_the_loop_closes_the_generator(self, count: object, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            stream = worker.stream(count, 100_000, mailbox.path)
            async for item in stream:
                if item == 3:
                    break
            assert [await mailbox.next() for _ in range(2)] == ["GeneratorExit", "finally"]
            assert [item async for item in stream] == []
            assert await worker.submit(tasks.echo, 1) == 1

    @BOTH_TELL
    async def test_aclose_waits_until_the_generator_is_closed(self, count: object, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            async with worker.stream(count, 100_000, mailbox.path) as stream:
                async for item in stream:
                    if item == 3:
                        break
            assert stream.execution.done()
            assert mailbox.drain() == ["GeneratorExit", "finally"]
            await stream.aclose()

    async def test_a_cancelled_consumer_closes_the_generator(self, gate: Gate, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            stream = worker.stream(streaming.acount_with_gates, 3, gate.path)

            async def consume() -> None:
                async for _ in stream:
                    pass

            consumer = asyncio.ensure_future(consume())
            await gate.arrived()
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
            assert stream.execution.cancelled()
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_closing_interrupts_a_generator_whose_code_runs(self, mailbox: Mailbox) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            async with pool.stream(streaming.yield_then_spin, mailbox.path) as stream:
                assert await anext(stream) == 0
                assert await mailbox.next() == "blocks"
            assert mailbox.drain() == ["TaskCancelled", "finally"]
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_closing_interrupts_a_generator_on_a_worker_with_an_event_loop(
        self, mailbox: Mailbox
    ) -> None:
        async with self.pool(1, factory=self.make_factory(concurrency=2), cancel_grace=30) as pool:
            async with pool.stream(streaming.yield_then_spin, mailbox.path) as stream:
                assert await anext(stream) == 0
                assert await mailbox.next() == "blocks"
            assert mailbox.drain() == ["TaskCancelled", "finally"]
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_what_a_generator_raises_when_closed_is_kept(self) -> None:
        async with self.worker() as worker:
            async with worker.stream(streaming.fail_to_close) as stream:
                assert await anext(stream) == 0
            assert isinstance(stream.execution.exception(), KeyError)
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_a_generator_that_will_not_close_fails(self) -> None:
        async with self.worker() as worker:
            async with worker.stream(streaming.refuse_to_close) as stream:
                assert await anext(stream) == 0
            assert isinstance(stream.execution.exception(), RuntimeError)
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_cancelling_the_execution_ends_the_stream(self) -> None:
        async with self.worker() as worker:
            stream = worker.stream(tasks.count_to, 1 << 40)
            assert await anext(stream) == 0
            stream.execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                async for _ in stream:
                    pass

    async def test_a_stream_closed_before_its_start_never_runs(self, gate: Gate, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            held = worker.submit(tasks.pass_gate, gate.path)
            await gate.arrived()
            stream = worker.stream(streaming.count_and_tell, 3, mailbox.path)
            closing = asyncio.ensure_future(stream.aclose())
            await asyncio.sleep(0)
            gate.open()
            await asyncio.gather(held, closing)
            await worker.submit(tasks.tell, mailbox.path, "next")
            assert await mailbox.next() == "next"

    async def test_closing_ends_the_wait_of_a_consumer(self, gate: Gate) -> None:
        async with self.worker() as worker:
            stream = worker.stream(streaming.acount_with_gates, 3, gate.path)
            assert await anext(stream) == 0
            waiting = asyncio.ensure_future(stream.__anext__())
            await gate.arrived()
            await stream.aclose()
            with pytest.raises(StopAsyncIteration):
                await waiting

    async def test_kill_ends_a_stream(self) -> None:
        worker = self.worker()
        stream = worker.stream(tasks.count_to, 1 << 40)
        assert await anext(stream) == 0
        worker.kill()
        with pytest.raises(Exception, match="killed"):
            async for _ in stream:
                pass
        await worker.shutdown()

    async def test_a_generator_that_raises_the_end_of_another_kind_has_failed(self) -> None:
        async with self.worker() as worker:
            for _ in range(2):
                stream = worker.stream(streaming.yield_then_raise_async_end)
                assert await anext(stream) == 1
                with pytest.raises(TaskFailed, match="StopAsyncIteration: not the end"):
                    await anext(stream)
                await worker.submit(tasks.aecho, 1)  # it has an event loop from now on


class StreamCrashContract(Context):
    """Streams of workers that die, and items that can't be pickled."""

    @pytest.mark.parametrize("count", [1, 200, ITEMS, 1000])
    async def test_items_before_a_crash_arrive(self, count: int) -> None:
        async with self.pool(1) as pool:
            seen: list[Any] = []
            with pytest.raises(WorkerCrashed):
                await collect(pool.stream(streaming.yield_then_exit, count), seen)
            assert seen == list(range(count))
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_large_items_before_a_crash_arrive(self) -> None:
        sizes = [100, 1 << 20, 5, 3 << 20]
        async with self.pool(1) as pool:
            seen: list[Any] = []
            with pytest.raises(WorkerCrashed):
                await collect(pool.stream(streaming.yield_large_then_exit, sizes), seen)
            assert [len(item) for item in seen] == sizes

    async def test_a_stream_is_tried_again_as_long_as_no_item_has_arrived(self) -> None:
        async with self.pool(1) as pool:
            stream = pool.options(retries=1).stream(streaming.attempts, True)
            assert [item async for item in stream] == [2]
            stream = pool.options(retries=1).stream(streaming.attempts, False)
            assert await anext(stream) == 1
            with pytest.raises(WorkerCrashed):
                await anext(stream)

    async def test_a_worker_killed_while_it_waits_for_its_consumer_is_a_crash(self, mailbox: Mailbox) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            stream = pool.stream(streaming.tell_each, 100_000, mailbox.path)
            for _ in range(ITEMS):
                await mailbox.next()
            worker = psutil.Process(pid)  # it tells of the last item before it sends it, then sleeps
            await eventually(lambda: worker.status() == psutil.STATUS_SLEEPING)
            os.kill(pid, 9)
            await eventually(stream.execution.done)
            seen: list[Any] = []
            with pytest.raises(WorkerCrashed):
                await collect(stream, seen)
            assert seen == list(range(ITEMS))

    async def test_an_item_that_cannot_be_pickled_ends_its_stream(self) -> None:
        async with self.worker() as worker:
            seen: list[Any] = []
            stream = worker.stream(map, streaming.new_lock_if, [0, 0, 1, 0])
            with pytest.raises(SerializationError, match=r"an item of type _thread.lock"):
                await collect(stream, seen)
            assert seen == [None, None]
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_an_item_that_cannot_be_loaded_ends_its_stream(self) -> None:
        async with self.worker() as worker:
            seen: list[Any] = []
            stream = worker.stream(map, streaming.make_fails_in_parent, [0, tasks.home(), 0])
            with pytest.raises(SerializationError, match=r"an item of type .*FailsInParent"):
                await collect(stream, seen)
            assert len(seen) == 1
            assert await worker.submit(tasks.echo, 3) == 3

    async def test_a_very_large_item_comes_through(self) -> None:
        async with self.worker() as worker:
            lengths = [len(item) async for item in worker.stream(map, bytes, [300 << 20, 1])]
        assert lengths == [300 << 20, 1]

    async def test_closing_interrupts_a_blocking_call(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            async with worker.stream(streaming.yield_then_block, mailbox.path) as stream:
                assert await anext(stream) == 0
                assert await mailbox.next() == "blocks"
            assert mailbox.drain() == ["TaskCancelled", "finally"]

    async def test_a_generator_that_takes_too_long_to_close_has_its_worker_killed(
        self, mailbox: Mailbox
    ) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            pid = await pool.submit(os.getpid)
            async with pool.stream(streaming.close_slowly, mailbox.path) as stream:
                assert await anext(stream) == 0
            assert await mailbox.next() == "closes"
            assert stream.execution.cancelled()
            assert await pool.submit(os.getpid) != pid

    async def test_a_generator_that_forks_goes_on(self) -> None:
        async with self.worker() as worker:
            assert [item async for item in worker.stream(map, streaming.fork_once, [1, 2])] == [5, 5]
