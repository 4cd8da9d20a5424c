"""`Execution.stack`: where a running task is right now."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import psutil
import pytest
from support import streaming, talking, tasks
from support.bounds import eventually
from support.gates import Gate, Mailbox

from contract.base import Context, occupy
from offloop import Execution, WorkerCrashed

UNSEEN = "the frames of a synchronous task can't be seen here"


class StackContract(Context):
    """Tasks that wait somewhere."""

    @pytest.mark.parametrize(
        ("wait", "outer", "inner"),
        [
            (streaming.outer_wait, "outer_wait", "inner_wait"),
            (streaming.aouter_wait, "aouter_wait", "ainner_wait"),
            (streaming.yield_waiting, "yield_waiting", "ainner_wait"),
        ],
        ids=["sync", "async", "async generator"],
    )
    async def test_it_names_the_functions_of_a_task_and_no_others(
        self, wait: Any, outer: str, inner: str, gate: Gate
    ) -> None:
        if not self.sees_frames and wait is streaming.outer_wait:
            pytest.skip(UNSEEN)
        async with self.worker() as worker:
            execution = worker.submit(wait, gate.path)
            await gate.arrived()
            stack = await stack_with(execution, "pass_gate")
            lines = stack.splitlines()
            assert lines[0].endswith(f", in {outer}")
            assert any(line.endswith(f", in {inner}") for line in lines)
            assert any(line.endswith("# here it waits") for line in lines)
            assert "offloop/child" not in stack
            gate.open()
            await execution

    async def test_a_stream_has_a_stack_too(self, gate: Gate) -> None:
        async with self.worker() as worker:
            async with worker.stream(streaming.yield_waiting, gate.path) as stream:
                await gate.arrived()
                stack = await stack_with(stream.execution, "pass_gate")
                assert stack.splitlines()[0].endswith(", in yield_waiting")

    async def test_each_of_overlapping_tasks_has_its_own(self, gate: Gate) -> None:
        async with self.worker(concurrency=2) as worker:
            executions = [
                worker.submit(streaming.aouter_wait, gate.path),
                worker.submit(streaming.ainner_wait, gate.path),
            ]
            await gate.arrived(2)
            stacks = await asyncio.gather(*(stack_with(execution, "pass_gate") for execution in executions))
            assert ["aouter_wait" in stack for stack in stacks] == [True, False]
            gate.open()
            await asyncio.gather(*executions)

    async def test_a_task_that_waits_for_a_message_is_at_its_receive(self, mailbox: Mailbox) -> None:
        if not self.sees_frames:
            pytest.skip(UNSEEN)
        async with self.worker() as worker:
            execution = worker.submit(talking.receive_all, 1)
            stack = await stack_with(execution, "receive()")
            assert stack.splitlines()[-1].strip() == "values.append(current_task().channel.receive())"
            await execution.channel.send(1)
            await execution

    async def test_a_task_that_does_not_run_has_none(self, gate: Gate) -> None:
        async with self.worker() as worker:
            (held,) = await occupy(worker, gate)
            execution = worker.submit(tasks.echo, 1)
            assert await execution.stack() == ""
            gate.open()
            await asyncio.gather(held, execution)
            assert await execution.stack() == ""
            assert not execution.is_live

    async def test_several_may_ask_at_once_and_one_who_gives_up_disturbs_nobody(self, gate: Gate) -> None:
        if not self.sees_frames:
            pytest.skip(UNSEEN)
        async with self.worker() as worker:
            execution = worker.submit(streaming.outer_wait, gate.path)
            await gate.arrived()
            asking = [asyncio.ensure_future(execution.stack()) for _ in range(5)]
            await asyncio.sleep(0)
            asking[2].cancel()
            stacks = await asyncio.gather(*asking, return_exceptions=True)
            assert isinstance(stacks.pop(2), asyncio.CancelledError)
            assert all("outer_wait" in str(stack) for stack in stacks)
            gate.open()
            await execution


class StuckContract(Context):
    """Tasks whose worker does not answer."""

    async def test_code_that_lets_nobody_run_is_found_too(self, mailbox: Mailbox) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            execution = pool.submit(streaming.spin_in_c, mailbox.path)
            assert await mailbox.next() == "spins"
            while len(lines := (await execution.stack()).splitlines()) != 1:
                pass  # with lines of source: it was just about to begin
            (again,) = (await execution.stack()).splitlines()
            assert lines[0] == again
            assert again.endswith(", in spin_in_c")
            execution.cancel()
            await asyncio.wait([execution])
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_crash_after_that_has_its_own_stack(self, mailbox: Mailbox) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            execution = pool.submit(streaming.spin_in_c, mailbox.path)
            assert await mailbox.next() == "spins"
            while len((await execution.stack()).splitlines()) != 1:
                pass  # it was just about to begin
            os.kill(pid, signal.SIGSEGV)
            with pytest.raises(WorkerCrashed) as caught:
                await execution
            assert caught.value.stack is not None
            assert caught.value.stack.startswith("Fatal Python error")
            assert "spin_in_c" in caught.value.stack

    async def test_a_worker_that_dies_while_it_is_asked_is_an_answer(self, mailbox: Mailbox) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            execution = pool.submit(streaming.spin_in_c, mailbox.path)
            assert await mailbox.next() == "spins"
            os.kill(pid, signal.SIGSTOP)  # or it could answer right before it spins
            await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
            asking = asyncio.ensure_future(execution.stack())
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerCrashed):
                await execution
            assert await asking == ""

    async def test_a_stopped_worker_does_not_hang_who_asks(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            execution = pool.submit(streaming.outer_wait, gate.path)
            await gate.arrived()
            os.kill(pid, signal.SIGSTOP)
            await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
            try:
                assert await execution.stack() == ""
            finally:
                os.kill(pid, signal.SIGCONT)
            gate.open()
            await execution
            assert await pool.submit(tasks.echo, 1) == 1


async def stack_with(execution: Execution[Any], text: str) -> str:
    """The stack, as soon as there is this text in it: the task arrives just before."""
    found: list[str] = []
    asking: list[asyncio.Future[str]] = [asyncio.ensure_future(execution.stack())]

    def is_found() -> bool:
        if asking[0].done():
            found.append(asking[0].result())
            asking[0] = asyncio.ensure_future(execution.stack())
        return bool(found) and text in found[-1]

    await eventually(is_found)
    await asyncio.wait(asking)
    return found[-1]
