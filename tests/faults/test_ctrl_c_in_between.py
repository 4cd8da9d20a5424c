"""A Ctrl-C that raises `KeyboardInterrupt` in the midst of what offloop does for its caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, NoReturn

import pytest
from support import tasks

from offloop import Executor, SerializationError, Stream, WorkerPool


class Interrupted:
    """Ctrl-C comes while it is pickled."""

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


def _run_interrupted(interrupted: Coroutine[Any, Any, None], go_on: Coroutine[Any, Any, None]) -> None:
    """Run the second on the event loop that a Ctrl-C has thrown the first one out of."""
    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupted)
    loop.run_until_complete(go_on)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.parametrize("position", [0, 2, 5])
def test_a_ctrl_c_while_a_task_is_pickled_costs_that_task_only(position: int) -> None:
    async def enqueue() -> None:
        await pool.submit(tasks.echo, 0)
        executions.extend(pool.submit(tasks.echo, number) for number in range(6))
        executions.insert(position, pool.submit(tasks.echo, Interrupted()))
        await asyncio.wait(executions)

    async def go_on() -> None:
        outcomes = await asyncio.gather(*executions, return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(error) for error in failed] == [SerializationError]
        assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == [*range(6)]
        assert await pool.submit(tasks.echo, 7) == 7
        await pool.shutdown()

    executions: list[Any] = []
    pool = WorkerPool(1)
    _run_interrupted(enqueue(), go_on())


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


class InterruptedLater:
    """Ctrl-C comes while it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _interrupt, ()


def make_interrupted() -> InterruptedLater:
    return InterruptedLater()


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_ctrl_c_while_a_result_is_unpickled_costs_that_result_only(is_stream: bool) -> None:
    async def enqueue() -> None:
        await pool.submit(tasks.echo, 0)
        executions.extend(pool.submit(tasks.echo, number) for number in range(20))
        if is_stream:
            streams.append(pool.stream(iter_interrupted))  # one that nobody can consume is closed
            executions.insert(3, streams[0].execution)
        else:
            executions.insert(3, pool.submit(make_interrupted))
        await asyncio.wait(executions)

    async def go_on() -> None:
        outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert outcomes[:3] + outcomes[4:] == [*range(20)]
        assert await pool.submit(tasks.echo, 7) == 7
        await pool.shutdown()

    executions: list[Any] = []
    streams: list[Stream[Any]] = []
    pool = WorkerPool(1)
    _run_interrupted(enqueue(), go_on())


def iter_interrupted() -> Iterator[InterruptedLater]:
    yield InterruptedLater()


@pytest.mark.parametrize("limit", [None, 3])
def test_a_ctrl_c_while_an_executor_s_thread_is_woken_leaves_it_working(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Executor(1, factory="thread", queue_limit=limit) as executor:
        assert executor.submit(tasks.echo, 1).result(20) == 1
        loop = executor._thread._loop
        assert loop is not None
        wake = loop.call_soon_threadsafe
        interrupts = iter([True])

        def interrupted(*arguments: Any, **keywords: Any) -> asyncio.Handle:
            if next(interrupts, False):
                raise KeyboardInterrupt
            return wake(*arguments, **keywords)

        monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(tasks.echo, 2)
        for number in range(9):
            assert executor.submit(tasks.echo, number).result(20) == number


def test_a_ctrl_c_while_an_executor_starts_its_thread_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        began(thread)
        if thread.name == "offloop-executor" and not started:
            started.append(thread)
            raise KeyboardInterrupt  # as it may come while `start` waits for the thread

    began = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    with Executor(1, factory="thread") as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(tasks.echo, 1)
        started[0].join(20)
        assert not started[0].is_alive()
        assert executor.submit(tasks.echo, 2).result(20) == 2
