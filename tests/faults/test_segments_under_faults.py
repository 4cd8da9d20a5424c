"""Large payloads while workers die, descriptors run out and memory is refused."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import arrays
from support.bounds import eventually, wait_exit
from support.gates import Gate, Mailbox

from offloop import ProcessWorkerFactory, SerializationError, WorkerCrashed, WorkerKilled, WorkerPool
from offloop.child import exchange
from offloop.child.layout import Copy
from offloop.contexts import lending, outbox
from offloop.scheduling import prefetch
from offloop.shm import segments

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

SIZE = 2 << 20
HUGE = 300 << 20


def same(got: Any, start: int = 0, size: int = SIZE) -> bool:
    """Whether an array is the one that `arrays.numbers` makes."""
    return bool(np.array_equal(got, arrays.numbers(size, start)))


@pytest.fixture
def slow_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent copies 16 KiB in a turn of its event loop."""
    monkeypatch.setattr(outbox, "BUDGET", -1.0)
    monkeypatch.setattr(outbox, "SLICE", 1 << 14)


@pytest.fixture
def tidy(monkeypatch: pytest.MonkeyPatch) -> ProcessWorkerFactory:
    """Nothing that is free is kept, here and in the workers of the factory; it is looked for often."""
    monkeypatch.setattr(lending, "TIDY_AFTER", 0.02)
    monkeypatch.setattr(segments, "IDLE", 0.0)
    return ProcessWorkerFactory(bootstrap=arrays.SetIdle(0.0))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent gets no memory for segments."""
    create = os.memfd_create

    def memfd_create(name: str, *flags: int) -> int:
        if name == "offloop-segment":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return create(name, *flags)

    monkeypatch.setattr(exchange, "_warned", False)
    monkeypatch.setattr(os, "memfd_create", memfd_create)


@pytest.fixture
def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test, the parent may open files again."""
    monkeypatch.setattr(exchange, "_warned", False)
    yield
    arrays.free_descriptors()


async def crash(execution: Any, pid: int) -> None:
    """Kill the worker that runs something, which fails for it."""
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashed, match="SIGKILL"):
        await execution


def ledgers() -> int:
    """How many descriptors of workers' ledgers there are: one a worker, and another while it is started."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += "offloop-ledger" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor that listed the others
            continue
    return found


# --- death -----------------------------------------------------------------------------------------


async def test_a_worker_killed_while_it_holds_loans_takes_nothing_with_it(gate: Gate) -> None:
    array = arrays.numbers(SIZE)
    async with WorkerPool(1) as pool:
        held = pool.submit(arrays.hold_at_gate, gate.path, array)
        (pid,) = await gate.arrived()
        behind = pool.submit(arrays.echo, arrays.numbers(SIZE, 1))
        await crash(held, pid)
        assert same(await behind, 1)
        assert same(array)


async def test_a_task_whose_worker_is_killed_gets_its_arguments_again(gate: Gate) -> None:
    async with WorkerPool(1) as pool:
        execution = pool.options(retries=1).submit(arrays.hold_at_gate, gate.path, arrays.numbers(SIZE))
        (pid,) = await gate.arrived()
        os.kill(pid, signal.SIGKILL)
        await gate.arrived()
        gate.open()
        assert await execution == arrays.total(arrays.numbers(SIZE))


async def test_a_worker_killed_while_it_writes_a_huge_result_is_a_crash(mailbox: Mailbox) -> None:
    factory = ProcessWorkerFactory(bootstrap=arrays.StopHalfway(mailbox.path))
    async with WorkerPool(1, factory=factory) as pool:
        execution = pool.submit(np.ones, HUGE, np.uint8)
        await crash(execution, int(await mailbox.next()))
        await eventually(lambda: arrays.segment_bytes() == 0)
        assert await pool.submit(os.getpid) > 0


@pytest.mark.usefixtures("slow_copies")
async def test_a_worker_killed_while_the_parent_copies_its_arguments_loses_no_task() -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        execution = pool.submit(arrays.echo, arrays.numbers(SIZE))
        for _ in range(5):
            await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert same(await execution)


@pytest.mark.parametrize("made_by", ["worker", "parent"])
async def test_results_outlive_the_worker_that_was_killed(made_by: str) -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        if made_by == "worker":
            got = await pool.submit(arrays.numbers, SIZE)
        else:
            got = await pool.submit(arrays.echo, arrays.numbers(SIZE))
        part = got[1000:2000]
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.to_thread(wait_exit, pid, 20)
        assert await pool.submit(os.getpid) != pid
        assert same(await pool.submit(arrays.echo, arrays.numbers(SIZE, 1)), 1)
    assert same(got)
    del got
    gc.collect()
    assert (part == arrays.numbers(SIZE)[1000:2000]).all()
    part[:] = 0


@pytest.mark.usefixtures("slow_copies")
async def test_a_pool_killed_while_it_copies_lets_go_of_everything() -> None:
    pool = WorkerPool(2)
    await asyncio.gather(*(pool.submit(os.getpid) for _ in range(2)))
    array = bytearray(SIZE)
    executions = [pool.submit(arrays.echo, array) for _ in range(4)]
    for _ in range(5):
        await asyncio.sleep(0)
    pool.kill()
    for outcome in await asyncio.gather(*executions, return_exceptions=True):
        assert isinstance(outcome, WorkerKilled)
    await pool.shutdown()
    array.clear()  # which is refused while anything holds its memory


@pytest.mark.usefixtures("slow_copies")
async def test_a_pool_shut_down_while_it_copies_finishes_first() -> None:
    pool = WorkerPool(2)
    executions = [pool.submit(arrays.echo, arrays.numbers(SIZE, n)) for n in range(4)]
    assert await pool.shutdown() == 0
    assert all(same(execution.result(), n) for n, execution in enumerate(executions))


def test_results_outlive_the_event_loop_of_a_pool_that_was_forgotten(run_loop: Any) -> None:
    async def go() -> Any:
        pool = WorkerPool(1)
        got = await pool.submit(arrays.numbers, SIZE)
        pool.kill()
        await pool.shutdown()
        return got

    got = run_loop(go())
    assert same(got)


# --- no memory, no descriptors ---------------------------------------------------------------------


@pytest.mark.usefixtures("refused")
async def test_a_parent_without_shared_memory_warns_once_and_sends_the_slow_way() -> None:
    async with WorkerPool(2) as pool:
        with pytest.warns(RuntimeWarning, match="slowly") as caught:
            got = await asyncio.gather(
                *(pool.submit(arrays.echo, arrays.numbers(SIZE, n)) for n in range(4)),
                *(pool.submit(arrays.part, arrays.numbers(SIZE, n), 0, SIZE) for n in range(4, 8)),
            )
    assert len(caught) == 1
    assert all(same(value, n) for n, value in enumerate(got))
    got[0][:] = 1


async def test_a_worker_without_shared_memory_warns_once_and_sends_the_slow_way() -> None:
    with pytest.warns(RuntimeWarning, match="slowly") as caught:  # noqa: PT031
        async with WorkerPool(1, factory=ProcessWorkerFactory(bootstrap=arrays.Refuse())) as pool:
            for start in range(3):
                assert same(await pool.submit(arrays.numbers, SIZE, start), start)
                assert same(await pool.submit(arrays.keep, arrays.numbers(SIZE, start)), start)
    assert len(caught) == 1


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("echo", [arrays.echo, arrays.aecho])
async def test_what_a_worker_has_no_room_for_fails_its_task_alone(echo: Any) -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(echo, 0)
        worker = await pool.submit(arrays.leave_room, 16 << 20)
        executions = [pool.submit(echo, np.zeros(64 << 20, np.uint8)), pool.submit(os.getpid)]
        with pytest.warns(RuntimeWarning, match="slowly"):
            lost, behind = await asyncio.gather(*executions, return_exceptions=True)
        assert isinstance(lost, SerializationError)
        assert "no room for its" in str(lost)
        assert behind == worker


async def test_the_memory_of_one_task_is_there_for_the_next() -> None:
    async with WorkerPool(1) as pool:
        for start in range(20):
            assert await pool.submit(arrays.total, arrays.numbers(SIZE))
            assert same(await pool.submit(arrays.numbers, SIZE, start), start)
        assert arrays.segment_bytes() == 2 * SIZE, "one segment of the parent's, and one of the worker's"


@pytest.mark.usefixtures("no_descriptors")
async def test_a_parent_out_of_descriptors_fails_what_it_cannot_take_and_recovers() -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        await eventually(lambda: ledgers() == 1)
        arrays.use_up_descriptors()
        with pytest.warns(RuntimeWarning, match="slowly"):
            assert await pool.submit(arrays.total, arrays.numbers(SIZE)) == arrays.total(arrays.numbers(SIZE))
        with pytest.raises(SerializationError, match=r"(?i)too many open files"):  # also for the code of it
            await pool.submit(arrays.numbers, SIZE)
        arrays.free_descriptors()
        assert same(await pool.submit(arrays.numbers, SIZE))
        assert same(await pool.submit(arrays.echo, arrays.numbers(SIZE)))
        assert await pool.submit(os.getpid) == pid


async def test_descriptors_stay_as_many_over_many_large_tasks() -> None:
    async with WorkerPool(1) as pool:
        kept = [await pool.submit(arrays.echo, arrays.numbers(SIZE))]
        await eventually(lambda: ledgers() == 1)
        here, there = arrays.open_descriptors(), await pool.submit(arrays.open_descriptors)
        for start in range(100):
            got = await pool.submit(arrays.numbers, 1 << 19, start)
            assert await pool.submit(arrays.total, got) == arrays.total(got)
            if start % 3 == 0:
                kept.append(got)
                kept.append(await pool.submit(arrays.keep, got))
        assert arrays.open_descriptors() == here
        assert await pool.submit(arrays.open_descriptors) == there


async def test_descriptors_stay_as_many_over_many_pools() -> None:
    before = None
    kept = []
    for start in range(6):
        async with WorkerPool(1) as pool:
            kept.append(await pool.submit(arrays.echo, arrays.numbers(SIZE, start)))
            kept.append(await pool.submit(arrays.numbers, SIZE, start))
        before = before or arrays.open_descriptors()
    assert arrays.open_descriptors() == before
    assert all(same(got, n // 2) for n, got in enumerate(kept))


# --- memory given back -----------------------------------------------------------------------------


async def nothing_mapped(pool: WorkerPool) -> None:
    """Wait until neither side has a segment."""
    await eventually(lambda: arrays.segment_bytes() == 0)
    async with asyncio.timeout(20):
        while await pool.submit(arrays.segment_bytes):
            await asyncio.sleep(0.01)


async def test_memory_is_given_back_when_the_results_have_died(tidy: ProcessWorkerFactory) -> None:
    async with WorkerPool(1, factory=tidy) as pool:
        kept = [
            await pool.submit(arrays.numbers, SIZE),
            await pool.submit(arrays.echo, arrays.numbers(SIZE, 1)),
            await pool.submit(arrays.keep, arrays.numbers(SIZE, 2)),
        ]
        assert arrays.segment_bytes() >= 3 * SIZE
        assert all(same(value, n) for n, value in enumerate(kept))
        kept.clear()
        gc.collect()
        await pool.submit(arrays.let_go)
        await nothing_mapped(pool)
        assert same(await pool.submit(arrays.echo, arrays.numbers(SIZE)))


async def test_memory_is_kept_while_it_is_warm() -> None:
    async with WorkerPool(1) as pool:
        for _ in range(5):
            assert same(await pool.submit(arrays.numbers, SIZE))
        assert SIZE <= arrays.segment_bytes() < 4 * SIZE


async def test_memory_of_tasks_that_never_started_is_given_back(
    tidy: ProcessWorkerFactory, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "TARGET", float("inf"))  # everything is sent ahead
    async with WorkerPool(1, factory=tidy) as pool:
        await pool.submit(os.getpid)
        held = pool.submit(arrays.hold_at_gate, gate.path, arrays.numbers(SIZE))
        behind = [pool.submit(arrays.echo, arrays.numbers(SIZE)) for _ in range(3)]
        await gate.arrived()
        await eventually(lambda: arrays.segment_bytes() >= 2 * SIZE)
        for execution in behind:
            execution.cancel()
        await asyncio.wait(behind)
        assert all(execution.cancelled() for execution in behind)
        gate.open()
        await held
        await nothing_mapped(pool)


async def test_memory_of_tasks_that_cannot_be_loaded_is_given_back(
    tidy: ProcessWorkerFactory, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"import os\nif os.getpid() != {os.getpid()}:\n    raise ImportError('not here')\n"
    (tmp_path / "stays_here.py").write_text(source + "def total(array):\n    return 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    import stays_here  # type: ignore[import-not-found]

    async with WorkerPool(1, factory=tidy) as pool:
        for _ in range(2):
            with pytest.raises(SerializationError, match="not here"):
                await pool.submit(stays_here.total, arrays.numbers(SIZE))
        await nothing_mapped(pool)


@pytest.mark.parametrize("function", ["fail_with", "hold_at_gate"])
async def test_memory_of_tasks_that_failed_is_given_back(
    tidy: ProcessWorkerFactory, function: str, gate: Gate
) -> None:
    async with WorkerPool(1, factory=tidy) as pool:
        if function == "fail_with":
            with pytest.raises(ValueError, match="bytes"):
                await pool.submit(arrays.fail_with, arrays.numbers(SIZE))
        else:
            held = pool.submit(arrays.hold_at_gate, gate.path, arrays.numbers(SIZE))
            await gate.arrived()
            held.cancel()
            await asyncio.wait([held])
        await nothing_mapped(pool)


async def test_a_process_that_a_task_forks_keeps_its_arguments_as_they_were(gate: Gate) -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(arrays.fork_and_watch, gate.path, arrays.numbers(SIZE))
        await gate.arrived()
        for start in range(1, 6):
            assert await pool.submit(arrays.total, arrays.numbers(SIZE, start)) == arrays.total(
                arrays.numbers(SIZE, start)
            )
        gate.open()
        assert await pool.submit(arrays.wait_for, pid) == 0


# --- the event loop --------------------------------------------------------------------------------


async def test_the_event_loop_turns_between_the_slices_of_a_large_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "BUDGET", -1.0)
    turns, seen = 0, []
    advance = Copy.advance

    def watched(copy: Copy, size: int) -> bool:
        seen.append(turns)
        return advance(copy, size)

    monkeypatch.setattr(Copy, "advance", watched)
    array = np.ones(100 << 20, np.uint8)
    async with WorkerPool(1) as pool:
        execution = pool.submit(arrays.total, array)
        while not execution.done():
            await asyncio.sleep(0)
            turns += 1
        assert await execution == array.size
    assert len(seen) == array.size // outbox.SLICE >= 100
    assert len(set(seen)) == len(seen), "each slice in a turn of its own"
