"""Streams, channels and reports of tasks that are cancelled at any moment, killed, or up to no good."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import streaming, talking, tasks
from support.bounds import fail_after, wait_exit
from support.gates import Mailbox
from support.scripts import run_script

from offloop import (
    ChannelClosed,
    ProcessWorkerFactory,
    WorkerCrashed,
    WorkerFactory,
    WorkerPool,
    current_task,
)

#: Turns of the event loop after which something is cancelled.
MOMENTS = [*range(12), 20, 50, 100, 200, 400, 800, 1600]


async def after_turns(turns: int, doing: asyncio.Future[Any]) -> None:
    """Cancel something after so many turns of the event loop, and wait until it has ended."""
    for _ in range(turns):
        await asyncio.sleep(0)
    doing.cancel()
    await asyncio.wait([doing])
    if not doing.cancelled():
        doing.exception()


async def test_a_consumer_may_be_cancelled_at_any_moment(factory: WorkerFactory) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        for turns in MOMENTS:
            stream = pool.stream(tasks.count_to, 1000)

            async def consume(stream: AsyncIterator[int]) -> None:
                async for _ in stream:
                    pass

            await after_turns(turns, asyncio.ensure_future(consume(stream)))
            await stream.aclose()
            assert stream.execution.done()
            assert await pool.submit(tasks.echo, turns) == turns


async def test_closing_may_be_cancelled_at_any_moment(factory: WorkerFactory) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        for turns in MOMENTS:
            stream = pool.stream(tasks.count_to, 1000)
            await anext(stream)
            await after_turns(turns, asyncio.ensure_future(stream.aclose()))
            await stream.aclose()
            assert stream.execution.done()
            assert await pool.submit(tasks.echo, turns) == turns


async def test_a_talk_may_be_cancelled_at_any_moment_and_goes_on(factory: WorkerFactory) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        execution = pool.submit(talking.add_up)
        channel, sent, got = execution.channel, 0, 0

        async def send() -> None:
            nonlocal sent
            await channel.send(1)
            sent += 1

        async def receive() -> None:
            nonlocal got
            await channel.receive()
            got += 1

        for turns in MOMENTS:
            await after_turns(turns, asyncio.ensure_future(send()))
            await after_turns(turns, asyncio.ensure_future(receive()))
            asking = asyncio.ensure_future(execution.stack())
            await after_turns(turns, asking)
        while got < sent:
            async with fail_after(20):
                await receive()
        await channel.send(None)
        assert await execution == sent


async def test_a_running_stream_may_be_cancelled_at_any_moment(factory: WorkerFactory) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        for count in tasks.count_to, tasks.acount_to:
            for turns in MOMENTS:
                stream = pool.stream(count, 1 << 30)
                for _ in range(turns):
                    await asyncio.sleep(0)
                stream.execution.cancel()
                seen = []
                with pytest.raises(asyncio.CancelledError):  # noqa: PT012
                    async for item in stream:
                        seen.append(item)  # noqa: PERF401 -- what came before an error counts
                assert seen == list(range(len(seen)))
                assert await pool.submit(tasks.echo, turns) == turns


def talk_and_write_garbage(mailbox: str) -> None:
    """Say something, then write garbage wherever the worker's control socket may be."""
    current_task().report(1)
    current_task().channel.send("before")
    for fd in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.write(fd, b"\xff" * 100)
        except OSError:
            continue
    time.sleep(60)


async def test_what_was_said_before_garbage_arrives() -> None:
    async with WorkerPool(1) as pool:
        execution = pool.submit(talk_and_write_garbage, "")
        assert await execution.channel.receive() == "before"
        with pytest.raises(WorkerCrashed):
            await execution
        assert [progress.done async for progress in execution.progress()] == [1]
        with pytest.raises(ChannelClosed):
            await execution.channel.receive()
        assert await pool.submit(tasks.echo, 1) == 1


def talk_in_a_fork() -> str:
    """Have a forked child use everything that belongs to its parent."""
    context = current_task()
    context.report(1)
    channel = context.channel
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            context.report(2)
            channel.send("from the child")
        except ChannelClosed:
            outcome = 0
        finally:
            os._exit(outcome)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    channel.send("from the task")
    context.report(3)
    return str(status)


async def test_a_forked_child_does_not_speak_for_its_parent() -> None:
    async with WorkerPool(1) as pool:
        execution = pool.submit(talk_in_a_fork)
        assert [message async for message in execution.channel] == ["from the task"]
        assert [progress.done async for progress in execution.progress()] == [1, 3]
        assert await execution == "0"


def yield_and_fork() -> Iterator[int]:
    """Return from a fork in both processes, and go on yielding."""
    yield 0
    os.fork()
    yield 1
    yield 2


async def test_only_the_worker_goes_on_with_a_stream_that_forked() -> None:
    async with WorkerPool(1) as pool:
        assert [item async for item in pool.stream(yield_and_fork)] == [0, 1, 2]
        assert await pool.submit(tasks.echo, 1) == 1


async def test_a_worker_killed_in_the_middle_of_a_fast_stream_is_a_crash_after_its_items() -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        seen = []
        with pytest.raises(WorkerCrashed):  # noqa: PT012
            async for item in pool.stream(tasks.count_to, 1 << 40):
                seen.append(item)
                if item == 5000:
                    os.kill(pid, signal.SIGKILL)
        assert seen == list(range(len(seen)))
        assert len(seen) > 5000
        assert await pool.submit(tasks.echo, 1) == 1


async def test_a_flood_of_messages_and_reports_while_the_parent_is_busy_loses_none() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(concurrency=8)) as pool:
        blob = b"x" * 100_000
        executions = [pool.submit(talking.send_all, [blob] * 60) for _ in range(4)]
        await asyncio.sleep(0)
        time.sleep(0.3)  # the event loop is held up, and the control socket full
        for execution in executions:
            assert [len(message) async for message in execution.channel] == [100_000] * 60
            assert set(await execution) == {""}


@pytest.mark.filterwarnings("ignore:.*abandon")
async def test_a_stream_that_nobody_reads_ends_with_its_pool(
    mailbox: Mailbox, factory: WorkerFactory
) -> None:
    pool = WorkerPool(1, factory=factory)
    stream = pool.stream(streaming.count_and_tell, 1 << 30, mailbox.path)
    await anext(stream)
    pool.kill()
    await pool.shutdown()
    assert stream.execution.done()
    stream.execution.exception()
    del stream
    gc.collect()


PARENT = """
import asyncio, os, signal, sys
from offloop import WorkerPool

async def main():
    async with WorkerPool(2) as pool:
        pids = [await pool.submit(os.getpid)]
        stream = pool.stream(iter, range(1 << 30))
        await anext(stream)
        waits = pool.submit(wait)
        async for _ in waits.progress():
            break
        print(*{pids[0], *[worker.link.pid for worker in pool._dispatcher.handles.values()]}, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

def wait():
    from offloop import current_task
    current_task().report(1)
    current_task().channel.receive()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs pids that can be waited for")
def test_workers_that_wait_for_a_dead_parent_exit(tmp_path: Path) -> None:
    done = run_script(PARENT, tmp_path)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert all(wait_exit(pid, 5.0) for pid in pids)
