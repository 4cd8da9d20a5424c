"""Large memory is unmapped by a thread, which the end of a pool waits for, and which ends with its work."""

from __future__ import annotations

import asyncio
import mmap
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support import arrays
from support.bounds import eventually
from support.scripts import run_script

from offloop import WorkerPool
from offloop.contexts import unmapping
from offloop.contexts.unmapping import LARGE, SPELL, unmap_aside, wait_unmapped
from offloop.shm import mapping

#: Bytes that go by segment.
SIZE = 2 << 20


class Memory:
    """In place of a mapping: closing it takes until it is let."""

    def __init__(self, size: int = LARGE) -> None:
        self.size = size
        self.may_close, self.closed = threading.Event(), threading.Event()
        self.thread = 0

    def __len__(self) -> int:
        return self.size

    def close(self) -> None:
        """As a mapping's."""
        self.thread = threading.get_ident()
        self.may_close.wait()
        self.closed.set()


def let_go(*memories: Any) -> None:
    """Unmap these."""
    for memory in memories:
        unmap_aside(memory)


async def test_large_memory_is_unmapped_elsewhere_and_that_can_be_awaited() -> None:
    first, second = Memory(), Memory()
    let_go(first, second)
    waiting = asyncio.ensure_future(wait_unmapped())
    first.may_close.set()
    await eventually(lambda: bool(second.thread))
    assert first.closed.is_set()
    assert not waiting.done()
    second.may_close.set()
    await waiting
    assert second.closed.is_set()
    assert threading.get_ident() not in (first.thread, second.thread)


async def test_there_is_nothing_to_wait_for_once_all_is_unmapped() -> None:
    let_go(memory := Memory())
    memory.may_close.set()
    await wait_unmapped()
    await asyncio.wait_for(wait_unmapped(), 60)
    let_go(again := Memory())
    again.may_close.set()
    await wait_unmapped()
    assert again.closed.is_set()


async def test_who_stops_waiting_is_not_told() -> None:
    let_go(memory := Memory())
    given_up, patient = asyncio.ensure_future(wait_unmapped()), asyncio.ensure_future(wait_unmapped())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    memory.may_close.set()
    await patient


def test_a_loop_that_was_closed_meanwhile_is_not_told() -> None:
    let_go(memory := Memory())

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_unmapped(), 0.001)
        unmapping._waiting.append((asyncio.get_running_loop(), asyncio.get_running_loop().create_future()))

    asyncio.run(give_up())
    memory.may_close.set()
    let_go(another := Memory())  # the thread goes on
    another.may_close.set()
    asyncio.run(wait_unmapped())
    assert another.closed.is_set()


async def test_many_small_ones_take_as_long_as_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(unmapping, "monotonic", lambda: now)
    monkeypatch.setattr(unmapping, "_spell_began", now - 2 * SPELL)
    memories = [Memory(LARGE // 4) for _ in range(6)]
    for memory in memories:
        memory.may_close.set()
    let_go(*memories[:5])
    await wait_unmapped()
    here = threading.get_ident()
    assert [memory.thread == here for memory in memories[:5]] == [True, True, True, False, False]
    now += 2 * SPELL
    let_go(memories[5])
    assert memories[5].thread == here, "the next spell"


def test_what_is_small_or_finds_no_thread_is_unmapped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(unmapping, "_spell_began", 0.0)  # whatever other tests have unmapped
    small = Memory(LARGE - 1)
    small.may_close.set()
    let_go(small)
    assert small.thread == threading.get_ident()
    monkeypatch.setattr(unmapping._thread, "start_new_thread", refuse)
    large = Memory()
    large.may_close.set()
    let_go(large)
    assert large.thread == threading.get_ident()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")
async def test_a_worker_s_segments_are_unmapped_aside_and_a_pool_s_end_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []

    def unmap(memory: mmap.mmap) -> None:
        threads.append(threading.get_ident())
        memory.close()

    monkeypatch.setattr(unmapping, "LARGE", SIZE)
    monkeypatch.setattr(mapping, "unmap_now", unmap)
    async with WorkerPool(1) as pool:
        await pool.submit(len, bytes(SIZE))
        assert len(await pool.submit(bytes, SIZE)) == SIZE
        assert arrays.segment_bytes() == 2 * SIZE, "a segment of each side's"
    assert arrays.segment_bytes() == 0
    assert len(threads) == 2
    assert threading.get_ident() not in threads


FORKED = """
import asyncio, os, threading
from offloop.contexts.unmapping import LARGE, unmap_aside, wait_unmapped

class Memory:
    def __init__(self):
        self.may_close, self.closed = threading.Event(), threading.Event()
    def __len__(self):
        return LARGE
    def close(self):
        self.may_close.wait()
        self.closed.set()

unmap_aside(held := Memory())
if not (child := os.fork()):
    asyncio.run(wait_unmapped())  # for nothing: the thread is the parent's
    unmap_aside(own := Memory())
    own.may_close.set()
    asyncio.run(wait_unmapped())
    os._exit(0 if own.closed.is_set() else 1)
status = os.waitpid(child, 0)[1]
held.may_close.set()
asyncio.run(wait_unmapped())
print(status, held.closed.is_set())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_unmaps_by_a_thread_of_its_own(tmp_path: Path) -> None:
    ran = run_script(FORKED, tmp_path)
    assert ran.stdout.split() == ["0", "True"], ran.stderr
