"""A task with a high priority goes before what a worker holds in advance."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from support import faulty
from support.gates import Gate, Log, Mailbox

from offloop import CallableTask, WorkerPool
from offloop.scheduling.prefetch import BEARABLE


@pytest.mark.parametrize("factory", ["process", "thread"])
async def test_it_runs_before_less_urgent_ones_that_were_sent_and_have_not_begun(
    factory: str, log: Log, gate: Gate, mailbox: Mailbox
) -> None:
    def note(number: int) -> CallableTask[int]:
        return CallableTask(faulty.wait_or_note, log.path, number)

    async with WorkerPool(1, factory=factory) as pool:
        await asyncio.gather(*(pool.enqueue(note(-1)) for _ in range(300)))  # known to be short
        first = pool.submit(faulty.wait_or_note, log.path, 0, gate.path, mailbox.path)
        others = [pool.enqueue(note(number)) for number in range(1, 21)]
        await gate.arrived()
        (handle,) = pool._dispatcher.handles.values()
        assert len(handle.state.hand) > 1  # as many as an estimate allows
        while monotonic() < handle.state.progress + 2 * BEARABLE:  # it takes longer than was expected
            await asyncio.sleep(BEARABLE)
        urgent = pool.enqueue(note(99), priority=1)
        while len(handle.state.hand) > 1:  # what it was sent comes back
            await asyncio.sleep(0)
        gate.open()
        assert await asyncio.gather(first, urgent, *others) == [0, 99, *range(1, 21)]
    assert [line for line in log.lines() if line != "-1"] == ["99", *map(str, range(1, 21))]
