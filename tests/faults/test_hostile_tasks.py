"""Tasks that do their worst to their own worker: it costs them, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.bounds import eventually
from support.gates import Gate
from support.signals import pass_gate

from offloop import (
    CallableTask,
    Environment,
    ProcessWorkerFactory,
    SerializationError,
    StatusError,
    WorkerCrashed,
    WorkerPool,
    WorkerStartError,
    current_task,
)


def write_garbage_everywhere() -> None:
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(fd, b"\xff" * 1000)
    time.sleep(60)


def close_everything() -> None:
    os.closerange(3, 256)
    time.sleep(60)


def close_everything_and_return() -> str:
    os.closerange(3, 256)
    return "kept"


def take_the_voice_and_report() -> str:
    """Close the descriptor on which the worker says things, and have it say one."""
    context: Any = current_task()
    os.close(context._runner.port.voice._outlet._sock.fileno())
    context.report(1)
    return "not heard"


def lose_the_ledger_and_wait(gate: str) -> None:
    """Close the descriptors of the page that is shared with the parent."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "offloop-ledger" in os.readlink(f"/proc/self/fd/{name}"):
                os.close(int(name))
    pass_gate(gate)


def ignore_and_block() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(60)


def stop_oneself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def lose_the_first_signal(path: str) -> None:
    """Block in a system call, the interrupting signal having come just before it."""
    from offloop.child.control import INTERRUPT

    handler: Any = signal.getsignal(INTERRUPT)
    seen: list[int] = []

    def lose_once(number: int, frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            handler(number, frame)

    signal.signal(INTERRUPT, lose_once)
    try:
        Path(path).touch()
        time.sleep(60)
    except BaseException as error:
        Path(path).write_text(type(error).__name__)
        raise
    finally:
        signal.signal(INTERRUPT, handler)


def change_the_process() -> None:
    os.chdir("/")
    os.environ["PATH"] = ""
    sys.setrecursionlimit(5000)
    sys.path.clear()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pytest.mark.parametrize("task", [write_garbage_everywhere, close_everything, take_the_voice_and_report])
async def test_whoever_spoils_the_conversation_loses_its_worker(task: Any) -> None:
    async with WorkerPool(1) as pool:
        executions = [pool.submit(abs, -1), pool.submit(task), pool.submit(abs, -2)]
        done = await asyncio.gather(*executions, return_exceptions=True)
        assert done[0] == 1
        assert isinstance(done[1], WorkerCrashed)
        assert done[2] == 2


async def test_a_task_that_closes_everything_and_returns_ends_once_and_the_next_runs() -> None:
    async with WorkerPool(1) as pool:
        executions = [pool.submit(close_everything_and_return), pool.submit(abs, -2)]
        done = await asyncio.gather(*executions, return_exceptions=True)
        # The parent ends a worker that it can't hear any more; the task may be done by then.
        assert done[0] == "kept" or isinstance(done[0], WorkerCrashed)
        assert done[1] == 2


@pytest.mark.parametrize("task", [ignore_and_block, stop_oneself])
async def test_a_task_that_can_not_be_interrupted_is_ended_with_its_worker(task: Any) -> None:
    async with WorkerPool(1, cancel_grace=0.1) as pool:
        execution = pool.submit(task)
        await eventually(lambda: execution.started_at is not None)
        execution.cancel()
        with pytest.raises(asyncio.CancelledError):
            await execution
        assert await pool.submit(abs, -1) == 1


async def test_a_task_that_is_stopped_ends_by_its_timeout() -> None:
    async with WorkerPool(1, cancel_grace=0.1) as pool:
        with pytest.raises(TimeoutError):
            await pool.options(timeout=0.2).submit(stop_oneself)
        assert await pool.submit(abs, -1) == 1


async def test_a_signal_that_is_lost_is_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with WorkerPool(1, cancel_grace=30) as pool:
        worker = await pool.submit(os.getpid)
        execution = pool.submit(lose_the_first_signal, str(path))
        await eventually(path.exists)
        execution.cancel()
        with pytest.raises(asyncio.CancelledError):
            await execution
        assert path.read_text() == "TaskCancelled"
        assert await pool.submit(os.getpid) == worker


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the page has no name to find it by")
async def test_to_ask_where_a_task_is_does_it_no_harm_whatever_it_closed(gate: Gate) -> None:
    async with WorkerPool(1) as pool:
        execution = pool.submit(lose_the_ledger_and_wait, gate.path)
        await gate.arrived()
        assert "lose_the_ledger_and_wait" in await execution.stack()
        gate.open()
        assert await execution is None


async def test_what_a_task_changes_in_its_process_does_not_break_the_next() -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(change_the_process)
        assert await pool.submit(abs, -1) == 1


async def test_a_leased_worker_that_dies_takes_its_tasks_with_it_retries_or_not() -> None:
    async with WorkerPool(1) as pool, pool.get_worker() as worker:
        with pytest.raises(WorkerCrashed):
            await worker.enqueue(CallableTask(os._exit, 1), retries=3)
        assert not worker.is_running()
        with pytest.raises(StatusError):
            worker.submit(abs, -1)


def append_and_fail(environment: Environment) -> None:
    with open(os.environ["OFFLOOP_TEST_LOG"], "a") as log:
        log.write("started\n")
    raise RuntimeError("not today")


async def test_workers_that_are_always_to_be_there_are_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("OFFLOOP_TEST_LOG", str(log))
    factory = ProcessWorkerFactory(bootstrap=append_and_fail)
    async with WorkerPool(1, min_workers=1, factory=factory) as pool:
        with pytest.raises(WorkerStartError, match="not today"):
            await pool.submit(abs, -1)
        await eventually(lambda: pool.worker_count == 0)
        assert log.read_text().count("started") == 3


class DiesWhenLoaded:
    def __reduce__(self) -> Any:
        return os._exit, (5,)


async def test_an_argument_that_ends_the_worker_as_it_is_loaded_costs_its_task_alone() -> None:
    async with WorkerPool(1) as pool:
        executions = [pool.submit(abs, -1), pool.submit(repr, DiesWhenLoaded()), pool.submit(abs, -2)]
        done = await asyncio.gather(*executions, return_exceptions=True)
        assert (done[0], done[2]) == (1, 2)
        assert isinstance(done[1], WorkerCrashed)
        assert done[1].exit_code == 5


async def test_a_result_nested_too_deep_for_pickle_is_an_error_and_the_worker_lives_on() -> None:
    async with WorkerPool(1) as pool:
        worker = await pool.submit(os.getpid)
        with pytest.raises(SerializationError):
            await pool.submit(nested, 100_000)
        assert await pool.submit(os.getpid) == worker


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class Unnamed(type):
    """A class of classes that exit rather than say their name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            sys.exit(f"no {name}")
        return super().__getattribute__(name)


async def test_a_function_with_a_class_that_exits_when_asked_for_its_name_fails_alone() -> None:
    namespace: dict[str, Any] = {"__name__": "made_by_hand", "Silent": Unnamed("Silent", (), {})}
    exec("def function(): return Silent", namespace)
    async with WorkerPool(1) as pool:
        with pytest.raises(SerializationError, match="SystemExit"):
            await pool.submit(namespace["function"])  # the pool's first task, for which it looks ahead
        assert await pool.submit(abs, -1) == 1
