"""What goes between a running task and its execution: reports of progress, and messages."""

from __future__ import annotations

import asyncio
import os

import pytest
from support import talking, tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Mailbox

from contract.base import Context, occupy
from offloop import Channel, ChannelClosed, SerializationError, WorkerCrashed
from offloop.child.channel import ROOM

TALKERS = pytest.mark.parametrize("talk", [talking.add_up, talking.aadd_up], ids=["sync", "async"])
WAITERS = pytest.mark.parametrize(
    ("wait", "gets"),
    [(talking.receive_and_tell, "TaskCancelled"), (talking.areceive_and_tell, "CancelledError")],
    ids=["sync", "async"],
)


class ChannelContract(Context):
    """`Execution.channel` and ``current_task().channel``."""

    @TALKERS
    async def test_messages_go_both_ways(self, talk: object) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talk)  # type: ignore[arg-type]
            channel = execution.channel
            total = 0
            for number in range(200):
                await channel.send(number)
                total += number
                assert await channel.receive() == total
            await channel.send(None)
            assert await execution == total

    async def test_messages_keep_their_order(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.receive_all, 300)
            await asyncio.gather(*(execution.channel.send(number) for number in range(300)))
            assert await execution == list(range(300))
            execution = worker.submit(talking.send_all, list(range(300)))
            assert [message async for message in execution.channel] == list(range(300))
            assert set(await execution) == {""}

    async def test_messages_sent_before_the_start_are_there(self, gate: Gate) -> None:
        async with self.worker() as worker:
            (held,) = await occupy(worker, gate)
            execution = worker.submit(talking.receive_all, 2)
            await execution.channel.send("one")
            await execution.channel.send({"two": 2})
            gate.open()
            await held
            assert await execution == ["one", {"two": 2}]

    async def test_overlapping_tasks_have_channels_of_their_own(self) -> None:
        async with self.worker(concurrency=3) as worker:
            executions = [worker.submit(talking.aadd_up) for _ in range(3)]
            for number, execution in enumerate(executions):
                await execution.channel.send(number)
            got = [await execution.channel.receive() for execution in reversed(executions)]
            assert got == [2, 1, 0]
            for execution in executions:
                await execution.channel.send(None)
            assert await asyncio.gather(*executions) == [0, 1, 2]

    async def test_lambdas_and_local_classes_can_be_sent(self) -> None:
        class Point:
            def __init__(self, x: int) -> None:
                self.x = x

        async with self.worker() as worker:
            execution = worker.submit(talking.receive_all, 2)
            await execution.channel.send(lambda: 5)
            await execution.channel.send(Point(6))
            function, point = await execution
            assert function() == 5
            assert isinstance(point, Point)
            assert point.x == 6

            def send() -> None:
                from offloop import current_task

                current_task().channel.send(Point(7))

            execution = worker.submit(send)
            point = await execution.channel.receive()
            assert isinstance(point, Point)
            assert point.x == 7

    async def test_large_messages_go_both_ways(self) -> None:
        blob = os.urandom(1 << 20) * 8
        async with self.worker() as worker:
            execution = worker.submit(talking.send_all, [blob, blob])
            assert [message async for message in execution.channel] == [blob, blob]
            execution = worker.submit(talking.receive_all, 1)
            await execution.channel.send(blob)
            assert await execution == [blob]

    async def test_more_messages_than_there_is_room_for_come_through(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.receive_all, ROOM + 1)
            channel = execution.channel
            await asyncio.gather(*(channel.send(number) for number in range(ROOM + 1)))
            assert await execution == list(range(ROOM + 1))

    async def test_only_so_many_messages_wait_for_a_task(self, gate: Gate) -> None:
        async with self.worker() as worker:
            (held,) = await occupy(worker, gate)
            execution = worker.submit(talking.receive_all, ROOM + 2)
            for number in range(ROOM):
                await execution.channel.send(number)
            more = [asyncio.ensure_future(execution.channel.send(ROOM + n)) for n in range(3)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert not any(sending.done() for sending in more)
            more[1].cancel()
            await asyncio.wait([more[1]])
            gate.open()
            await held
            assert await execution == [*range(ROOM + 1), ROOM + 2]
            await asyncio.wait(more)

    async def test_only_so_many_messages_wait_for_the_parent(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.send_and_tell, ROOM + 10, mailbox.path)
            for number in range(ROOM):
                assert await mailbox.next() == str(number)
            assert mailbox.drain() == []
            assert await execution.channel.receive() == 0
            assert await mailbox.next() == str(ROOM)
            assert [message async for message in execution.channel] == list(range(1, ROOM + 10))

    async def test_after_the_end_what_is_buffered_comes_and_then_it_is_closed(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.send_all, [1, 2])
            await execution
            assert [await execution.channel.receive() for _ in range(2)] == [1, 2]
            with pytest.raises(ChannelClosed):
                await execution.channel.receive()
            with pytest.raises(ChannelClosed):
                await execution.channel.send(1)
            assert "closed" in repr(execution.channel)

    async def test_a_receiver_learns_that_the_task_has_ended(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.pass_gate, gate.path)
            receiving = asyncio.ensure_future(execution.channel.receive())
            await gate.arrived()
            gate.open()
            with pytest.raises(ChannelClosed):
                await receiving
            await execution

    async def test_a_task_that_never_runs_closes_its_channel(self, gate: Gate) -> None:
        async with self.worker() as worker:
            await occupy(worker, gate)
            execution = worker.submit(tasks.echo, 1)
            for number in range(ROOM):
                await execution.channel.send(number)
            sending = asyncio.ensure_future(execution.channel.send(ROOM))
            receiving = asyncio.ensure_future(execution.channel.receive())
            await asyncio.sleep(0)
            execution.cancel()
            for waiting in (sending, receiving):
                with pytest.raises(ChannelClosed):
                    await waiting
            gate.open()

    async def test_a_cancelled_receiver_loses_no_message(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.add_up)
            channel = execution.channel
            await channel.send(5)
            for _ in range(20):
                receiving = asyncio.ensure_future(channel.receive())
                await asyncio.sleep(0)
                receiving.cancel()
                await asyncio.wait([receiving])
                if not receiving.cancelled():
                    break
            else:
                assert await channel.receive() == 5
            await channel.send(None)
            assert await execution == 5

    @WAITERS
    async def test_a_task_that_waits_for_a_message_is_cancelled(
        self, wait: object, gets: str, mailbox: Mailbox
    ) -> None:
        async with self.pool(1, cancel_grace=20) as pool:
            execution = pool.submit(wait, mailbox.path)  # type: ignore[arg-type]
            assert await mailbox.next() == "waits"
            execution.cancel()
            async with fail_after(15):
                await asyncio.wait([execution])
            assert execution.cancelled()
            assert [await mailbox.next() for _ in range(2)] == [gets, "finally"]
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_task_that_waits_for_room_is_cancelled(self, mailbox: Mailbox) -> None:
        async with self.pool(1, cancel_grace=20) as pool:
            execution = pool.submit(talking.send_until_full, mailbox.path)
            assert await mailbox.next() == "sends"
            await eventually(lambda: len(execution.channel._come) == ROOM)
            execution.cancel()
            async with fail_after(15):
                await asyncio.wait([execution])
            assert await mailbox.next() == "TaskCancelled"
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_mapped_function_may_send(self) -> None:
        async with self.pool(1) as pool:
            assert await pool.map(talking.send_all, [[1], [2]]) == [[""], [""]]

    async def test_a_channel_is_made_only_when_somebody_asks(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.echo, 1)
            assert isinstance(execution.channel, Channel)
            assert execution.channel is execution.channel
            await execution
            late = worker.submit(tasks.echo, 1)
            await late
            with pytest.raises(ChannelClosed):
                await late.channel.receive()


class ChannelPicklingContract(Context):
    """Messages that can't be pickled or loaded."""

    async def test_a_message_that_cannot_be_pickled_fails_its_sender_alone(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.receive_all, 1)
            with pytest.raises(SerializationError, match=r"a message of type .*Stubborn"):
                await execution.channel.send(tasks.Stubborn())
            await execution.channel.send("good")
            assert await execution == ["good"]
            execution = worker.submit(talking.send_all, [0, 1])
            assert await execution == ["", ""]
            execution = worker.submit(talking.send_lock_then, "good")
            assert await execution.channel.receive() == "good"
            assert await execution == "SerializationError"

    async def test_a_message_that_cannot_be_loaded_fails_its_receiver_alone(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.receive_all, 2)
            await execution.channel.send(tasks.FailsOnLoad(tasks.fail, ValueError("no")))
            await execution.channel.send("good")
            assert await execution == ["SerializationError", "good"]
            execution = worker.submit(talking.send_unloadable_then, tasks.home(), "good")
            with pytest.raises(SerializationError, match="could not be loaded"):
                await execution.channel.receive()
            assert await execution.channel.receive() == "good"
            await execution


class ChannelCrashContract(Context):
    """Workers that die."""

    async def test_a_crash_closes_the_channel_after_what_was_sent(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            execution = pool.submit(talking.say_then_exit, gate.path, "last words")
            await gate.arrived()
            gate.open()
            assert [message async for message in execution.channel] == ["last words"]
            with pytest.raises(WorkerCrashed):
                await execution

    async def test_a_second_attempt_starts_with_an_empty_channel(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            execution = pool.options(retries=1).submit(talking.echo_at_second_attempt, gate.path)
            await gate.arrived()
            for number in range(ROOM):
                await execution.channel.send(("first", number))
            sending = asyncio.ensure_future(execution.channel.send("second"))
            await asyncio.sleep(0)
            assert not sending.done()
            gate.open()
            await sending
            assert await execution == "second"
