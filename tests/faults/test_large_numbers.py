"""Large messages, long queues, many deaths, many pools: by default in small, with ``--in-full`` in full."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from matrix import CONTEXTS
from support import tasks
from support.bounds import eventually
from support.gates import Gate

from offloop import SerializationError, WorkerCrashed, WorkerPool

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Audit:
    """What this process has, as /proc tells."""

    descriptors: int
    threads: int
    zombies: int
    rss: int

    @classmethod
    def take(cls) -> Audit:
        gc.collect()
        me = psutil.Process()
        zombies = [child for child in me.children() if child.status() == psutil.STATUS_ZOMBIE]
        return cls(me.num_fds(), threading.active_count(), len(zombies), me.memory_info().rss)

    def check_flat(self, later: Audit) -> None:
        """Nothing has become more since, and memory not by much."""
        assert later.descriptors <= self.descriptors
        assert later.threads <= self.threads
        assert later.zombies <= self.zombies
        assert later.rss - self.rss < 32 * MIB


@pytest.fixture
def in_full(request: pytest.FixtureRequest) -> bool:
    """Whether to do all of it."""
    return bool(request.config.getoption("--in-full"))


@pytest.fixture
def run_long(run_loop: Any, in_full: bool, request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Runs a coroutine, in full for as long as it takes."""
    return lambda coroutine: run_loop(coroutine, 3600.0 if in_full else 60.0)


def zeros(size: int) -> bytes:
    """A large result, of pages that nobody has touched."""
    return bytes(size)


@pytest.mark.parametrize("size", [2 * GIB + 1, 4 * GIB + 1], ids=["over 2 GiB", "over 4 GiB"])
def test_a_message_of_any_size_comes_through_whole(run_long: Any, in_full: bool, size: int) -> None:
    size = size if in_full else size // 64

    async def send() -> None:
        async with WorkerPool(1) as pool:
            assert await pool.submit(len, bytes(size)) == size
            result = await pool.submit(zeros, size)
            assert len(result) == size
            del result
            assert await pool.submit(tasks.echo, 1) == 1

    run_long(send())


@pytest.mark.parametrize("context", ["process", "thread"])
def test_a_long_queue_behind_a_slow_worker_is_in_order_and_linear(
    run_long: Any, in_full: bool, gate: Gate, context: str
) -> None:
    count = 1_000_000 if in_full else 10_000

    async def queue() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            held = pool.submit(tasks.pass_gate, gate.path)
            await gate.arrived()
            before = Audit.take()
            counted = [pool.enqueue(tasks.Count()) for _ in range(count)]
            await asyncio.sleep(0)
            assert Audit.take().rss - before.rss < 2048 * count + 16 * MIB
            gate.open()
            await held
            assert await asyncio.gather(*counted) == list(range(1, count + 1))

    run_long(queue())


@pytest.mark.parametrize("context", ["process", "exec"])
def test_after_many_deaths_there_is_no_more_than_before(run_long: Any, in_full: bool, context: str) -> None:
    count = 1000 if in_full else 8

    async def die() -> None:
        async with WorkerPool(2, min_workers=2, factory=CONTEXTS[context]()) as pool:
            audits = []
            for deaths in (4, count):
                for _ in range(deaths):
                    crashing, good = pool.submit(os._exit, 1), pool.submit(tasks.echo, "good")
                    with pytest.raises(WorkerCrashed):
                        await crashing
                    assert await good == "good"
                await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(10)))
                # Each worker has descriptors, and one that starts or ends has others.
                await eventually(lambda: pool.worker_count == pool.idle_worker_count == 2)
                audits.append(Audit.take())
            audits[0].check_flat(audits[1])
            assert pool.statistics().crashes == 4 + count

    run_long(die())


@pytest.mark.parametrize("context", ["process", "thread"])
def test_after_many_pools_there_is_no_more_than_before(run_long: Any, in_full: bool, context: str) -> None:
    count = 1000 if in_full else 8

    async def live() -> None:
        audits = []
        threads = threading.active_count()
        for pools in (2, count):
            for number in range(pools):
                pool = WorkerPool(2, factory=CONTEXTS[context]())
                assert await pool.submit(tasks.aecho, number) == number
                if number % 2:
                    pool.kill()
                await pool.shutdown()
            await eventually(lambda: threading.active_count() == threads)  # nobody waits for a killed one
            audits.append(Audit.take())
        audits[0].check_flat(audits[1])

    run_long(live())


def test_a_thousand_bad_messages_leave_nothing(run_long: Any, in_full: bool) -> None:
    count = 1000 if in_full else 30

    async def send() -> None:
        async with WorkerPool(1) as pool:
            audits = []
            for times in (10, count):
                for _ in range(times):
                    with pytest.raises(SerializationError):
                        await pool.submit(len, [tasks.Stubborn(), bytes(MIB)])
                    with pytest.raises(SerializationError):
                        await pool.submit(zeros_and_lock, MIB)
                audits.append(Audit.take())
            audits[0].check_flat(audits[1])

    run_long(send())


def zeros_and_lock(size: int) -> Any:
    """A large result that can't be pickled."""
    return bytes(size), threading.Lock()


def test_files_are_left_nowhere(run_long: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    shared = Path("/dev/shm")
    before = set(shared.iterdir()) if shared.is_dir() else set()

    async def use() -> None:
        async with WorkerPool(2) as pool:
            assert len(await pool.submit(zeros, 8 * MIB)) == 8 * MIB
            with pytest.raises(WorkerCrashed):
                await pool.submit(os._exit, 1)

    run_long(use())
    assert not list(tmp_path.iterdir())
    if shared.is_dir():
        assert not [path for path in set(shared.iterdir()) - before if path.name.startswith("offloop")]
