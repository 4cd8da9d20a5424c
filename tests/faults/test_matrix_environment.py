"""The matrix of what belongs to a worker rather than to a task: its start, its environment, its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from matrix import CONTEXTS, PROCESSES as DYING, Fault, Gives, Raises, innocent_tasks_succeed, matrix, survive
from support import hostile, spoiling, tasks
from support.bounds import eventually, wait_exit
from support.gates import Gate

from offloop import TaskFailed, WorkerCrashed, WorkerKilled, WorkerPool, WorkerStartError, handle
from offloop.contexts import framed_link
from offloop.shm.ledger import SLOTS

ALL = pytest.mark.parametrize("context", CONTEXTS)
PROCESSES = pytest.mark.parametrize("context", DYING)
#: A thread can't be ended.
abandons = pytest.mark.filterwarnings("ignore:.*abandon")


def cells(*hows: str) -> pytest.MarkDecorator:
    """Each of these ways to act, in each context where it can be survived."""
    fatal = ("dies", "segfaults")
    return pytest.mark.parametrize(
        ("context", "how"),
        [(context, how) for context in CONTEXTS for how in hows if context in DYING or how not in fatal],
    )


async def refuses_to_start(context: str, **options: Any) -> None:
    """A pool whose workers can't start says so, each time it is asked; another pool is not concerned."""
    factory = CONTEXTS[context](**options)
    async with WorkerPool(2, factory=factory) as pool, WorkerPool(1, factory=CONTEXTS[context]()) as other:
        for _ in range(2):
            with pytest.raises(WorkerStartError):
                await pool.submit(tasks.echo, 1)
        assert await other.submit(tasks.echo, 1) == 1


@cells("raises", "exits", "interrupts", "dies", "segfaults")
def test_a_bootstrap_that_fails_is_a_start_error(same_loop: Any, context: str, how: str) -> None:
    same_loop(refuses_to_start(context, bootstrap=hostile.ActingBootstrap(how)))


@cells("raises", "exits", "dies", "segfaults")
def test_an_environment_that_can_not_be_made_is_a_start_error(same_loop: Any, context: str, how: str) -> None:
    same_loop(refuses_to_start(context, environment=hostile.acting_environment(how)))


@ALL
def test_an_environment_that_is_none_is_a_start_error(same_loop: Any, context: str) -> None:
    same_loop(refuses_to_start(context, environment=dict))


@PROCESSES
def test_a_bootstrap_that_can_not_be_pickled_is_a_start_error(same_loop: Any, context: str) -> None:
    same_loop(refuses_to_start(context, bootstrap=hostile.LockedBootstrap()))


@ALL
@abandons
@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_bootstrap_that_hangs_holds_up_nobody_for_ever(
    same_loop: Any, gate: Gate, context: str, end: str
) -> None:
    async def hang() -> None:
        factory = CONTEXTS[context](bootstrap=hostile.HangingBootstrap(gate.path))
        pool = WorkerPool(1, factory=factory)
        execution = pool.submit(tasks.echo, 1)
        await gate.arrived()
        if end == "cancel":
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
        pool.kill()
        if end == "kill":
            with pytest.raises(WorkerKilled):
                await execution
        await pool.shutdown()
        gate.open()

    same_loop(hang())


def leaving(how: str) -> Callable[[WorkerPool], Any]:
    """Have an entry of the environment go whose callback acts."""

    async def cause(pool: WorkerPool) -> Any:
        await pool.enqueue(hostile.StoreThatActs(how))
        return await pool.enqueue(hostile.Forget())

    return cause


ON_DELETE = [
    Fault("on_delete raises", leaving("raises"), Gives(False)),
    Fault("on_delete exits", leaving("exits"), Raises(TaskFailed)),
    Fault("on_delete interrupts", leaving("interrupts"), Raises(TaskFailed)),
    *(
        Fault(f"on_delete {how}", leaving(how), Raises(WorkerCrashed), "any process", "lost")
        for how in ("dies", "segfaults")
    ),
]


@matrix(ON_DELETE)
def test_a_callback_of_an_entry_costs_at_most_the_task_that_drops_it(
    same_loop: Any, context: str, fault: Fault
) -> None:
    same_loop(survive(context, fault))


@cells("raises", "exits", "interrupts", "dies", "segfaults")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_fails_at_the_end_of_its_worker_holds_up_nobody(
    same_loop: Any, context: str, how: str
) -> None:
    async def recycle() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            before = await pool.submit(tasks.identity)
            await pool.enqueue(hostile.StoreThatActs(how))
            await pool.recycle()
            assert await pool.submit(tasks.identity) != before
            await pool.enqueue(hostile.StoreThatActs(how))

    same_loop(recycle())


@cells("raises", "exits", "interrupts", "dies")
@pytest.mark.parametrize("store", [hostile.StoreThatActs, hostile.StoreThatActsOnLoop])
@pytest.mark.parametrize("echo", [tasks.echo, tasks.aecho], ids=["without a loop", "on a loop"])
def test_a_callback_that_fails_while_its_worker_is_idle_holds_up_nobody(
    same_loop: Any, context: str, how: str, store: Any, echo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    is_survived = how != "dies"

    async def expire() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context](), cancel_grace=0.5) as pool:
            before = await pool.submit(tasks.identity)
            await pool.submit(echo, 1)
            await pool.enqueue(store(how, ttl=0.01))
            await eventually(lambda: "on_delete" in caplog.text if is_survived else pool.worker_count == 0)
            assert (await pool.submit(tasks.identity) == before) is is_survived
            await innocent_tasks_succeed(pool, blocking=False)

    same_loop(expire())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are to end get but little time for it."""
    monkeypatch.setattr(handle, "STOP_GRACE", 0.2)
    monkeypatch.setattr(framed_link, "EXIT_GRACE", 0.2)


LINGERING = {
    "an exit function": lambda pool: pool.submit(spoiling.hang_at_exit),
    "a thread": lambda pool: pool.submit(spoiling.start_thread_that_never_ends, daemon=False),
    "a callback": lambda pool: pool.enqueue(hostile.StoreThatActs("hangs")),
}


@PROCESSES
@pytest.mark.usefixtures("impatient")
@pytest.mark.filterwarnings("ignore:worker .* did not end:RuntimeWarning")
@pytest.mark.parametrize("what", LINGERING)
def test_what_hangs_at_the_end_of_a_worker_is_ended(same_loop: Any, context: str, what: str) -> None:
    async def end() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            pid = await pool.submit(os.getpid)
            await LINGERING[what](pool)
        assert wait_exit(pid, 0)

    same_loop(end())


@PROCESSES
@pytest.mark.usefixtures("impatient")
def test_what_hangs_at_the_end_of_a_worker_that_cannot_start_is_ended(same_loop: Any, context: str) -> None:
    async def start() -> None:
        bootstrap = hostile.NeverExitingBootstrap("raises")
        async with WorkerPool(1, factory=CONTEXTS[context](bootstrap=bootstrap)) as pool:
            with pytest.raises(WorkerStartError, match="hostile"):
                await pool.submit(os.getpid)

    same_loop(start())


@PROCESSES
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_worker_that_is_stopped_between_two_tasks_frees_the_next_one(
    same_loop: Any, context: str, how: str
) -> None:
    async def stop() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context](), cancel_grace=0.1) as pool:
            before = await pool.submit(os.getpid)
            os.kill(before, signal.SIGSTOP)
            execution = pool.submit(tasks.echo, 1)
            behind = pool.submit(os.getpid)
            if how == "cancel":
                await eventually(lambda: execution.worker_id is not None)
                execution.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await execution
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await execution
            assert await behind != before

    same_loop(stop())


@PROCESSES
def test_a_worker_that_is_stopped_before_it_notes_that_a_task_has_ended_frees_the_next_one(
    same_loop: Any, context: str
) -> None:
    async def stop() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context](), cancel_grace=0.1) as pool:
            ended = pool.submit(os.getpid)
            before = await ended
            os.kill(before, signal.SIGSTOP)
            await eventually(lambda: psutil.Process(before).status() == psutil.STATUS_STOPPED)
            (handle,) = pool._dispatcher.handles.values()
            handle.link.ledger.words[SLOTS] = ended.id  # type: ignore[attr-defined]
            execution = pool.submit(tasks.echo, 1)
            behind = pool.submit(os.getpid)
            await eventually(lambda: execution.worker_id is not None)
            execution.cancel()
            assert await behind != before
            assert execution.cancelled()

    same_loop(stop())


@PROCESSES
def test_a_task_that_forges_a_frame_can_still_be_cancelled(same_loop: Any, context: str) -> None:
    async def forge() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context](), cancel_grace=0.1) as pool:
            # More than the worker will say when it is cancelled, or that would be the task's forged result.
            execution = pool.submit(spoiling.write_frame_of, 10_000)
            behind = pool.submit(tasks.echo, 1)
            await eventually(lambda: execution.started_at is not None)
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
            assert await behind == 1

    same_loop(forge())


@ALL
@pytest.mark.parametrize("how", ["raises", "exits"])
def test_a_key_without_a_hash_is_the_callers_error(same_loop: Any, context: str, how: str) -> None:
    async def enqueue() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            with pytest.raises((ValueError, SystemExit)):
                pool.options(key=hostile.HostileHash(how)).submit(tasks.echo, 1)
            with pytest.raises(TypeError, match="unhashable"):
                pool.options(key=[]).submit(tasks.echo, 1)  # type: ignore[arg-type]
            assert pool.is_idle()
            assert await pool.submit(tasks.echo, 1) == 1

    same_loop(enqueue())


@ALL
def test_keys_that_can_not_be_compared_are_the_callers_error(same_loop: Any, context: str) -> None:
    async def enqueue() -> None:
        async with WorkerPool(2, factory=CONTEXTS[context]()) as pool:
            first = pool.options(key=hostile.HostileEq()).submit(tasks.echo, 1)
            with pytest.raises(RuntimeError, match="equal to nobody"):
                pool.options(key=hostile.HostileEq()).submit(tasks.echo, 2)
            assert await first == 1
            assert await pool.options(key="good").submit(tasks.echo, 3) == 3

    same_loop(enqueue())


@ALL
def test_a_task_without_its_run_is_the_callers_error(same_loop: Any, context: str) -> None:
    async def enqueue() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            with pytest.raises(RuntimeError, match="no run for you"):
                pool.enqueue(hostile.HasHostileRun())
            assert pool.is_idle()

    same_loop(enqueue())


def test_a_working_directory_that_is_gone_is_a_start_error(same_loop: Any, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    options = {"cwd": str(gone)}

    async def start() -> None:
        factory = CONTEXTS["process"](**options)
        gone.rmdir()
        async with WorkerPool(1, factory=factory) as pool:
            with pytest.raises(WorkerStartError):
                await pool.submit(tasks.echo, 1)

    same_loop(start())
