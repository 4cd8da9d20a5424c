"""Workers that can't be killed, and are given up: what they had not begun runs elsewhere, or not at all."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import faulty, tasks
from support.gates import Gate, Log, Mailbox
from support.scripts import run_script

from offloop import InterpreterWorkerFactory, ThreadWorkerFactory, WorkerFactory, WorkerKilled, WorkerPool
from offloop.testing import InlineWorkerFactory

pytestmark = pytest.mark.filterwarnings("ignore:(a thread|an interpreter) can't be killed:RuntimeWarning")

FACTORIES: dict[str, WorkerFactory] = {
    "thread": ThreadWorkerFactory(),
    "thread, overlapping": ThreadWorkerFactory(concurrency=3),
}
if sys.version_info >= (3, 14):
    FACTORIES["interpreter"] = InterpreterWorkerFactory()


async def behind_a_stuck_one(pool: WorkerPool, log: Log, gate: Gate, mailbox: Mailbox) -> list[Any]:
    """Tasks of a kind that is known to be short, in a worker's hand behind one that is stuck."""
    await asyncio.gather(*(pool.submit(faulty.wait_or_note, log.path, -1) for _ in range(300)))
    stuck = pool.submit(faulty.wait_or_note, log.path, 0, gate.path, mailbox.path)
    others = [pool.submit(faulty.wait_or_note, log.path, number) for number in range(1, 41)]
    await gate.arrived()
    return [stuck, *others]


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
async def test_tasks_that_were_moved_run_once(
    factory: WorkerFactory, log: Log, gate: Gate, mailbox: Mailbox
) -> None:
    async with WorkerPool(1, factory=factory, cancel_grace=0.05) as pool:
        stuck, *others = await behind_a_stuck_one(pool, log, gate, mailbox)
        stuck.cancel()
        assert await asyncio.gather(*others) == list(range(1, 41))
        await asyncio.wait([stuck])
        gate.open()  # the one that was given up goes on, and finds nothing to do
        assert await mailbox.next() == "over"
    await given_up_ended()
    ran = Counter(line for line in log.lines() if line != "-1")
    assert ran == {str(number): 1 for number in range(1, 41)}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
async def test_tasks_that_were_killed_never_run(
    factory: WorkerFactory, log: Log, gate: Gate, mailbox: Mailbox
) -> None:
    pool = WorkerPool(1, factory=factory)
    executions = await behind_a_stuck_one(pool, log, gate, mailbox)
    pool.kill()
    outcomes = await asyncio.gather(*executions, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {WorkerKilled}
    await pool.shutdown()
    gate.open()
    assert await mailbox.next() == "over"
    await given_up_ended()
    assert set(log.lines()) <= {"-1"}


@pytest.mark.parametrize("factory", ["thread", *(["interpreter"] if sys.version_info >= (3, 14) else [])])
def test_a_program_that_kills_its_pool_last_ends_well(factory: str, tmp_path: Path) -> None:
    program = f"""
        import asyncio
        from offloop import WorkerPool

        async def main():
            pool = WorkerPool(3, factory="{factory}")
            await asyncio.gather(*(pool.submit(asyncio.sleep, 0.01) for _ in range(3)))
            pool.kill()

        asyncio.run(main())
        """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def given_up_ended() -> None:
    """Wait until the threads that were given up have run out."""
    for thread in threading.enumerate():
        if thread.name.startswith("offloop-worker"):
            await asyncio.to_thread(thread.join, 20)


async def test_what_an_inline_worker_has_ended_is_not_run_again(log: Log) -> None:
    async def last() -> None:
        pool.kill()

    async with WorkerPool(1, factory=InlineWorkerFactory(concurrency=2)) as pool:
        first = pool.submit(tasks.append_line, log.path, "once")
        await asyncio.gather(first, pool.submit(last), return_exceptions=True)
    assert log.lines() == ["once"]
