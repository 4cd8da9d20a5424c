"""Waiting for a change, on an event loop: by one, or by as many as want to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from offloop.reentry import InUseError


class Changes:
    """Wakes everybody who waits for something to change; each then looks for themselves.

    Nobody who is cancelled while waiting takes anything from the others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait for the next `announce`."""
        if self._next is None:
            self._next = self._loop.create_future()
        await asyncio.shield(self._next)

    def announce(self) -> None:
        """Wake everybody who waits now."""
        if self._next is not None:
            self._next.set_result(None)
            self._next = None


class Signal:
    """Wakes the one coroutine that waits for a condition which may have come true.

    Args:
        in_use: said to another one that would wait.
    """

    __slots__ = ("_in_use", "_waiter")

    def __init__(self, in_use: str = "somebody waits for this already") -> None:
        self._in_use = in_use
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Have the waiter look at its condition again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def check_unused(self) -> None:
        """Raise `InUseError` if somebody waits."""
        if self._waiter is not None:
            raise InUseError(self._in_use)

    async def wait_until(self, condition: Callable[[], object]) -> None:
        """Return when the condition holds, at once if it does now.

        Raises:
            InUseError: somebody waits already.
        """
        while not condition():
            self.check_unused()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
