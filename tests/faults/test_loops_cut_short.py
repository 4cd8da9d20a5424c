"""A task that is cancelled in a loop without calls: CPython lets the exception in at a jump."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import loops
from support.bounds import eventually, fail_after
from support.gates import Mailbox

from offloop import Execution, WorkerPool

TIMES = 5


async def in_its_loop(execution: Execution[Any]) -> None:
    """Wait until the task is there."""
    async with fail_after(20):
        while loops.WHERE not in await execution.stack():
            await asyncio.sleep(0)


async def cut_short(pool: WorkerPool, loop: Callable[[str], object], mailbox: Mailbox) -> list[str]:
    """Cancel a task in its loop; returns what it said."""
    execution = pool.submit(loop, mailbox.path)
    await in_its_loop(execution)
    assert execution.cancel()
    await asyncio.wait([execution])
    assert execution.cancelled()
    async with fail_after(20):
        await pool.submit(abs, -1)
    return mailbox.drain()


@pytest.mark.parametrize("loop", loops.LOOPS)
async def test_it_cleans_up(loop: Callable[[str], object], mailbox: Mailbox) -> None:
    async with WorkerPool(1) as pool:
        for _ in range(TIMES):
            assert await cut_short(pool, loop, mailbox) == ["cleaned up"]
        assert await pool.submit(tools_in_use) == []


@pytest.mark.parametrize("loop", loops.BARE)
async def test_it_cleans_up_in_a_thread(loop: Callable[[str], object], mailbox: Mailbox) -> None:
    async with WorkerPool(1, factory="thread") as pool:
        for _ in range(TIMES):
            assert await cut_short(pool, loop, mailbox) == ["cleaned up"]
    assert tools_in_use() == []


async def test_each_of_many_threads_in_the_same_loop_cleans_up_once(mailbox: Mailbox) -> None:
    async with WorkerPool(6, factory="thread") as pool:
        executions = [pool.submit(loops.count, mailbox.path) for _ in range(6)]
        for execution in executions:
            await in_its_loop(execution)
        for execution in executions:
            execution.cancel()
        await eventually(lambda: pool.idle_worker_count == 6)
        assert mailbox.drain() == ["cleaned up"] * 6
    assert tools_in_use() == []


def tools_in_use() -> list[str]:
    """The ids that offloop has of those which `sys.monitoring` gives to tools."""
    if sys.version_info < (3, 12):
        return []
    names = [sys.monitoring.get_tool(id) for id in range(6)]
    return [name for name in names if name == "offloop"]
