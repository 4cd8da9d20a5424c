"""The module-level functions, and the pool behind them that ends with its event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from pathlib import Path

import pytest
from support import tasks
from support.bounds import LoopRunner, wait_exit
from support.gates import Gate
from support.scripts import run_script

import offloop


async def test_the_module_level_functions_use_one_global_pool() -> None:
    assert await offloop.submit(tasks.add, 1, right=2) == 3
    assert await offloop.enqueue(tasks.Echo("task")) == "task"
    assert await offloop.map(tasks.echo, range(10)) == list(range(10))
    assert [item async for item in offloop.stream(tasks.count_to, 3)] == [0, 1, 2]
    async with offloop.get_worker() as lease:
        assert await lease.submit(os.getpid) != os.getpid()
    assert isinstance(offloop.pool(), offloop.WorkerPool)
    assert offloop.pool() is offloop.pool()
    assert offloop.pool().worker_count >= 1


async def test_to_process_runs_a_function_elsewhere() -> None:
    assert await offloop.to_process(os.getpid) != os.getpid()
    assert await offloop.to_process(tasks.keywords, fn=1, timeout=2) == {"fn": 1, "timeout": 2}
    with pytest.raises(ValueError, match="broken"):
        await offloop.to_process(tasks.fail, ValueError("broken"))


async def test_to_process_runs_in_a_process_where_the_global_pool_is_one_of_threads() -> None:
    offloop.factory("thread")
    assert await offloop.submit(os.getpid) == os.getpid()
    first, second = await offloop.to_process(os.getpid), await offloop.to_process(os.getpid)
    assert os.getpid() not in {first, second}
    assert await offloop.submit(os.getpid) == os.getpid()


async def test_to_process_runs_on_a_global_pool_of_processes() -> None:
    async with offloop.WorkerPool(1) as mine:
        offloop.pool(mine)
        assert await offloop.to_process(os.getpid) == await mine.submit(os.getpid)


def test_an_event_loop_is_freed_with_its_pools_once_it_has_ended() -> None:
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        offloop.factory("thread")
        assert await offloop.submit(tasks.echo, 1) == 1
        assert await offloop.to_process(tasks.echo, 1) == 1
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use())
    gc.collect()
    assert loop() is None


async def test_only_a_pool_of_this_loop_can_be_made_the_global_one() -> None:
    with pytest.raises(TypeError, match="must be a WorkerPool, not int"):
        offloop.pool(3)  # type: ignore[arg-type]
    foreign = offloop.WorkerPool(1)
    await asyncio.to_thread(asyncio.run, use(foreign))
    with pytest.raises(RuntimeError, match="another event loop"):
        offloop.pool(foreign)
    assert offloop.pool() is not foreign
    assert await offloop.submit(tasks.echo, 1) == 1


async def use(pool: offloop.WorkerPool) -> None:
    async with pool:
        await pool.submit(tasks.echo, 1)


async def test_to_process_can_be_cancelled(gate: Gate) -> None:
    running = asyncio.ensure_future(offloop.to_process(tasks.pass_gate, gate.path))
    await gate.arrived()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_pool_can_be_made_the_global_one() -> None:
    async with offloop.WorkerPool(1, factory="thread") as mine:
        offloop.pool(mine)
        assert offloop.pool() is mine
        assert await offloop.submit(os.getpid) == os.getpid()


async def test_create_worker_makes_a_worker_of_its_own() -> None:
    async with offloop.create_worker() as worker:
        assert await worker.submit(tasks.echo, 1) == 1


async def test_the_factory_can_be_set() -> None:
    mine = offloop.ThreadWorkerFactory()
    offloop.factory(mine)
    assert offloop.factory() is mine
    async with offloop.create_worker() as worker:
        assert await worker.submit(os.getpid) == os.getpid()


def test_the_global_pool_ends_with_its_loop(run_loop: LoopRunner) -> None:
    async def main() -> tuple[offloop.WorkerPool, int]:
        return offloop.pool(), await offloop.submit(os.getpid)

    first, pid = run_loop(main())
    assert wait_exit(pid, 20)
    assert not first.is_running()
    second, other_pid = run_loop(main())
    assert second is not first
    assert wait_exit(other_pid, 20)


def test_without_a_loop_the_module_level_functions_name_the_executor() -> None:
    with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
        offloop.submit(tasks.echo, 1)


def test_a_program_that_uses_the_global_pool_leaves_nothing(tmp_path: Path) -> None:
    program = """
        import asyncio, os, offloop

        async def main():
            print(*set(await offloop.map(lambda _: os.getpid(), range(100), chunksize=1)))

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pids = [int(word) for word in done.stdout.split()]
    assert pids
    assert all(wait_exit(pid, 20) for pid in pids)
