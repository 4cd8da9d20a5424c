"""Those who wait until a queue with a limit has room, or for the end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from offloop.errors import OffloopError, QueueFull

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
        self.waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # whose ends take no time
        #: Who waits for something else and is told of the end, by what tells whether it has come: it raises.
        self.watchers: dict[Callable[[Exception], object], Callable[[], object]] = {}
        #: Whether a worker or a lease has ended since they were asked.
        self.may_have_ended = False

    def _tell_of_ends(self) -> None:
        self.may_have_ended = False
        for tell, check in [*self.watchers.items()]:
            try:
                check()
            except OffloopError as error:
                del self.watchers[tell]
                tell(error.with_traceback(None))

    def is_left(self, outstanding: int) -> bool:
        """Whether there is room for another task beside that many."""
        return self.most is None or outstanding < self.most

    def check(self, outstanding: int, more: int = 1) -> None:
        """Raise `QueueFull` unless there is room for so many more tasks."""
        if not self.is_left(outstanding + more - 1):
            raise QueueFull(f"{self.limit} tasks are waiting, which is this pool's queue_limit")

    async def wait(self, dispatcher: Dispatcher) -> None:
        """Wait until ``enqueue`` would not raise `QueueFull`.

        Raises:
            StatusError: the dispatcher takes no more tasks, now or meanwhile.
        """
        loop = dispatcher.bind()
        while dispatcher.is_open and not self.is_left(dispatcher.outstanding):
            waiter = loop.create_future()
            self.waiters[waiter] = None
            try:
                await waiter
            finally:
                self.waiters.pop(waiter, None)  # it may have been cancelled
        if not dispatcher.is_open:
            dispatcher.refuse()

    def announce(self, dispatcher: Dispatcher) -> None:
        """Wake as many of those who wait as there is room for; or all, if there never will be."""
        if self.watchers and (self.may_have_ended or not dispatcher.is_open):
            self._tell_of_ends()
        if not self.waiters:
            return
        most = self.most if dispatcher.is_open else None
        places = inf if most is None else most - dispatcher.outstanding
        woken = 0
        while self.waiters and woken < places:
            waiter, _ = self.waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                woken += 1
        if woken and self.waiters:
            dispatcher.schedule_turn()  # for the next ones, as whoever was woken need not enqueue
