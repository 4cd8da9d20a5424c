"""What may be executed, how its handle behaves, and how it is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from support import tasks
from support.bounds import fail_after
from support.gates import Gate, Log, Mailbox

from contract.base import Context, occupy
from offloop import CallableTask, StatusError, TaskTimeout, current_task


class ExecutionContract(Context):
    """Kinds of tasks, and the attributes of an execution."""

    @pytest.mark.parametrize(
        ("task", "result"),
        [
            (tasks.Echo("sync"), "sync"),
            (tasks.AsyncEcho("async"), "async"),
            (tasks.Numbers(3), [0, 1, 2]),
            (tasks.AsyncNumbers(3), [0, 1, 2]),
            (tasks.NoSubclass(), "by shape"),
            (CallableTask(tasks.add, 1, right=2), 3),
            (CallableTask(tasks.aecho, "async"), "async"),
            (CallableTask(tasks.count_to, 3), [0, 1, 2]),
            (CallableTask(tasks.acount_to, 3), [0, 1, 2]),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_every_kind_of_task_has_its_result(self, task: object, result: object) -> None:
        async with self.worker() as worker:
            assert await worker.enqueue(task) == result  # type: ignore[arg-type]

    async def test_nobody_else_sets_the_outcome(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.echo, 1)
            with pytest.raises(RuntimeError, match="does not support set_result"):
                execution.set_result(2)
            with pytest.raises(RuntimeError, match="does not support set_exception"):
                execution.set_exception(ValueError())
            assert await execution == 1

    async def test_lambdas_closures_and_local_classes_run(self) -> None:
        offset = 10

        class Doubler:
            def __init__(self, number: int) -> None:
                self.number = number

            def double(self) -> int:
                return self.number * 2

        async with self.worker() as worker:
            assert await worker.submit(lambda number: number + 1, 1) == 2
            assert await worker.submit(lambda: offset + 1) == 11
            assert await worker.submit(Doubler(4).double) == 8
            assert (await worker.submit(lambda: Doubler(5))).double() == 10

    async def test_functions_made_in_a_loop_have_what_each_captured(self) -> None:
        async def later(n):  # type: ignore[no-untyped-def]
            return n

        async with self.worker() as worker:
            for make, expected in (
                (lambda _: lambda: 1, lambda _: 1),
                (lambda n: lambda: n, lambda n: n),
                (lambda n: lambda a=n, *, b=str(n): (a, b), lambda n: (n, str(n))),
                (lambda n: lambda: [n], lambda n: [n]),
                (lambda n: lambda: later(n), lambda n: n),
            ):
                done = await asyncio.gather(*[worker.submit(make(n)) for n in range(20)])
                assert done == [expected(n) for n in range(20)]

    async def test_every_keyword_of_submit_belongs_to_the_function(self) -> None:
        given = {"timeout": -1, "priority": "x", "retries": None, "key": [], "task": 1, "fn": 2, "self": 3}
        async with self.worker() as worker:
            assert await worker.submit(tasks.keywords, **given) == given

    async def test_a_result_of_none_is_a_result(self) -> None:
        async with self.worker() as worker:
            assert await worker.submit(tasks.echo, None) is None

    async def test_the_same_task_object_can_run_twice(self) -> None:
        task = tasks.Echo("again")
        async with self.worker() as worker:
            assert await asyncio.gather(worker.enqueue(task), worker.enqueue(task)) == ["again", "again"]

    async def test_large_bytes_come_back_as_they_went(self) -> None:
        blob = bytes(range(256)) * (50 * 4096)  # 50 MiB
        async with self.worker() as worker:
            assert bytes(await worker.submit(tasks.echo, blob)) == blob

    async def test_current_task_tells_a_running_task_about_itself(self) -> None:
        async with self.worker() as worker:
            execution = worker.enqueue(tasks.AboutMe())
            about = await execution
            again = await worker.enqueue(tasks.AboutMe())
        assert about["worker_id"] == execution.worker_id
        assert again["task_id"] != about["task_id"]
        assert (about["attempt"], about["cancelled"], about["same environment"]) == (1, False, True)

    async def test_a_sync_task_behind_an_async_one_is_not_taken_for_it(self) -> None:
        async with self.worker() as worker:
            for _ in range(2):  # the worker has got an event loop, and then has one from the beginning
                executions = [
                    worker.enqueue(task)
                    for task in (tasks.AboutMe(), tasks.AsyncEcho(1), tasks.AboutMe(), tasks.AboutMe())
                ]
                about = await asyncio.gather(*executions)
                del about[1], executions[1]
                assert [each["task_id"] for each in about] == [execution.id for execution in executions]

    async def test_overlapping_async_tasks_each_know_their_own_id(self, gate: Gate) -> None:
        async with self.worker(concurrency=2) as worker:
            both = [worker.submit(tasks.gate_then_task_id, gate.path) for _ in range(2)]
            await gate.arrived(2)
            gate.open()
            (before, after), (other_before, other_after) = await asyncio.gather(*both)
        assert before == after
        assert other_before == other_after
        assert before != other_before

    async def test_current_task_outside_a_task_is_a_lookup_error(self) -> None:
        async with self.worker() as worker:
            await worker.submit(tasks.echo, 1)
            with pytest.raises(LookupError):
                current_task()

    async def test_an_execution_knows_its_task_and_where_and_when_it_ran(self, gate: Gate) -> None:
        task = tasks.Echo(1)
        async with self.worker() as worker:
            (held,) = await occupy(worker, gate)
            execution = worker.enqueue(task)
            assert execution.task is task
            assert execution.started_at is None
            gate.open()
            await asyncio.gather(held, execution)
        assert isinstance(held.task, CallableTask)
        assert execution.worker_id == held.worker_id
        assert held.started_at is not None
        assert execution.started_at is not None
        assert held.started_at <= execution.started_at

    async def test_gather_keeps_the_order_of_its_arguments(self) -> None:
        async with self.pool(2) as pool:
            assert await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(10))) == list(range(10))

    async def test_wait_returns_the_first_to_complete(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            (held,) = await occupy(pool, gate)
            quick = pool.submit(tasks.echo, 1)
            done, pending = await asyncio.wait([held, quick], return_when=asyncio.FIRST_COMPLETED)
            assert (done, pending) == ({quick}, {held})
            gate.open()

    async def test_a_done_callback_gets_the_execution(self) -> None:
        called: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        async with self.worker() as worker:
            execution = worker.submit(tasks.echo, 1)
            execution.add_done_callback(called.set_result)
            assert await called is execution


class CancelContract(Context):
    """Cancelling, by whatever means."""

    async def test_a_task_cancelled_before_its_start_never_runs(self, gate: Gate, log: Log) -> None:
        async with self.worker() as worker:
            (held,) = await occupy(worker, gate)
            cancelled = worker.submit(tasks.append_line, log.path, "cancelled")
            kept = worker.submit(tasks.append_line, log.path, "kept")
            assert cancelled.cancel()
            await asyncio.wait([cancelled])
            gate.open()
            await asyncio.gather(held, kept)
            assert cancelled.cancelled()
        assert log.lines() == ["kept"]

    async def test_a_task_cancelled_in_the_turn_it_was_enqueued_never_runs(self, log: Log) -> None:
        async with self.worker() as worker:
            worker.submit(tasks.append_line, log.path, "cancelled").cancel()
            await worker.submit(tasks.append_line, log.path, "kept")
        assert log.lines() == ["kept"]

    async def test_many_cancelled_tasks_leave_the_others_alone(self, gate: Gate) -> None:
        async with self.worker() as worker:
            (held,) = await occupy(worker, gate)
            executions = [worker.submit(tasks.echo, number) for number in range(100)]
            for execution in executions[::2]:
                execution.cancel()
            await asyncio.wait(executions[::2])
            gate.open()
            await held
            assert await asyncio.gather(*executions[1::2]) == list(range(1, 100, 2))
            assert all(execution.cancelled() for execution in executions[::2])

    async def test_a_running_sync_task_is_cancelled_and_its_finally_runs(self, mailbox: Mailbox) -> None:
        async with self.pool(1, cancel_grace=10) as pool:
            execution = pool.submit(tasks.spin, mailbox.path)
            assert await mailbox.next() == "started"
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
            assert [await mailbox.next(), await mailbox.next()] == ["TaskCancelled", "finally"]
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_running_async_task_gets_cancelled_error(self, gate: Gate, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.agate_and_tell, gate.path, mailbox.path)
            await gate.arrived()
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
            assert await mailbox.next() == "CancelledError"
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_cancelling_one_async_task_leaves_the_overlapping_one_alone(self, gate: Gate) -> None:
        async with self.worker(concurrency=2) as worker:
            first, second = (worker.submit(tasks.apass_gate, gate.path, name) for name in "ab")
            await gate.arrived(2)
            first.cancel()
            await asyncio.wait([first])
            gate.open()
            assert await second == "b"
            assert first.cancelled()

    async def test_cancelling_an_awaiter_cancels_the_execution(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.apass_gate, gate.path)

            async def await_it() -> None:
                await execution

            awaiter = asyncio.ensure_future(await_it())
            await gate.arrived()
            awaiter.cancel()
            await asyncio.wait([awaiter, execution])
            assert awaiter.cancelled()
            assert execution.cancelled()

    async def test_asyncio_timeout_cancels_the_execution(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.apass_gate, gate.path)
            await gate.arrived()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await execution
            assert execution.cancelled()
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_a_failing_task_group_cancels_the_executions_in_it(self, gate: Gate, log: Log) -> None:
        async def await_(execution: asyncio.Future[object]) -> None:
            await execution

        async with self.pool(1) as pool:
            held = pool.submit(tasks.apass_gate, gate.path)
            await gate.arrived()
            queued = pool.submit(tasks.append_line, log.path, "ran")
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
                async with asyncio.TaskGroup() as group:
                    group.create_task(await_(held))
                    group.create_task(await_(queued))
                    await asyncio.sleep(0)
                    raise ValueError("the group's own")
            assert isinstance(caught.value.exceptions[0], ValueError)
            assert held.cancelled()
            assert queued.cancelled()
        assert log.lines() == []

    async def test_cancelling_a_finished_execution_does_nothing(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.echo, 1)
            await execution
            assert not execution.cancel()
            assert execution.result() == 1

    async def test_a_task_that_runs_too_long_ends_in_task_timeout(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.enqueue(CallableTask(tasks.apass_gate, gate.path), timeout=0.1)
            with pytest.raises(TaskTimeout) as caught:
                await execution
            assert isinstance(caught.value, TimeoutError)
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_a_timeout_given_by_options_applies_to_submit(self, gate: Gate) -> None:
        async with self.worker() as worker:
            with pytest.raises(TaskTimeout):
                await worker.options(timeout=0.1).submit(tasks.apass_gate, gate.path)

    async def test_waiting_in_the_queue_does_not_count_for_the_timeout(self, gate: Gate) -> None:
        async with self.worker() as worker:
            first = worker.options(timeout=1.0).submit(tasks.apass_gate, gate.path)
            second = worker.options(timeout=0.5).submit(tasks.echo, "in time")
            with pytest.raises(TaskTimeout):
                await first
            assert await second == "in time"

    async def test_a_task_in_time_is_not_disturbed_by_its_timeout(self) -> None:
        async with self.worker() as worker:
            assert await worker.options(timeout=30).submit(tasks.echo, 1) == 1

    async def test_a_cancelled_blocking_call_holds_up_no_other_task(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            (held,) = await occupy(pool, gate)
            queued = [pool.submit(tasks.echo, number) for number in range(5)]
            held.cancel()
            async with fail_after(20):  # the gate stays closed
                assert await asyncio.gather(*queued) == [0, 1, 2, 3, 4]
            assert held.cancelled()

    async def test_cancelling_after_kill_changes_nothing(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        worker.kill()
        await asyncio.wait([held])
        assert not held.cancel()
        assert held.exception() is not None
        with pytest.raises(StatusError):
            worker.submit(tasks.echo, 1)
        await worker.shutdown()
