"""The contract, where all goes well: tasks, lives, environments, pools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from offloop import Execution, StatusError, Task, WorkerKilled, WorkerStartError
from offloop.testing.worker_contract import tasks
from offloop.testing.worker_contract.base import Contract, lines, logged, needs, outcome, outcomes, promise


class LifeContract(Contract):
    """What one worker runs, in which order, and how it ends."""

    @promise
    async def test_every_kind_of_task_has_its_result(self) -> None:
        async with self.worker() as worker:
            assert worker.is_running()
            assert worker.is_idle()
            assert await worker.submit(tasks.echo, value=1) == 1
            assert await worker.submit(tasks.echo) is None
            assert await worker.submit(tasks.aecho, 2) == 2
            assert await worker.submit(tasks.count_to, 3) == [0, 1, 2]
            assert await worker.submit(tasks.acount_to, 3) == [0, 1, 2]
            assert await worker.submit(lambda: [tasks.echo(4)]) == [4]
            assert await worker.enqueue(tasks.Shaped()) == "by shape"
            assert await worker.enqueue(tasks.Count()) == 1

    @promise
    async def test_a_task_knows_itself(self) -> None:
        async with self.worker() as worker:
            # One that waits before it: it must not be taken for that one.
            first, second = worker.submit(tasks.aecho, 1), worker.submit(tasks.about_me)
            assert await second == (second.worker_id, second.id, 1)
            assert await first == 1
            assert first.started_at is not None
            assert second.started_at is not None
            assert first.started_at <= second.started_at

    @promise
    async def test_tasks_run_in_the_order_they_came(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.worker() as worker:
            await outcomes([worker.submit(tasks.log, str(path), number) for number in range(300)])
        assert lines(path) == [str(number) for number in range(300)]

    @promise
    async def test_tasks_of_one_worker_run_one_at_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.worker() as worker:
            await asyncio.gather(*(worker.submit(tasks.log_start_and_end, str(path), n) for n in "ab"))
        assert lines(path) == ["start a", "end a", "start b", "end b"]

    @promise
    async def test_a_higher_priority_runs_first(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.worker() as worker:
            held = worker.submit(tasks.wait_for_ever, str(path))
            await logged(path, "started")
            low = worker.submit(tasks.log, str(path), "low")
            high = worker.options(priority=1).submit(tasks.log, str(path), "high")
            held.cancel()
            await asyncio.gather(low, high)
        assert lines(path)[-2:] == ["high", "low"]

    @needs("can_overlap")
    @promise
    async def test_concurrency_lets_async_tasks_overlap(self, tmp_path: Path) -> None:
        async with self.worker(concurrency=2) as worker:
            await asyncio.gather(*(worker.submit(tasks.meet, str(tmp_path / "log"), 2) for _ in range(2)))

    @promise
    async def test_shutdown_finishes_what_is_queued_and_gives_the_same_code_every_time(self) -> None:
        worker = self.worker()
        executions = [worker.submit(tasks.echo, number) for number in range(20)]
        codes = await asyncio.gather(worker.shutdown(), worker.shutdown())
        assert list(codes) == [0, 0]
        assert [execution.result() for execution in executions] == list(range(20))
        assert await worker.shutdown() == 0
        assert not worker.is_running()
        assert _is_refused(worker)

    @promise
    async def test_shutdown_with_cancel_pending_finishes_only_what_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        worker = self.worker()
        held = worker.submit(tasks.meet, str(path), 2)
        await logged(path, "here")
        pending = [worker.submit(tasks.log, str(path), "ran") for _ in range(3)]
        ending = asyncio.ensure_future(worker.shutdown(cancel_pending=True))
        assert await outcomes(pending) == ["cancelled"] * 3
        tasks.log(str(path), "here")
        assert await ending == 0
        assert await held == 1
        assert "ran" not in lines(path)

    @promise
    async def test_kill_fails_what_is_outstanding_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        worker = self.worker()
        held = worker.submit(tasks.wait_for_ever, str(path))
        await logged(path, "started")
        queued = worker.submit(tasks.echo, 1)
        worker.kill()
        worker.kill()
        assert [type(error) for error in await outcomes([held, queued])] == [WorkerKilled] * 2
        assert not worker.is_running()
        assert _is_refused(worker)
        assert await worker.shutdown() == await worker.shutdown()

    @promise
    async def test_a_worker_may_end_before_it_has_started(self) -> None:
        assert await self.worker().shutdown() == 0
        worker = self.worker()
        execution = worker.submit(tasks.echo, 1)
        worker.kill()
        assert isinstance(await outcome(execution), WorkerKilled)
        await worker.shutdown()

    @promise
    async def test_a_worker_that_is_starting_may_be_killed(self) -> None:
        worker = self.worker()
        execution = worker.submit(tasks.echo, 1)
        await asyncio.sleep(0)  # by now it has been asked to start
        worker.kill()
        assert isinstance(await outcome(execution), WorkerKilled)
        await worker.shutdown()

    @promise
    async def test_leaving_async_with_by_an_exception_cancels_what_is_outstanding(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "log"
        executions: list[Execution[Any]] = []
        try:
            async with self.worker() as worker:
                executions.append(worker.submit(tasks.wait_for_ever, str(path)))
                await logged(path, "started")
                executions.append(worker.submit(tasks.log, str(path), "ran"))
                raise LookupError
        except LookupError:
            pass
        assert await outcomes(executions) == ["cancelled"] * 2
        assert lines(path) == ["started", "CancelledError"]

    @promise
    async def test_what_nobody_shut_down_ends_with_its_event_loop(self) -> None:
        self.pool_of_the_loop = self.pool(1)  # which outlives this function
        self.pool_of_the_loop.end_with_loop()
        assert await self.pool_of_the_loop.submit(tasks.echo, 1) == 1


class EnvironmentContract(Contract):
    """What outlives a task, and ends with its worker."""

    @promise
    async def test_an_entry_persists_and_belongs_to_one_worker(self) -> None:
        async with self.worker() as worker, self.worker() as other:
            await worker.enqueue(tasks.Remember("key", "value"))
            assert await worker.enqueue(tasks.Recall("key")) == "value"
            assert await other.enqueue(tasks.Recall("key")) is None

    @promise
    async def test_an_idle_worker_frees_an_expired_entry_by_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        entry = tasks.Remember("key", "gone", ttl=0.1, on_delete=tasks.Log(str(path)))
        async with self.worker() as worker:
            await worker.enqueue(entry)
            await logged(path, "gone")
            assert await worker.enqueue(tasks.Recall("key")) is None
        assert lines(path) == ["gone"]

    @promise
    async def test_entries_are_deleted_when_the_worker_shuts_down(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        for kind in (tasks.echo, tasks.aecho):  # an async task gives the worker an event loop
            async with self.worker() as worker:
                await worker.submit(kind, 1)
                await worker.enqueue(tasks.Remember("key", "gone", on_delete=tasks.Log(str(path))))
        assert lines(path) == ["gone", "gone"]

    @promise
    async def test_the_environment_and_its_bootstrap_are_the_users(self, tmp_path: Path) -> None:
        file = tmp_path / "bootstrap.py"
        file.write_text("environment['prepared'] = 'file'\n")
        for bootstrap, kind in ((tasks.prepare, "sync"), (tasks.aprepare, "async"), (file, "file")):
            async with self.worker(environment=tasks.OwnEnvironment, bootstrap=bootstrap) as worker:
                assert await worker.enqueue(tasks.Recall("made")) == "by the user"
                assert await worker.enqueue(tasks.Recall("prepared")) == kind

    @promise
    async def test_a_bootstrap_that_raises_is_a_start_error(self) -> None:
        worker = self.worker(bootstrap=tasks.fail_to_prepare)
        error = await outcome(worker.submit(tasks.echo, 1))
        assert isinstance(error, WorkerStartError)
        assert "not prepared" in str(error)
        assert "not prepared" in error.traceback
        assert not worker.is_running()
        await worker.shutdown()
        async with self.pool(1, factory=type(self).factory(bootstrap=tasks.fail_to_prepare)) as pool:
            assert isinstance(await outcome(pool.submit(tasks.echo, 1)), WorkerStartError)


class PoolContract(Contract):
    """Several workers of the context."""

    @promise
    async def test_two_workers_run_two_tasks_at_the_same_time(self, tmp_path: Path) -> None:
        async with self.pool(2) as pool:
            both = [pool.submit(tasks.meet, str(tmp_path / "log"), 2) for _ in range(2)]
            assert len(set(await asyncio.gather(*both))) == 2
            assert pool.worker_count == 2

    @promise
    async def test_no_task_waits_behind_a_long_one_while_a_worker_is_free(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.pool(2) as pool:
            await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(50)))
            held = pool.submit(tasks.wait_for_ever, str(path))
            await logged(path, "started")
            assert await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(50))) == [*range(50)]
            held.cancel()

    @promise
    async def test_a_lease_keeps_its_worker(self) -> None:
        async with self.pool(2) as pool:
            async with pool.get_worker() as lease, pool.get_worker() as other:
                counts = await asyncio.gather(*(lease.enqueue(tasks.Count()) for _ in range(5)))
                assert counts == [1, 2, 3, 4, 5]
                assert await other.enqueue(tasks.Count()) == 1
            lease = pool.get_worker()
            assert await lease.shutdown() == 0
            assert await pool.enqueue(tasks.Count()) in {1, 2, 6}

    @promise
    async def test_killing_a_lease_loses_no_other_task(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            held = lease.submit(tasks.wait_for_ever, str(path))
            await logged(path, "started")
            others = [pool.submit(tasks.echo, number) for number in range(5)]
            lease.kill()
            assert isinstance(await outcome(held), WorkerKilled)
            assert await outcomes(others) == list(range(5))

    @promise
    async def test_equal_keys_go_to_the_same_worker(self) -> None:
        async with self.pool(2) as pool:
            keyed = [(pool.enqueue(tasks.Count(), key="a"), pool.submit(tasks.echo, 1)) for _ in range(10)]
            assert [await count for count, _ in keyed] == list(range(1, 11))

    @promise
    async def test_broadcast_reaches_every_worker(self, tmp_path: Path) -> None:
        async with self.pool(2) as pool:
            await asyncio.gather(*(pool.submit(tasks.meet, str(tmp_path / "log"), 2) for _ in range(2)))
            await pool.broadcast(tasks.Remember("key", "everywhere"))
            assert await pool.broadcast(tasks.Recall("key")) == ["everywhere"] * 2

    @promise
    async def test_replacing_workers_loses_no_task(self) -> None:
        async with self.pool(2, max_tasks_per_worker=3) as pool:
            executions = [pool.submit(tasks.echo, number) for number in range(20)]
            await pool.recycle()
            assert await outcomes(executions) == list(range(20))
            assert max(await outcomes([pool.enqueue(tasks.Count()) for _ in range(9)])) <= 3

    @promise
    async def test_a_map_gives_its_results_in_order(self) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(tasks.echo, range(1000)) == list(range(1000))
            unordered: list[Any] = await pool.map(tasks.aecho, range(9), ordered=False, chunksize=2)
            assert sorted(unordered) == list(range(9))


def _is_refused(worker: Any) -> bool:
    """Whether a worker that has ended refuses a task, in the right words."""
    task: Task[int] = tasks.Count()
    try:
        worker.enqueue(task)
    except StatusError as error:
        return str(error) == "The worker has been shut down"
    return False
