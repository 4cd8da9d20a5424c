"""``factory="auto"`` where it picks interpreters: what they refuse runs in processes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support import tasks
from support.gates import Log
from support.refusing import (
    Refused,
    calls_what_imports,
    failing_bootstrap,
    hold,
    imports_in_the_function,
    imports_where_nobody_sees,
    pid,
    refusing_bootstrap,
    stream_of,
)

from offloop import (
    AutoWorkerFactory,
    Execution,
    SerializationError,
    WorkerCrashed,
    WorkerKilled,
    WorkerPool,
)
from offloop.observe.reading import read_trace

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14"),
    pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="auto picks threads"),
]
HERE = os.getpid()


async def test_a_task_whose_arguments_are_refused_runs_in_a_process_and_so_do_the_next() -> None:
    async with WorkerPool(1, factory="auto") as pool:
        assert await pool.submit(pid) == HERE
        assert pool.context == "interpreter"
        elsewhere = await pool.submit(pid, Refused())
        assert elsewhere != HERE
        assert await pool.submit(pid) == elsewhere
        assert "context=process>" in repr(pool)
        statistics = pool.statistics()
        assert (statistics.context, statistics.succeeded, statistics.crashes) == ("process", 3, 0)


@pytest.mark.parametrize("fn", [imports_in_the_function, calls_what_imports])
async def test_a_function_that_imports_what_is_refused_runs_once_and_in_a_process(fn: Any, log: Log) -> None:
    async with WorkerPool(1, factory="auto") as pool:
        assert await pool.submit(fn, log.path) != HERE
    assert log.lines() == ["began"]


async def test_a_map_and_a_stream_run_in_processes(log: Log) -> None:
    async with WorkerPool(2, factory="auto") as pool:
        assert HERE not in await pool.map(imports_in_the_function, [log.path] * 8, chunksize=2)
    async with WorkerPool(2, factory="auto") as pool:
        assert HERE not in [item async for item in pool.stream(stream_of, log.path)]


async def test_what_had_begun_fails_and_does_not_run_twice(log: Log) -> None:
    async with WorkerPool(1, factory="auto") as pool:
        with pytest.raises(ImportError, match="subinterpreter") as caught:
            await pool.submit(imports_where_nobody_sees, log.path)
        assert 'factory="process"' in caught.value.__notes__[0]
        assert log.lines() == ["began"]
        assert await pool.submit(imports_where_nobody_sees, log.path) != HERE


async def test_items_of_a_map_that_were_refused_something_fail_and_those_to_come_run_in_a_process(
    log: Log,
) -> None:
    async with WorkerPool(1, factory="auto") as pool:
        results = await pool.map(
            imports_where_nobody_sees, [log.path] * 6, chunksize=2, return_exceptions=True
        )
        for error in results[:2]:
            assert isinstance(error, ImportError)
            assert 'factory="process"' in error.__notes__[0]
        assert all(isinstance(pid, int) and pid != HERE for pid in results[2:])
        assert len(log.lines()) == 6


async def test_a_bootstrap_that_is_refused_runs_in_a_process() -> None:
    async with WorkerPool(2, factory=AutoWorkerFactory(bootstrap=refusing_bootstrap)) as pool:
        assert await pool.enqueue(tasks.Recall("pid")) not in (None, HERE)
        assert pool.statistics().failed_starts == 0


async def test_a_bootstrap_that_fails_otherwise_fails_as_ever() -> None:
    async with WorkerPool(1, factory=AutoWorkerFactory(bootstrap=failing_bootstrap)) as pool:
        with pytest.raises(Exception, match="as it is"):
            await pool.submit(pid)
        assert pool.context == "interpreter"


async def held_on_both_sides(pool: WorkerPool) -> tuple[Execution[int], Execution[int]]:
    """A task that is held in the interpreter, and one in the process to which the worker moved."""
    here = pool.submit(hold)
    await here.channel.receive()
    assert await pool.submit(pid, Refused()) != HERE
    there = pool.submit(hold)
    await there.channel.receive()
    return here, there


async def test_what_runs_in_the_interpreter_meanwhile_ends_there() -> None:
    async with WorkerPool(1, factory=AutoWorkerFactory(concurrency=2)) as pool:
        here, there = await held_on_both_sides(pool)
        for execution in here, there:
            await execution.channel.send("go on")
        assert await here == HERE != await there
        assert pool.worker_count == 1


async def test_a_running_task_of_either_can_be_cancelled() -> None:
    async with WorkerPool(1, factory=AutoWorkerFactory(concurrency=2)) as pool:
        here, there = await held_on_both_sides(pool)
        for execution in here, there:
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
        assert await pool.submit(pid) != HERE


@pytest.mark.filterwarnings("ignore:.*abandon")
async def test_a_crash_of_the_process_ends_what_still_ran_in_the_interpreter() -> None:
    async with WorkerPool(1, factory=AutoWorkerFactory(concurrency=2)) as pool:
        here = pool.submit(hold)
        await here.channel.receive()
        assert await pool.submit(pid, Refused()) != HERE
        for execution in pool.submit(os._exit, 3), here:
            with pytest.raises(WorkerCrashed):
                await execution
        assert await pool.submit(pid) != HERE


class TestLeases:
    async def test_a_new_one_moves(self) -> None:
        async with WorkerPool(1, factory="auto") as pool, pool.get_worker() as worker:
            first = await worker.submit(pid, Refused())
            assert first != HERE
            await worker.enqueue(tasks.Remember("a", 1))
            assert await worker.enqueue(tasks.Recall("a")) == 1
            assert await worker.submit(pid) == first

    async def test_one_that_was_used_keeps_its_environment_and_says_why(self) -> None:
        async with WorkerPool(1, factory="auto") as pool:
            async with pool.get_worker() as worker:
                await worker.enqueue(tasks.Remember("a", 1))
                with pytest.raises(SerializationError) as caught:
                    await worker.submit(pid, Refused())
                assert "lease" in caught.value.__cause__.__notes__[0]  # type: ignore[union-attr]
                assert await worker.enqueue(tasks.Recall("a")) == 1
            assert pool.context == "process"
            assert await pool.submit(pid, Refused()) != HERE


async def test_a_pool_is_killed_while_a_worker_moves() -> None:
    pool = WorkerPool(1, factory="auto")
    assert await pool.submit(pid) == HERE
    execution = pool.submit(pid, Refused())
    while pool.context == "interpreter":
        await asyncio.sleep(0)
    pool.kill()
    with pytest.raises(WorkerKilled):
        await execution
    await pool.shutdown()


async def test_a_trace_weighs_tasks_of_the_process(tmp_path: Path) -> None:
    async with WorkerPool(1, factory="auto") as pool:
        async with pool.trace(tmp_path / "trace.json"):
            for argument in b"", Refused(), b"x" * 5000:
                await pool.submit(pid, argument)
    ends = [each["args"] for each in read_trace(tmp_path / "trace.json") if each["cat"] == "task"]
    assert "sent" not in ends[0]
    assert ends[-1]["sent"] > 5000
