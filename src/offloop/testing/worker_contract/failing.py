"""The contract, where something goes wrong: exceptions, cancellations, crashes."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from pathlib import Path
from typing import Any

from offloop import Execution, RemoteTraceback, SerializationError, TaskFailed, TaskTimeout, WorkerCrashed
from offloop.testing.worker_contract import tasks
from offloop.testing.worker_contract.base import Contract, lines, logged, needs, outcome, outcomes, promise

#: Exceptions that would end a loop, a thread or a program, were they passed on.
CONTROL_FLOW = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "CancelledError")


class FailureContract(Contract):
    """Tasks that fail; the worker goes on."""

    @promise
    async def test_an_exception_arrives_with_the_place_where_it_was_raised(self) -> None:
        async with self.worker() as worker:
            for fail in (tasks.fail, tasks.afail):
                error = await outcome(worker.submit(fail, KeyError("gone")))
                assert type(error) is KeyError
                assert error.args == ("gone",)
            error = await outcome(worker.submit(json.loads, "{"))
            assert isinstance(error, json.JSONDecodeError)
            assert isinstance(error.__cause__, RemoteTraceback)
            assert "in raw_decode" in "".join(traceback.format_exception(error))
            assert await worker.submit(tasks.echo, 1) == 1

    @promise
    async def test_an_exception_that_would_end_things_is_a_failed_task(self) -> None:
        async with self.worker() as worker:
            for name in CONTROL_FLOW:
                error = await outcome(worker.submit(tasks.fail_by_name, name))
                assert isinstance(error, TaskFailed), (name, error)
                assert error.type_name.endswith(name)
                assert name in error.traceback
            assert await worker.submit(tasks.about_me) == (1, len(CONTROL_FLOW) + 1, 1)

    @promise
    async def test_a_failure_harms_no_other_task(self) -> None:
        async with self.pool(2) as pool:
            mixed: list[Execution[Any]] = [
                pool.submit(tasks.fail, ValueError(n)) if n % 2 else pool.submit(tasks.echo, n)
                for n in range(20)
            ]
            assert [type(each) for each in await outcomes(mixed)] == [int, ValueError] * 10

    @needs("pickles")
    @promise
    async def test_what_cannot_be_pickled_or_loaded_fails_its_own_task_alone(self) -> None:
        async with self.worker() as worker:
            bad = [
                worker.submit(tasks.echo, tasks.new_lock()),
                worker.submit(tasks.new_lock),
                worker.submit(tasks.echo, tasks.FailsOnLoad()),
                worker.submit(tasks.FailsOnLoad),
            ]
            good = worker.enqueue(tasks.Count())
            errors = await outcomes(bad)
            assert [type(error) for error in errors] == [SerializationError] * 4
            assert "lock" in str(errors[0])
            assert "lock" in str(errors[1])
            assert "FailsOnLoad" in str(errors[3])
            assert await good == 1
            assert await worker.enqueue(tasks.Count()) == 2

    @needs("pickles")
    @promise
    async def test_a_task_changes_its_own_copy(self) -> None:
        given: list[int] = []
        async with self.worker() as worker:
            await worker.submit(tasks.append, given)
        assert given == []

    @needs("pickles", False)
    @promise
    async def test_arguments_results_and_exceptions_are_shared(self) -> None:
        lock, error = tasks.new_lock(), ValueError("shared")
        async with self.worker() as worker:
            assert await worker.submit(tasks.echo, lock) is lock
            assert await outcome(worker.submit(tasks.fail, error)) is error


class CancelContract(Contract):
    """Cancellation and timeouts."""

    @promise
    async def test_a_task_cancelled_before_its_start_never_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.worker() as worker:
            worker.submit(tasks.log, str(path), "at once").cancel()
            await asyncio.gather(*(worker.submit(tasks.log, str(path), "short") for _ in range(20)))
            held = worker.submit(tasks.wait_for_ever, str(path))
            await logged(path, "started")
            queued = [worker.submit(tasks.log, str(path), number) for number in range(20)]
            for execution in queued[::2]:
                execution.cancel()
            assert await outcomes(queued[::2]) == ["cancelled"] * 10
            held.cancel()
            await asyncio.gather(*queued[1::2])
        ran = [str(number) for number in range(1, 20, 2)]
        assert lines(path) == ["short"] * 20 + ["started", "CancelledError", *ran]

    @promise
    async def test_a_running_async_task_gets_cancelled_error(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.worker() as worker:
            execution = worker.submit(tasks.wait_for_ever, str(path))
            await logged(path, "started")
            assert execution.cancel()
            assert await outcome(execution) == "cancelled"
            assert not execution.cancel()
            assert await worker.submit(tasks.echo, 1) == 1
        assert lines(path) == ["started", "CancelledError"]

    @needs("can_be_interrupted")
    @promise
    async def test_a_running_sync_task_is_interrupted(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.pool(1, cancel_grace=30) as pool:
            execution = pool.submit(tasks.spin, str(path))
            await logged(path, "started")
            execution.cancel()
            assert await outcome(execution) == "cancelled"
            assert await pool.submit(tasks.echo, 1) == 1
        assert lines(path) == ["started", "TaskCancelled", "finally"]

    @promise
    async def test_a_task_that_runs_too_long_ends_in_task_timeout(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.pool(1, cancel_grace=30) as pool:
            patient = pool.options(timeout=30)
            late = pool.options(timeout=0.05).submit(tasks.wait_for_ever, str(path))
            # Waiting does not count.
            in_time = patient.submit(tasks.echo, 1)
            assert isinstance(await outcome(late), TaskTimeout)
            assert await in_time == 1
        # It may have been over before the first line of it.
        assert lines(path) in ([], ["started", "CancelledError"])

    @needs("can_be_killed")
    @promise
    async def test_a_task_that_ignores_its_cancellation_has_its_worker_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.pool(1, cancel_grace=0.1) as pool:
            execution = pool.submit(tasks.block, str(path))
            await logged(path, "started")
            queued = [pool.submit(tasks.echo, number) for number in range(5)]
            execution.cancel()
            assert await outcomes(queued) == list(range(5))
            assert await outcome(execution) == "cancelled"


class CrashContract(Contract):
    """Workers that die."""

    @needs("can_be_killed")
    @promise
    async def test_a_crash_fails_only_the_task_that_ran(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        async with self.pool(2) as pool:
            mixed: list[Execution[Any]] = [
                pool.submit(tasks.exit_process, str(path)) if n % 3 == 2 else pool.submit(tasks.echo, n)
                for n in range(9)
            ]
            found = await outcomes(mixed)
            assert [type(each) for each in found] == [int, int, WorkerCrashed] * 3
            assert found[2].exit_code in {3, None}
            assert "exit_process" in str(found[2].task)
            assert await pool.submit(tasks.echo, 1) == 1
        assert lines(path) == ["ran"] * 3

    @needs("can_be_killed")
    @promise
    async def test_the_environment_dies_with_its_worker(self, tmp_path: Path) -> None:
        async with self.pool(1) as pool:
            await pool.enqueue(tasks.Remember("key", "value"))
            assert isinstance(
                await outcome(pool.submit(tasks.exit_process, str(tmp_path / "log"))), WorkerCrashed
            )
            assert await pool.enqueue(tasks.Recall("key")) is None

    @needs("can_be_killed")
    @promise
    async def test_retries_run_a_crashed_task_again(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        async with self.pool(1) as pool:
            assert await pool.options(retries=1).submit(tasks.exit_at_first, str(first)) == 2
            crash: Execution[Any] = pool.options(retries=2).submit(tasks.exit_process, str(second))
            assert isinstance(await outcome(crash), WorkerCrashed)
        assert (lines(first), lines(second)) == (["1", "2"], ["ran"] * 3)

    @needs("can_be_killed")
    @promise
    async def test_a_worker_of_its_own_ends_with_its_crash(self, tmp_path: Path) -> None:
        worker = self.worker()
        assert isinstance(
            await outcome(worker.submit(tasks.exit_process, str(tmp_path / "log"))), WorkerCrashed
        )
        assert not worker.is_running()
        await worker.shutdown()

    @needs("can_be_killed")
    @promise
    async def test_a_worker_is_not_the_program_itself(self) -> None:
        async with self.worker() as worker:
            assert await worker.submit(os.getpid) != os.getpid()
