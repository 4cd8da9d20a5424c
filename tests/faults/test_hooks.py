"""Objects of the caller's whose own code misbehaves where the parent asks, calls or frees them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import weakref
from math import inf
from typing import Any, NoReturn
from unittest.mock import Mock

import pytest
from support import tasks
from support.bounds import eventually
from support.gates import Gate

from offloop import Executor, ProcessWorkerFactory, WorkerKilled, WorkerPool, WorkerStartError


async def test_a_mock_which_has_any_attribute_is_called() -> None:
    async with WorkerPool(1, factory="thread") as pool:
        assert await pool.submit(Mock(return_value=3)) == 3


class Unequal:
    """A bootstrap that can't be compared, as an array can't, and kills its worker."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    def __call__(self, environment: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


async def test_a_bootstrap_that_can_not_be_compared_and_kills_its_worker_fails_the_task() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(bootstrap=Unequal())) as pool:
        with pytest.raises(WorkerStartError):
            await pool.submit(tasks.echo, 1)


class Unpicklable(str):
    __slots__ = ()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("not this")


@pytest.mark.parametrize("entry", [Unpicklable("/nowhere"), object(), None])
async def test_entries_of_the_path_that_can_not_be_pickled_are_left_out(
    entry: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd_entries() -> list[object]:
        return [each for each in sys.path if type(each) is not str]

    async with WorkerPool(1) as pool:
        assert await pool.submit(tasks.echo, 1) == 1
        monkeypatch.setattr(sys, "path", [*sys.path, entry, "/also nowhere"])
        assert await pool.submit(odd_entries) == []
        assert "/also nowhere" in await pool.submit(getattr, sys, "path")
    async with WorkerPool(1) as pool:
        assert await pool.submit(odd_entries) == []


class Killing:
    """Kills the pool while it is pickled."""

    pool: WorkerPool

    def __reduce__(self) -> NoReturn:
        self.pool.kill()
        raise ValueError("not this")


async def test_a_task_that_kills_its_pool_while_it_is_pickled_is_killed_with_the_others() -> None:
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
    Killing.pool = pool = WorkerPool(1)
    await pool.submit(tasks.echo, 1)
    executions = [pool.submit(tasks.echo, each) for each in (1, Killing(), 2)]
    outcomes = await asyncio.gather(*executions, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [WorkerKilled] * 3
    assert isinstance(await pool.shutdown(), int)
    assert failed == []


@pytest.mark.parametrize("factory", ["process", "thread"])
def test_a_callback_that_raises_and_a_log_handler_that_does_so_too_lose_nothing(factory: str) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> NoReturn:
            raise ValueError("no log")

    def fail(_: object) -> NoReturn:
        raise SystemExit("no callback")

    handler, logger = Raising(), logging.getLogger("offloop")
    logger.addHandler(handler)
    try:
        with Executor(1, factory=factory) as executor:
            first = executor.submit(tasks.identity)
            first.add_done_callback(fail)
            assert executor.submit(tasks.identity).result(20) == first.result(20)
    finally:
        logger.removeHandler(handler)


class UnhashableKind(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        return cls is other


class OfUnhashableKind(metaclass=UnhashableKind):
    pass


async def test_a_map_over_items_whose_class_can_not_be_hashed() -> None:
    async with WorkerPool(1, factory="thread") as pool:
        items = [OfUnhashableKind() for _ in range(3)]
        assert await pool.map(id, items) == [*map(id, items)]


async def test_a_lease_that_is_freed_amidst_anything_is_released_in_a_turn_of_its_own() -> None:
    async with WorkerPool(2, factory="thread") as pool:
        workers = pool._dispatcher.scheduler.workers
        lease = pool.get_worker()
        (number,) = workers
        del lease  # as the garbage collector may while somebody goes over the workers
        gc.collect()
        assert number in workers
        await eventually(lambda: number not in workers)


async def test_an_execution_that_was_cancelled_is_not_kept_for_its_grace(gate: Gate) -> None:
    async with WorkerPool(1, cancel_grace=inf) as pool:
        execution = pool.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        kept = weakref.ref(execution)
        execution.cancel()
        await asyncio.wait([execution])
        del execution
        assert await pool.submit(tasks.echo, 1) == 1
        gc.collect()
        assert kept() is None
