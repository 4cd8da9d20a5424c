"""Those who wait until a queue with a limit has room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher


class Room:
    """What a dispatcher's queue has room for, and who waits for it.

    Args:
        limit: how many tasks may wait, or None.
        capacity: how many may run, at the most.
    """

    def __init__(self, limit: int | None, capacity: int) -> None:
        self.limit = limit
        #: How many executions there may be that have not ended, or None.
        self.most = None if limit is None else limit + capacity
        self.waiters: list[asyncio.Future[None]] = []

    def is_left(self, outstanding: int) -> bool:
        """Whether there is room for another task beside that many."""
        return self.most is None or outstanding < self.most

    async def wait(self, dispatcher: Dispatcher) -> None:
        """Wait until ``enqueue`` would not raise `QueueFull`.

        Raises:
            StatusError: the dispatcher takes no more tasks, now or meanwhile.
        """
        loop = dispatcher.bind()
        while dispatcher.is_open and not self.is_left(dispatcher.outstanding):
            waiter = loop.create_future()
            self.waiters.append(waiter)
            await waiter
        if not dispatcher.is_open:
            dispatcher.refuse()

    def announce(self, dispatcher: Dispatcher) -> None:
        """Wake those who wait, if there is room, or never will be."""
        if dispatcher.is_open and not self.is_left(dispatcher.outstanding):
            return
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
