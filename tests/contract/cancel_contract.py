"""Cancellation against everything else that may happen at the same moment: each execution ends once."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import weakref

import pytest
from support import tasks
from support.bounds import fail_after, wait_exit
from support.gates import Gate, Log, Mailbox

from contract.base import Context, occupy
from offloop import CallableTask, Execution, TaskTimeout, WorkerCrashed


async def in_one_hand(*executions: asyncio.Future[object]) -> None:
    """Let the dispatcher send what was just enqueued."""
    await asyncio.sleep(0)
    assert all(execution.worker_id is not None for execution in executions)  # type: ignore[attr-defined]


class CancelRaceContract(Context):
    """In every context."""

    async def test_a_task_that_has_ended_unseen_keeps_its_result(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            await asyncio.gather(*(worker.submit(tasks.echo, number) for number in range(20)))
            ended, telling = worker.submit(tasks.echo, "ended"), worker.submit(tasks.tell, mailbox.path, "x")
            await in_one_hand(ended, telling)
            # The event loop stands still until the second one runs; nothing is read meanwhile.
            assert select.select([mailbox.fileno()], [], [], 20)[0]
            assert ended.cancel()
            assert await ended == "ended"
            await telling

    async def test_a_cancelled_awaiter_is_cancelled_though_its_task_has_ended_unseen(
        self, mailbox: Mailbox
    ) -> None:
        async def wait_for(execution: asyncio.Future[object]) -> object:
            return await execution

        async with self.worker() as worker:
            await asyncio.gather(*(worker.submit(tasks.echo, number) for number in range(20)))
            ended, telling = worker.submit(tasks.echo, "ended"), worker.submit(tasks.tell, mailbox.path, "x")
            awaiter, gathering = asyncio.create_task(wait_for(ended)), asyncio.gather(ended, telling)
            gatherer = asyncio.create_task(wait_for(gathering))
            await in_one_hand(ended, telling)
            assert select.select([mailbox.fileno()], [], [], 20)[0]
            assert awaiter.cancel()
            assert gatherer.cancel()
            for cancelled in awaiter, gatherer:
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            assert await ended == "ended"

    async def test_no_timeout_is_lost_between_short_tasks(self) -> None:
        async def run_for_a_moment() -> None:
            async with asyncio.timeout(0.003):
                while True:
                    await worker.submit(tasks.echo, 1)

        async with self.worker() as worker:
            for _ in range(30):
                with pytest.raises(TimeoutError):
                    await run_for_a_moment()

    async def test_a_cancellation_never_hits_the_next_task(self) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            for round in range(150):
                pair = [pool.submit(tasks.count_slowly, 20 * (round % 10)) for _ in range(2)]
                for _ in range(round % 7):
                    await asyncio.sleep(0)
                pair[0].cancel()
                first, second = await asyncio.gather(*pair, return_exceptions=True)
                assert first == 20 * (round % 10) or isinstance(first, asyncio.CancelledError)
                assert second == 20 * (round % 10)

    async def test_a_task_cancelled_while_its_worker_is_being_set_up_never_runs(
        self, gate: Gate, log: Log, tmp_path: os.PathLike[str]
    ) -> None:
        booted = os.path.join(tmp_path, "booted")
        tasks.append_line(booted, "so that also the first start waits")
        factory = self.make_factory(bootstrap=tasks.GatedBootstrap(booted, gate.path))
        async with self.pool(1, factory=factory) as pool:
            cancelled = pool.submit(tasks.append_line, log.path, "cancelled")
            kept = pool.submit(tasks.append_line, log.path, "kept")
            await gate.arrived()
            cancelled.cancel()
            async with fail_after(20):  # the gate stays closed
                await asyncio.wait([cancelled])
            gate.open()
            await kept
        assert cancelled.cancelled()
        assert log.lines() == ["kept"]

    async def test_a_task_that_makes_good_of_its_cancellation_has_its_result(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            execution = pool.submit(tasks.agate_or_else, gate.path, "second thoughts")
            await gate.arrived()
            execution.cancel()
            assert await execution == "second thoughts"
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_an_async_task_may_ask_whether_it_was_cancelled(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            execution = pool.submit(tasks.agate_then_ask, gate.path)
            await gate.arrived()
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_ten_thousand_cancelled_at_once_end_soon_and_never_run(self, gate: Gate, log: Log) -> None:
        async with self.pool(1) as pool:
            (held,) = await occupy(pool, gate)
            executions = [pool.submit(tasks.append_line, log.path, "ran") for _ in range(10_000)]
            for execution in executions:
                execution.cancel()
            async with fail_after(20):  # the gate stays closed
                await asyncio.wait(executions)
            gate.open()
            await held
            assert await pool.submit(tasks.echo, 1) == 1
        assert all(execution.cancelled() for execution in executions)
        assert log.lines() == []

    async def test_a_thousand_in_hand_cancelled_at_once_end_soon(self, gate: Gate) -> None:
        factory = self.make_factory(concurrency=1000)
        async with self.pool(1, factory=factory, cancel_grace=30) as pool:
            executions = [pool.submit(tasks.await_for_ever) for _ in range(1000)]
            last = pool.submit(tasks.apass_gate, gate.path)
            await asyncio.sleep(0)
            executions[0].cancel()
            await asyncio.wait([executions[0]])
            await gate.arrived()  # its slot is another one's now: all others run
            for execution in executions:
                execution.cancel()
            async with fail_after(20):
                await asyncio.wait(executions)
            assert all(execution.cancelled() for execution in executions)
            gate.open()
            await last

    async def test_a_timeout_keeps_no_task_that_has_ended(self) -> None:
        async with self.worker() as worker:
            task = tasks.Echo("x")
            assert await worker.enqueue(task, timeout=3600) == "x"
            ended = weakref.ref(task)
            del task
            await worker.submit(tasks.echo, 1)
            gc.collect()
            assert ended() is None

    async def test_each_of_several_timeouts_counts_by_itself(self, gate: Gate) -> None:
        factory = self.make_factory(concurrency=3)
        async with self.pool(1, factory=factory) as pool:
            long, short, none = (
                pool.enqueue(CallableTask(tasks.apass_gate, gate.path, number), timeout=seconds)
                for number, seconds in enumerate((60, 0.1, None))
            )
            await gate.arrived(3)
            with pytest.raises(TaskTimeout, match=r"0\.1 s"):
                await short
            gate.open()
            assert await asyncio.gather(long, none) == [0, 2]


class CancelPicklingContract(Context):
    """Contexts that pickle tasks and results."""

    async def test_a_task_cancelled_while_it_is_unpickled_does_not_run(self, gate: Gate, log: Log) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            await asyncio.gather(*(pool.submit(tasks.append_line, os.devnull, "") for _ in range(20)))
            argument = tasks.FailsOnLoad(tasks.pass_gate, gate.path, "text")
            execution = pool.submit(tasks.append_line, log.path, argument)
            behind = pool.submit(tasks.append_line, log.path, "behind")
            (before,) = await gate.arrived()
            execution.cancel()
            behind.cancel()
            await asyncio.wait([behind])  # so the worker knows of the one before it, too
            gate.open()
            await asyncio.wait([execution])
            assert execution.cancelled()
            assert await pool.submit(tasks.identity) == before
        assert log.lines() == []

    async def test_a_task_that_never_gets_unpickled_is_ended_with_its_worker(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            execution = pool.submit(tasks.echo, tasks.FailsOnLoad(tasks.pass_gate, gate.path))
            (before,) = await gate.arrived()
            behind = pool.submit(tasks.identity)
            execution.cancel()
            async with fail_after(20):  # the gate stays closed
                assert await behind != before
            assert execution.cancelled()

    async def test_a_task_cancelled_while_its_result_is_pickled_keeps_it(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            execution = pool.submit(tasks.GatedResult, gate.path)
            (before,) = await gate.arrived()
            execution.cancel()
            gate.open()
            assert await execution == "pickled"
            assert await pool.submit(tasks.identity) == before

    async def test_a_result_that_never_gets_pickled_is_ended_with_its_worker(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            execution = pool.submit(tasks.GatedResult, gate.path)
            (before,) = await gate.arrived()
            execution.cancel()
            async with fail_after(20):  # the gate stays closed
                assert await pool.submit(tasks.identity) != before
            assert execution.cancelled()


class CancelCrashContract(Context):
    """Contexts whose workers are processes, which may die at the same moment."""

    async def test_before_the_workers_death_is_seen(self, gate: Gate, log: Log) -> None:
        async with self.pool(1) as pool:
            await asyncio.gather(*(pool.submit(tasks.append_line, os.devnull, "") for _ in range(20)))
            held = pool.submit(tasks.pass_gate, gate.path)
            cancelled, kept = (pool.submit(tasks.append_line, log.path, text) for text in ("no", "yes"))
            (pid,) = await gate.arrived()
            os.kill(pid, signal.SIGKILL)
            assert wait_exit(pid, 20)  # the event loop stands still
            assert held.cancel()
            assert cancelled.cancel()
            await asyncio.wait([held, cancelled, kept])
            assert held.cancelled()
            assert cancelled.cancelled()
            assert await kept is None
        assert log.lines() == ["yes"]

    async def test_after_the_workers_death_was_seen(self, gate: Gate, log: Log) -> None:
        async with self.pool(1) as pool:
            held = pool.submit(tasks.pass_gate, gate.path)
            behind = pool.submit(tasks.append_line, log.path, "ran")
            (pid,) = await gate.arrived()
            held.add_done_callback(lambda _: behind.cancel())
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerCrashed):
                await held
            assert not held.cancel()
            await asyncio.wait([behind])
            assert behind.cancelled()
            assert await pool.submit(tasks.echo, 1) == 1
        assert log.lines() == []

    @pytest.mark.parametrize("is_seen", [False, True])
    async def test_a_cancelled_task_is_not_tried_again(self, gate: Gate, is_seen: bool) -> None:
        async with self.pool(1) as pool:
            execution = pool.options(retries=3).submit(tasks.pass_gate, gate.path)
            (pid,) = await gate.arrived()
            os.kill(pid, signal.SIGKILL)
            assert wait_exit(pid, 20)
            while is_seen and execution.attempt == 1:
                await asyncio.sleep(0)
            execution.cancel()
            await asyncio.wait([execution])
            assert execution.cancelled()
            assert await pool.submit(tasks.echo, 1) == 1
            assert gate.arrivals_so_far() == []

    async def test_a_task_that_ignores_cancellation_costs_the_others_nothing(
        self, gate: Gate, log: Log
    ) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            await asyncio.gather(*(pool.submit(tasks.append_line, os.devnull, "") for _ in range(20)))
            before = [pool.submit(tasks.append_line, log.path, f"before {n}") for n in range(3)]
            stubborn = pool.submit(tasks.ignore_cancellation, gate.path)
            behind = [pool.submit(tasks.append_line, log.path, f"behind {n}") for n in range(3)]
            await gate.arrived()
            stubborn.cancel()
            await asyncio.gather(*before, *behind)
            await asyncio.wait([stubborn])
            assert stubborn.cancelled()
        assert log.lines() == [f"{where} {n}" for where in ("before", "behind") for n in range(3)]


class CancelMessageContract(Context):
    """What `asyncio.Future.cancel` and its callers expect."""

    async def test_a_message_reaches_whoever_awaits_and_true_is_returned(self, gate: Gate) -> None:
        async with self.worker() as worker:
            running, waiting = worker.submit(tasks.apass_gate, gate.path), worker.submit(tasks.echo, 1)
            await gate.arrived()
            for execution in (waiting, running):
                assert execution.cancel("as planned")
                with pytest.raises(asyncio.CancelledError, match="as planned"):
                    await execution
                assert not execution.cancel("again")

    async def test_a_cancelled_gather_raises_even_where_exceptions_are_returned(self, gate: Gate) -> None:
        async with self.worker() as worker:
            gathered = asyncio.gather(worker.submit(tasks.apass_gate, gate.path), return_exceptions=True)
            await gate.arrived()
            assert gathered.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gathered

    async def test_a_cancelled_task_is_cancelled_although_its_execution_had_a_result(
        self, gate: Gate
    ) -> None:
        async def wait(execution: Execution[int]) -> int:
            return await execution

        async with self.worker() as worker:
            await worker.submit(tasks.echo, 1)
            is_cancelled = False
            while not is_cancelled:
                execution = worker.submit(tasks.echo, 2)
                task = asyncio.create_task(wait(execution))
                await asyncio.sleep(0)
                while not execution.done():  # a thread may have done it by now
                    is_cancelled = task.cancel() or is_cancelled
                    await asyncio.sleep(0)
                if not is_cancelled:
                    assert await task == 2
            with pytest.raises(asyncio.CancelledError):
                await task
