"""The life of one worker: what it runs, in which order, and how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Log

from contract.base import Context, occupy
from offloop import Execution, StatusError, Worker, WorkerKilled, WorkerStartError

SHUT_DOWN = r"^The worker has been shut down$"


class LifecycleContract(Context):
    """States, order, shutdown and kill."""

    async def test_a_new_worker_is_running_and_idle(self) -> None:
        worker = self.worker()
        assert isinstance(worker, Worker)
        assert worker.is_running()
        assert worker.is_idle()
        assert await worker.shutdown() == 0

    async def test_a_worker_is_idle_only_without_tasks(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.pass_gate, gate.path)
            assert not worker.is_idle()
            await gate.arrived()
            assert not worker.is_idle()
            gate.open()
            await execution
            assert worker.is_idle()

    async def test_enqueue_returns_a_future_that_resolves_to_the_result(self) -> None:
        async with self.worker() as worker:
            execution = worker.enqueue(tasks.Echo("hello"))
            assert isinstance(execution, Execution)
            assert isinstance(execution, asyncio.Future)
            assert await execution == "hello"

    async def test_a_worker_that_was_shut_down_is_not_running(self) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        await worker.shutdown()
        assert not worker.is_running()

    async def test_a_worker_that_was_killed_is_not_running(self) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        worker.kill()
        assert not worker.is_running()
        await worker.shutdown()

    async def test_enqueue_after_shutdown_is_refused(self) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        await worker.shutdown()
        with pytest.raises(StatusError, match=SHUT_DOWN):
            worker.enqueue(tasks.Echo(1))
        with pytest.raises(StatusError, match=SHUT_DOWN):
            worker.submit(tasks.echo, 1)

    async def test_enqueue_during_shutdown_is_refused(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        ending = asyncio.ensure_future(worker.shutdown())
        await asyncio.sleep(0)
        with pytest.raises(StatusError, match=SHUT_DOWN):
            worker.enqueue(tasks.Echo(1))
        gate.open()
        assert await ending == 0
        assert await held == 0

    async def test_enqueue_after_kill_is_refused(self) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        worker.kill()
        with pytest.raises(StatusError, match=SHUT_DOWN):
            worker.enqueue(tasks.Echo(1))
        await worker.shutdown()

    async def test_tasks_of_unequal_duration_run_in_the_order_they_came(self, gate: Gate, log: Log) -> None:
        async with self.worker() as worker:
            (slow,) = await occupy(worker, gate)
            rest = [worker.submit(tasks.append_line, log.path, number) for number in range(20)]
            gate.open()
            await asyncio.gather(slow, *rest)
        assert log.lines() == [str(number) for number in range(20)]

    async def test_a_higher_priority_runs_first(self, gate: Gate, log: Log) -> None:
        async with self.worker() as worker:
            await occupy(worker, gate)
            low = worker.submit(tasks.append_line, log.path, "low")
            high = worker.options(priority=5).submit(tasks.append_line, log.path, "high")
            gate.open()
            await asyncio.gather(low, high)
        assert log.lines() == ["high", "low"]

    async def test_tasks_of_one_worker_run_one_at_a_time(self, log: Log) -> None:
        async with self.worker() as worker:
            await asyncio.gather(*(worker.submit(tasks.log_start_and_end, log.path, name) for name in "abc"))
        assert log.lines() == ["start a", "end a", "start b", "end b", "start c", "end c"]

    async def test_concurrency_lets_async_tasks_of_one_worker_overlap(self, gate: Gate) -> None:
        async with self.worker(concurrency=2) as worker:
            both = [worker.submit(tasks.apass_gate, gate.path, number) for number in range(2)]
            await gate.arrived(2)  # neither can end before both have started
            gate.open()
            assert await asyncio.gather(*both) == [0, 1]

    async def test_shutdown_finishes_what_is_queued(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        queued = [worker.submit(tasks.echo, number) for number in range(5)]
        ending = asyncio.ensure_future(worker.shutdown())
        await asyncio.sleep(0)
        gate.open()
        assert await ending == 0
        assert await asyncio.gather(held, *queued) == [0, 0, 1, 2, 3, 4]

    async def test_shutdown_right_after_enqueue_still_runs_the_task(self) -> None:
        worker = self.worker()
        execution = worker.submit(tasks.echo, "ran")
        assert await worker.shutdown() == 0
        assert await execution == "ran"

    async def test_a_worker_that_is_killed_while_it_starts_has_not_crashed(self) -> None:
        worker = self.worker()
        execution = worker.submit(tasks.echo, 1)
        await asyncio.sleep(0)
        worker.kill()
        with pytest.raises(WorkerKilled):
            await execution
        await worker.shutdown()
        with pytest.raises(StatusError, match=SHUT_DOWN):
            worker.submit(tasks.echo, 1)

    @pytest.mark.parametrize("how", ["shutdown", "kill"])
    async def test_a_worker_that_was_ended_after_it_could_not_start_is_shut_down(self, how: str) -> None:
        worker = self.worker(bootstrap=tasks.broken_bootstrap)
        with pytest.raises(WorkerStartError):
            await worker.submit(tasks.echo, 1)
        with pytest.raises(StatusError, match="has crashed"):
            worker.submit(tasks.echo, 1)
        if how == "kill":
            worker.kill()
        else:
            await worker.shutdown()
        with pytest.raises(StatusError, match=SHUT_DOWN):
            worker.submit(tasks.echo, 1)
        await worker.shutdown()

    async def test_async_with_starts_the_worker(self, log: Log) -> None:
        async with self.worker(bootstrap=tasks.LoggingBootstrap(log.path)) as worker:
            await eventually(lambda: log.lines() == ["booted"])
            assert worker.is_idle()
            assert await worker.submit(tasks.echo, 1) == 1
        assert log.lines() == ["booted"]

    async def test_a_worker_that_could_not_start_when_nothing_waited_tells_the_first_task(
        self, tmp_path: Path, log: Log
    ) -> None:
        flag = tmp_path / "flag"
        flag.touch()
        async with self.worker(bootstrap=tasks.FlaggedBootstrap(log.path, str(flag))) as worker:
            await eventually(lambda: not worker.statistics().workers and log.lines() == ["booted"])
            assert worker.is_running()
            execution = worker.submit(tasks.echo, 1)
            with pytest.raises(WorkerStartError, match="the flag is up"):
                await execution
        assert log.lines() == ["booted"] * 2

    async def test_a_start_that_failed_and_then_did_not_is_no_exit_code(
        self, tmp_path: Path, log: Log
    ) -> None:
        flag = tmp_path / "flag"
        flag.touch()
        worker = self.worker(bootstrap=tasks.FlaggedBootstrap(log.path, str(flag)))
        async with worker:
            await eventually(lambda: not worker.statistics().workers and log.lines() == ["booted"])
            flag.unlink()
            assert await worker.submit(tasks.echo, 1) == 1
        assert await worker.shutdown() == 0

    async def test_what_an_idle_worker_was_sent_is_not_pending(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            execution = pool.submit(tasks.pass_gate, gate.path)
            while not pool.statistics().sent:
                await asyncio.sleep(0)
            # It may have begun, and then nobody has heard of it.
            ending = asyncio.ensure_future(pool.shutdown(cancel_pending=True))
            await gate.arrived()
            gate.open()
            assert await ending == 0
            assert execution.done()
            assert not execution.cancelled()

    @pytest.mark.parametrize("concurrency", [1, 3])
    async def test_shutdown_with_cancel_pending_finishes_only_what_runs(
        self, concurrency: int, gate: Gate, log: Log
    ) -> None:
        worker = self.worker(concurrency=concurrency)
        (held,) = await occupy(worker, gate)
        pending = [worker.submit(tasks.append_line, log.path, number) for number in range(3)]
        ending = asyncio.ensure_future(worker.shutdown(cancel_pending=True))
        await asyncio.wait(pending)
        gate.open()
        assert await ending == 0
        assert await held == 0
        assert all(execution.cancelled() for execution in pending)
        assert log.lines() == []

    async def test_shutdown_gives_the_same_code_every_time(self) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        assert await asyncio.gather(worker.shutdown(), worker.shutdown()) == [0, 0]
        assert await worker.shutdown() == 0

    async def test_a_worker_that_never_started_shuts_down(self) -> None:
        assert await self.worker().shutdown() == 0

    async def test_a_worker_that_never_started_can_be_killed(self) -> None:
        worker = self.worker()
        worker.kill()
        assert not worker.is_running()
        assert isinstance(await worker.shutdown(), int)

    async def test_a_cancelled_shutdown_can_be_awaited_again(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        ending = asyncio.ensure_future(worker.shutdown())
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait([ending])
        gate.open()
        assert await worker.shutdown() == 0
        assert await held == 0

    async def test_kill_fails_all_outstanding_executions_at_once(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        queued = [worker.submit(tasks.echo, number) for number in range(5)]
        worker.kill()
        async with fail_after(20):  # the gate stays closed
            outcomes = await asyncio.gather(held, *queued, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WorkerKilled] * 6
        assert isinstance(await worker.shutdown(), int)

    async def test_kill_before_the_worker_has_started_fails_its_tasks(self) -> None:
        worker = self.worker()
        execution = worker.submit(tasks.echo, 1)
        worker.kill()
        with pytest.raises(WorkerKilled):
            await execution
        await worker.shutdown()

    async def test_kill_twice_is_kill_once(self) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        worker.kill()
        worker.kill()
        first = await worker.shutdown()
        assert await worker.shutdown() == first

    async def test_kill_during_shutdown_ends_it(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        ending = asyncio.ensure_future(worker.shutdown())
        await asyncio.sleep(0)
        worker.kill()
        with pytest.raises(WorkerKilled):
            await held
        assert isinstance(await ending, int)

    async def test_kill_of_an_idle_worker_harms_no_finished_execution(self) -> None:
        worker = self.worker()
        execution = worker.submit(tasks.echo, "kept")
        await execution
        worker.kill()
        assert execution.result() == "kept"
        await worker.shutdown()

    async def test_leaving_async_with_finishes_what_is_queued(self) -> None:
        async with self.worker() as worker:
            executions = [worker.submit(tasks.echo, number) for number in range(5)]
        assert not worker.is_running()
        assert [execution.result() for execution in executions] == [0, 1, 2, 3, 4]

    async def test_leaving_async_with_by_an_exception_cancels_what_is_outstanding(
        self, gate: Gate, log: Log
    ) -> None:
        worker = self.worker()
        with pytest.raises(LookupError, match="own"):  # noqa: PT012
            async with worker:
                held = worker.submit(tasks.apass_gate, gate.path)
                await gate.arrived()
                queued = worker.submit(tasks.append_line, log.path, "ran")
                raise LookupError("own")
        assert held.cancelled()
        assert queued.cancelled()
        assert not worker.is_running()
        assert log.lines() == []

    async def test_the_repr_shows_the_state(self, gate: Gate) -> None:
        worker = self.worker()
        await worker.submit(tasks.echo, 1)
        texts = [repr(worker)]
        await occupy(worker, gate)
        texts.append(repr(worker))
        gate.open()
        await worker.shutdown()
        texts.append(repr(worker))
        assert len(set(texts)) == 3, texts
        assert all("Worker" in text for text in texts)


class BindingContract(Context):
    """A worker belongs to one event loop, and accepts only tasks."""

    async def test_use_from_another_loop_is_refused_and_names_the_executor(self) -> None:
        async def enqueue_elsewhere() -> None:
            worker.enqueue(tasks.Echo(1))

        async with self.worker() as worker:
            await worker.submit(tasks.echo, 1)
            with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
                await asyncio.to_thread(asyncio.run, enqueue_elsewhere())
            assert await worker.submit(tasks.echo, 2) == 2

    async def test_use_from_another_thread_is_refused_and_names_the_executor(self) -> None:
        async with self.worker() as worker:
            await worker.submit(tasks.echo, 1)
            with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
                await asyncio.to_thread(worker.submit, tasks.echo, 1)
            assert await worker.submit(tasks.echo, 2) == 2

    def test_use_without_a_loop_is_refused_and_names_the_executor(self) -> None:
        worker = self.worker()
        with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
            worker.enqueue(tasks.Echo(1))

    @pytest.mark.parametrize(
        "thing", [object(), None, 3, tasks.echo], ids=["object", "None", "number", "function"]
    )
    async def test_enqueue_of_an_object_without_run_is_a_type_error(self, thing: object) -> None:
        async with self.worker() as worker:
            with pytest.raises(TypeError, match="run"):
                worker.enqueue(thing)  # type: ignore[arg-type]
            assert worker.is_idle()

    async def test_submit_of_what_is_not_callable_is_a_type_error(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(TypeError, match="callable"):
                worker.submit("echo")  # type: ignore[arg-type]
