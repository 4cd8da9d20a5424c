"""Waiting for a change, on an event loop: by as many as want to."""

from __future__ import annotations

import asyncio


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
