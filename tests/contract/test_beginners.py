"""What newcomers do: import a program again, print and crash, interrupt a program as it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.descriptors import FailsWhenLoaded
from support.gates import Gate
from support.scripts import run_script, running_script

from offloop import (
    ProcessWorkerFactory,
    SerializationError,
    ThreadWorkerFactory,
    WorkerPool,
    WorkerStartError,
)
from offloop.child import nesting

IMPORTED = """
import asyncio
from offloop import WorkerPool

def double(number):
    return 2 * number

async def main():
    async with WorkerPool(1) as pool:
        print(await pool.submit(double, 21))

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["import program", "from runpy import run_module; run_module('importer')"])
def test_a_module_that_starts_workers_when_it_is_imported_is_told_and_does_so_once(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text(IMPORTED)
    (tmp_path / "importer.py").write_text("import program")
    monkeypatch.chdir(tmp_path)
    done = run_script(how, tmp_path, "-c")
    assert done.returncode == 1
    assert "module 'program' starts workers when it is imported" in done.stderr
    assert "if __name__ ==" in done.stderr.splitlines()[-1]


def nested_depth() -> int:
    return nesting.depth


async def nest(levels: int) -> int:
    async with WorkerPool(1) as pool:
        return await pool.submit(nested_depth) if levels == 1 else await pool.submit(nest, levels - 1)


async def test_workers_of_workers_know_how_deep_they_are() -> None:
    assert nesting.depth == 0
    assert await nest(3) == 3


async def test_too_many_workers_within_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nesting, "depth", nesting.MAX_DEPTH)
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerStartError, match="workers within workers, 10 deep"):
            await pool.submit(abs, -1)


def test_what_a_task_printed_is_not_lost_when_its_worker_crashes_later(tmp_path: Path) -> None:
    program = """
    import asyncio, os, sys
    from offloop import WorkerPool

    async def main():
        async with WorkerPool(1) as pool:
            await asyncio.gather(pool.submit(print, "said"), pool.submit(os._exit, 1), return_exceptions=True)

    asyncio.run(main())
    """
    assert run_script(program, tmp_path).stdout == "said\n"


LEAVING = """
import asyncio, os, time
from offloop import WorkerPool

def work(number):
    try:
        print("begins", flush=True)
        time.sleep(60)
    finally:
        print("tidied up", flush=True)

async def main():
    async with WorkerPool(2) as pool:
        kept = [pool.submit(work, number) for number in range(4)]

asyncio.run(main())
"""


def test_ctrl_c_while_a_pool_finishes_interrupts_what_runs(tmp_path: Path) -> None:
    with running_script(LEAVING, tmp_path, subprocess.PIPE) as program:
        assert program.stdout is not None
        assert [program.stdout.readline() for _ in range(2)] == ["begins\n"] * 2
        os.kill(program.pid, signal.SIGINT)
        rest, errors = program.communicate(timeout=30)
    assert rest == "tidied up\n" * 2
    assert errors.count("Traceback") <= 2  # of the cancelled main(), and of the interruption
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in errors


@pytest.mark.parametrize("factory", ["process", ThreadWorkerFactory()])
async def test_a_pool_that_is_cancelled_while_it_finishes_cancels_what_is_outstanding(
    factory: object, gate: Gate
) -> None:
    executions = []

    async def use() -> None:
        async with WorkerPool(1, factory=factory) as pool:  # type: ignore[arg-type]
            executions.extend(pool.submit(tasks.apass_gate, gate.path) for _ in range(3))

    using = asyncio.create_task(use())
    await gate.arrived()
    using.cancel()
    async with fail_after(20):  # the gate stays closed
        with pytest.raises(asyncio.CancelledError):
            await using
    assert [execution.cancelled() for execution in executions] == [True] * 3


def run_a_loop(value: int) -> int:
    return asyncio.run(asyncio.sleep(0, value))


@pytest.mark.parametrize("factory", ["process", "thread"])
async def test_a_synchronous_task_may_run_a_loop_of_its_own_also_behind_an_async_one(factory: str) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        assert await pool.submit(run_a_loop, 1) == 1
        assert await pool.submit(asyncio.sleep, 0, 2) == 2
        assert await pool.submit(run_a_loop, 3) == 3


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (
            lambda pool: pool.submit(abs(-3)),
            r"not int; pass the function and its arguments, as in submit\(fn, 3\)",
        ),
        (lambda pool: pool.submit(tasks.Echo(3)), "which is a task: enqueue it"),
        (lambda pool: pool.enqueue(abs), r"a callable is run by submit\(fn, ...\)"),
        (lambda pool: pool.enqueue(tasks.Echo), r"enqueue\(Echo\(...\)\)"),
    ],
)
async def test_a_wrong_call_is_told_the_right_one(call: Any, hint: str) -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(TypeError, match=hint):
            call(pool)


async def test_what_can_not_be_sent_is_told_with_what_to_send() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(SerializationError, match="send only what the task needs"):
            await pool.submit(repr, pool)
        with pytest.raises(SerializationError, match="await it, and send its result"):
            await pool.submit(repr, pool.submit(abs, -1))
    with pytest.raises(TypeError, match=r"not the class: ProcessWorkerFactory\(\)"):
        WorkerPool(1, factory=ProcessWorkerFactory)  # type: ignore[arg-type]


async def test_what_can_not_be_loaded_is_told_by_the_users_function_and_module() -> None:
    unloadable = FailsWhenLoaded()
    async with WorkerPool(1) as pool:
        for failing in (pool.submit(tasks.echo, unloadable), pool.map(tasks.echo, [unloadable])):
            with pytest.raises(
                SerializationError, match=rf"^echo\(.*\) of module {tasks.__name__} could not"
            ):
                await failing


@pytest.mark.parametrize("first", [tasks.echo, tasks.aecho])  # behind an async task there is an event loop
@pytest.mark.parametrize("factory", ["process", "thread"])
async def test_a_function_in_c_has_no_stack(factory: str, first: Callable[[int], object]) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        await pool.submit(first, 1)
        execution = pool.submit(time.sleep, 1.0)
        await eventually(lambda: execution.started_at is not None)
        assert await execution.stack() == ""


async def test_a_map_that_is_never_awaited_is_told() -> None:
    async with WorkerPool(1) as pool:
        with pytest.warns(RuntimeWarning, match="a map of abs was never awaited nor iterated over"):
            pool.map(abs, [1, 2])


async def test_an_execution_shows_its_task_and_how_it_stands(gate: Gate) -> None:
    async with WorkerPool(1) as pool:
        runs = pool.submit(tasks.pass_gate, gate.path)
        waits = pool.submit(abs, -1)
        assert repr(waits) == "<Execution abs(-1) waiting>"
        await gate.arrived()
        assert repr(runs).startswith("<Execution pass_gate(")
        assert repr(runs).endswith(" sent to worker 1>")
        fails = pool.submit(int, "x")
        waits.cancel()
        gate.open()
        await asyncio.wait([runs, fails])
        assert repr(waits) == "<Execution abs(-1) cancelled>"
        assert repr(runs).endswith(" done>")
        assert repr(fails).startswith("<Execution int('x') failed with ValueError(")
        assert fails.exception() is not None
