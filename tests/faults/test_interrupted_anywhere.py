"""A cancellation by a signal handler or a finaliser: it comes between any two lines of the parent's code."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

import pytest
from support.bounds import fail_after

from offloop import Execution, WorkerPool


class Interruption:
    """Calls something at a line of this package's code, as a signal handler would be."""

    def __init__(self, line: int, call: Callable[[], object]) -> None:
        self.left = line
        self._call = call
        self._before = sys.gettrace()

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith("offloop."):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self._call()
        return self._trace


async def wait_for_three(pool: WorkerPool) -> list[int]:
    return await asyncio.gather(*(pool.submit(abs, -number) for number in range(3)))


#: How many processes share the lines.
PARTS = 3


async def cancel_at_every_line(kind: str, part: int) -> None:
    """Cancel a task at each of the lines of this part, one after the other."""
    async with WorkerPool(1, factory=kind) as pool:
        await wait_for_three(pool)
        for line in range(1 + part, 10_000, PARTS):
            awaiter = asyncio.create_task(wait_for_three(pool))
            asked: list[bool] = []
            with Interruption(line, lambda: asked.append(awaiter.cancel())) as interruption:  # noqa: B023
                await asyncio.wait([awaiter])
            if interruption.left > 0:
                assert awaiter.result() == [0, 1, 2]
                break
            assert awaiter.cancelled() == asked[0]
            await asyncio.wait([pool.submit(abs, 1)])
        else:
            pytest.fail("it never ended")
        async with fail_after(20):
            await pool.shutdown()
    assert pool._dispatcher.outstanding == 0
    assert not pool._dispatcher.scheduler.workers


@pytest.mark.parametrize("kind", ["process", "thread"])
@pytest.mark.parametrize("part", range(PARTS))
def test_a_task_cancelled_at_any_line_is_cancelled(kind: str, part: int) -> None:
    """As `asyncio.run` does it at Ctrl-C; each part takes another share of the lines.

    In a process of its own: CPython 3.11 can loop for ever when it traces code that ran hot before.
    """
    program = (
        f"import asyncio, sys; sys.path[:] = {sys.path!r}; import {__name__} as tests; "
        f"asyncio.run(tests.cancel_at_every_line({kind!r}, {part}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


class CancelsOnTheWay:
    """An argument that cancels an execution while it is pickled; so could a finaliser."""

    execution: Execution[Any]

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel

    def __reduce__(self) -> tuple[Any, ...]:
        self._cancel()
        return str, ("loaded",)


@pytest.mark.parametrize("which", ["itself", "the one before it", "the one behind it"])
async def test_a_task_may_cancel_one_while_it_is_pickled(which: str) -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(abs, 1)
        index = ["the one before it", "itself", "the one behind it"].index(which)
        executions: list[Execution[Any]] = []
        cancelling = CancelsOnTheWay(lambda: executions[index].cancel())
        executions += [pool.submit(str, 1), pool.submit(str, cancelling), pool.submit(str, 3)]
        done = await asyncio.gather(*executions, return_exceptions=True)
        others = [each for at, each in enumerate(done) if at != index]
        assert others == [each for at, each in enumerate(["1", "loaded", "3"]) if at != index]
        assert executions[index].cancelled() or done[index] == ["1", "loaded", "3"][index]
        assert await pool.submit(abs, -2) == 2


async def test_a_signal_handler_may_cancel_in_the_midst_of_the_pools_work() -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(abs, 1)
        executions: list[Execution[Any]] = []
        before = signal.signal(signal.SIGUSR1, lambda *_: executions[0].cancel())
        try:
            raising = CancelsOnTheWay(lambda: signal.raise_signal(signal.SIGUSR1))
            executions += [pool.submit(str, raising), pool.submit(str, 2)]
            async with fail_after(20):
                await asyncio.wait(executions)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert executions[0].cancelled() or executions[0].result() == "loaded"
        assert executions[1].result() == "2"
