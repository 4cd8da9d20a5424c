"""The options of a task, for one call or as defaults, and running a task again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import tasks
from support.gates import Gate, Log

from contract.base import Context, occupy
from offloop import CallableTask, TaskTimeout, WorkerCrashed


class OptionsContract(Context):
    """In every context."""

    @pytest.mark.parametrize(
        ("option", "value", "error"),
        [
            ("timeout", 0, ValueError),
            ("timeout", -1.0, ValueError),
            ("timeout", float("nan"), ValueError),
            ("timeout", "1", TypeError),
            ("timeout", True, TypeError),
            ("priority", 1.5, TypeError),
            ("retries", -1, ValueError),
            ("retries", "2", TypeError),
            ("key", [], TypeError),
        ],
    )
    async def test_a_bad_option_is_refused_and_nothing_is_queued(
        self, option: str, value: Any, error: type[Exception]
    ) -> None:
        async with self.worker() as worker:
            with pytest.raises(error, match=option if option != "key" else "hash"):
                worker.enqueue(tasks.Echo(1), **{option: value})
            with pytest.raises(error):
                worker.options(**{option: value})
            assert worker.is_idle()

    async def test_priorities_decide_and_equal_ones_keep_their_order(self, gate: Gate, log: Log) -> None:
        async with self.pool(1) as pool:
            await occupy(pool, gate)
            executions = [
                pool.enqueue(CallableTask(tasks.append_line, log.path, f"{priority} {n}"), priority=priority)
                for n in range(2)
                for priority in (0, -1, 7)
            ]
            gate.open()
            await asyncio.gather(*executions)
        assert log.lines() == ["7 0", "7 1", "0 0", "0 1", "-1 0", "-1 1"]

    async def test_options_are_defaults_of_the_same_worker(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            hurried = pool.options(timeout=0.1)
            await hurried.enqueue(tasks.Remember("key", "value"))
            assert await pool.enqueue(tasks.Recall("key")) == "value"
            with pytest.raises(TaskTimeout):
                await hurried.enqueue(CallableTask(tasks.apass_gate, gate.path))
            patient = hurried.enqueue(CallableTask(tasks.apass_gate, gate.path), timeout=60)
            unhurried = pool.submit(tasks.echo, "as before")
            await gate.arrived(2)
            gate.open()
            assert await asyncio.gather(patient, unhurried) == [None, "as before"]

    async def test_options_of_a_call_hold_before_those_of_its_worker(self) -> None:
        async with self.pool(1) as pool:
            hurried = pool.options(timeout=60, retries=2)
            given = hurried.enqueue(tasks.Echo(1), timeout=None)
            assert (given.timeout, given.retries) == (None, 2)
            stream = hurried.stream(tasks.count_to, 1)
            assert (stream.execution.timeout, stream.execution.retries) == (60, 2)
            await asyncio.gather(given, stream.execution)

    async def test_options_of_options_add_up(self, log: Log, gate: Gate) -> None:
        async with self.pool(1) as pool:
            both = pool.options(timeout=0.1).options(priority=3)
            assert "timeout=0.1" in repr(both)
            assert "priority=3" in repr(both)
            with pytest.raises(TaskTimeout):
                await both.submit(tasks.apass_gate, gate.path)

    async def test_the_items_of_a_map_have_them_too(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(TaskTimeout):
                await pool.options(timeout=0.1).map(tasks.apass_gate, [gate.path])

    async def test_an_exception_is_no_reason_to_run_a_task_again(self, log: Log) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(ValueError, match="once"):
                await pool.options(retries=3).submit(tasks.log_and_fail, log.path, "once")
        assert log.lines() == ["ran"]


class RetryContract(Context):
    """Contexts whose workers may die: ``retries``, and what a task knows of them."""

    async def test_a_poisonous_task_fails_alone_after_its_attempts(self, log: Log, tmp_path: Any) -> None:
        other = Log(tmp_path / "other")
        async with self.pool(2) as pool:
            poison = pool.options(retries=2).submit(tasks.log_attempt_and_crash, log.path)
            innocent = [pool.submit(tasks.append_line, other.path, number) for number in range(30)]
            with pytest.raises(WorkerCrashed, match="log_attempt_and_crash"):
                await poison
            await asyncio.gather(*innocent)
            assert poison.attempt == 3
            assert await pool.submit(tasks.echo, "alive") == "alive"
        assert log.lines() == ["1", "2", "3"]
        assert sorted(map(int, other.lines())) == list(range(30)), "each of them ran once"

    async def test_many_poisonous_tasks_never_take_the_pool_with_them(self, log: Log) -> None:
        async with self.pool(2) as pool:
            poison = [pool.options(retries=1).submit(tasks.log_attempt_and_crash, log.path) for _ in range(6)]
            outcomes = await asyncio.gather(*poison, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [WorkerCrashed] * 6
            assert await pool.submit(tasks.echo, "alive") == "alive"
        assert sorted(log.lines()) == ["1"] * 6 + ["2"] * 6

    async def test_a_retried_task_goes_first(self, gate: Gate, log: Log) -> None:
        async with self.pool(1) as pool:
            first = pool.enqueue(CallableTask(tasks.crash_at_first, log.path), retries=1)
            behind = pool.submit(tasks.append_line, log.path, "behind")
            await asyncio.gather(first, behind)
        assert log.lines() == ["1", "2", "behind"]

    async def test_an_async_task_is_tried_again_and_knows_it(self, log: Log) -> None:
        async with self.pool(1) as pool:
            assert await pool.options(retries=1).submit(tasks.acrash_at_first, log.path) == 2

    async def test_without_retries_a_task_runs_at_most_once_also_beside_others_that_crash(
        self, log: Log
    ) -> None:
        factory = self.make_factory(concurrency=2)
        async with self.pool(1, factory=factory) as pool:
            crash, beside = pool.submit(tasks.acrash_at_first, log.path), pool.submit(tasks.await_for_ever)
            for execution in (crash, beside):  # both were running: neither runs again
                with pytest.raises(WorkerCrashed):
                    await execution
        assert log.lines() == ["1"]

    async def test_seconds_that_are_more_than_a_float_can_be_are_for_ever(self, gate: Gate) -> None:
        endless = 10**400
        async with self.pool(1, cancel_grace=endless, idle_timeout=endless) as pool:
            assert await pool.enqueue(tasks.Echo(1), timeout=endless) == 1
            assert await pool.map(tasks.echo, [1, 2], timeout=endless) == [1, 2]
            running = pool.submit(tasks.pass_gate, gate.path)
            await gate.arrived()
            running.cancel()
            gate.open()
            await asyncio.wait([running])
            assert await pool.options(timeout=endless).submit(tasks.echo, 1) == 1
