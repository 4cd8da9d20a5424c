"""Bounds on waiting: no test hangs, and none sleeps for luck."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

#: Seconds an async test may take: far above what any needs, on a slow and shared machine.
TEST_BOUND = 60.0

#: Seconds after `TEST_BOUND` until a test that does not even react to cancellation is torn down.
HANG_MARGIN = 15.0


class TestHungError(KeyboardInterrupt):
    """Raised by the alarm; only a `KeyboardInterrupt` gets out of an event loop's callbacks."""

    __test__ = False


@contextmanager
def hang_guard(seconds: float = TEST_BOUND + HANG_MARGIN) -> Iterator[None]:
    """Raise `TestHungError` in the main thread, again and again, once the bound has passed."""

    def on_alarm(number: int, frame: object) -> None:
        raise TestHungError(f"the test hung for {seconds} s")

    previous = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, HANG_MARGIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@asynccontextmanager
async def fail_after(seconds: float) -> AsyncIterator[None]:
    """Fail the test if the block takes longer; a `TimeoutError` of the block's own goes through."""
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        pytest.fail(f"not done after {seconds} s")


async def eventually(predicate: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is true that no event announces, such as a count going down."""
    async with fail_after(seconds):
        while not predicate():
            await asyncio.sleep(0.005)


def wait_exit(pid: int, seconds: float) -> bool:
    """Wait for the end of any process, without reaping it; returns whether it ended in time."""
    if not hasattr(os, "pidfd_open"):
        return (
            not psutil.wait_procs([psutil.Process(pid)], timeout=seconds)[1]
            if psutil.pid_exists(pid)
            else True
        )
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)


class LoopRunner:
    """Runs a coroutine as ``asyncio.run`` does, bounded, on the chosen kind of loop.

    What reaches the loop's exception handler (an exception that nobody
    retrieved, a callback that raised) is kept in ``errors``.
    """

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
        self.loop_factory = loop_factory
        self.errors: list[dict[str, Any]] = []

    def __call__(self, coroutine: Coroutine[Any, Any, Any], seconds: float = TEST_BOUND) -> Any:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: self.errors.append(context))
            return runner.run(self._bounded(coroutine, seconds))

    @staticmethod
    async def _bounded(coroutine: Coroutine[Any, Any, Any], seconds: float) -> Any:
        async with fail_after(seconds):
            return await coroutine
