"""Tasks whose time is up, where the worker hangs between two of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from support import faulty, tasks
from support.gates import Gate, Log, Mailbox

from offloop import CallableTask, WorkerPool, timeouts
from offloop.link import Link


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


async def test_a_task_that_waits_behind_another_one_is_given_its_time(
    log: Log, gate: Gate, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    often = asyncio.Event()  # for longer than `STUCK` and the timeout together
    look = timeouts.Timeouts._check

    def count(self: timeouts.Timeouts, link: Link) -> None:
        nonlocal looks
        looks += 1
        if looks == 10:
            often.set()
        look(self, link)

    monkeypatch.setattr(timeouts.Timeouts, "_check", count)

    def note(number: int, *gate: str) -> CallableTask[int]:
        return CallableTask(faulty.wait_or_note, log.path, number, *gate)

    async with WorkerPool(1) as pool:
        await asyncio.gather(*(pool.enqueue(note(-1)) for _ in range(300)))  # known to be short
        running = pool.enqueue(note(0, gate.path, mailbox.path))
        waiting = [pool.enqueue(note(number), timeout=0.05) for number in range(1, 4)]
        await gate.arrived()
        assert all(execution.worker_id is not None for execution in waiting)
        await often.wait()
        gate.open()
        assert await asyncio.gather(running, *waiting) == [0, 1, 2, 3]
