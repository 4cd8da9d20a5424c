"""Tasks whose time is up, where the worker hangs between two of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from support import tasks
from support.gates import Gate

from offloop import WorkerPool, timeouts


class Hanging:
    """Becomes 1 on its way, and holds its worker up when that lets go of it."""

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (1,)

    def __del__(self) -> None:
        time.sleep(600)


def hang_afterwards() -> Hanging:
    return Hanging()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "STUCK", 0.2)


@pytest.mark.parametrize("how", ["stopped", "finaliser"])
async def test_a_worker_that_hangs_between_two_tasks_is_replaced_and_the_next_ones_run(how: str) -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        if how == "stopped":
            os.kill(pid, signal.SIGSTOP)
        else:
            assert await pool.options(timeout=1.5).submit(hang_afterwards) == 1
        executions = [pool.options(timeout=0.1).submit(tasks.echo, number) for number in range(3)]
        assert await asyncio.gather(*executions) == [0, 1, 2]
        assert await pool.submit(os.getpid) != pid
        assert pool.statistics().crashes == 0


async def test_a_task_that_waits_behind_another_one_is_given_its_time(gate: Gate) -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(tasks.echo, 0)
        running = pool.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        waiting = [pool.options(timeout=0.05).submit(tasks.echo, number) for number in range(3)]
        await asyncio.sleep(0.5)  # ten times as long
        gate.open()
        await running
        assert await asyncio.gather(*waiting) == [0, 1, 2]
