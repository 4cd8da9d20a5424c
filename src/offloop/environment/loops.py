"""What an environment does with asyncio, where a loop is running: its timer, its async callbacks."""

from __future__ import annotations

import sys
from collections.abc import Awaitable

TYPE_CHECKING = False

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeGuard
    from weakref import ref


def logger() -> logging.Logger:
    """The logger of environments; ``logging`` is loaded with the first failure."""
    import logging

    return logging.getLogger("offloop.environment")


def is_awaitable(result: object) -> TypeGuard[Awaitable[Any]]:
    """Whether a callback is not done when it has returned this."""
    return result is not None and isinstance(result, Awaitable)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that is running in this thread, or None; this never loads ``asyncio``."""
    # It may be there in part only, while another thread imports it.
    find = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    if find is None:
        return None
    try:
        loop: asyncio.AbstractEventLoop = find()
    except RuntimeError:
        return None
    return loop


class Alarm:
    """At most one timer, on the running loop, set for the earliest deadline.

    It may ring too early, since a later deadline does not move it, but never
    too late.
    """

    __slots__ = ("_deadline", "_handle", "_loop")

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadline = 0.0

    @property
    def is_set(self) -> bool:
        """Whether a timer is waiting."""
        return self._handle is not None

    def set(self, deadline: float, delay: float, ring: Callable[[ref[Any]], None], owner: object) -> None:
        """Have ``ring(weakref.ref(owner))`` called in ``delay`` seconds, if a loop is running here.

        The timer does not keep ``owner`` alive.  A timer of another loop, which
        may never run again, is replaced.

        Args:
            deadline: the time this is for, on any clock that does not go backwards.
            delay: seconds from now to ``deadline``.
            ring: a function that needs nothing but the reference.
            owner: whose deadline it is.
        """
        loop = running_loop()
        if loop is None:
            if self._loop is not None and self._loop.is_closed():
                self.cancel()
            return
        if self._handle is not None and self._loop is loop and self._deadline <= deadline:
            return
        from weakref import ref

        self.cancel()
        self._handle = loop.call_later(max(0.0, delay), ring, ref(owner))
        self._loop = loop
        self._deadline = deadline

    def cancel(self) -> None:
        """Drop the timer, whether it is waiting, has rung, or belongs to a closed loop."""
        handle, self._handle, self._loop = self._handle, None, None
        if handle is not None:
            handle.cancel()


class Pending:
    """The awaitables that callbacks returned, until they are done or somebody takes them over."""

    __slots__ = ("_parked", "_tasks")

    def __init__(self) -> None:
        self._parked: list[Coroutine[Any, Any, None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, awaitable: Awaitable[Any], key: str) -> None:
        """Make it a task of the running loop, or park it; its failure will be logged with ``key``."""
        loop = running_loop()
        if loop is None:
            self._parked.append(_contain(awaitable, key))
            return
        self._start(loop, _contain(awaitable, key))

    def adopt(self) -> None:
        """Make what is parked tasks of the running loop."""
        loop = running_loop() if self._parked else None
        if loop is not None:
            parked, self._parked = self._parked, []
            for coroutine in parked:
                self._start(loop, coroutine)

    def _start(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(coroutine)
        self._tasks.add(task)  # a loop holds its tasks only weakly
        task.add_done_callback(self._tasks.discard)

    def take(self) -> list[Awaitable[Any]]:
        """What is parked, which is then the caller's, and the running loop's unfinished tasks."""
        if not self._parked and not self._tasks:
            return []
        loop = running_loop()
        parked, self._parked = self._parked, []
        return [*parked, *(task for task in self._tasks if task.get_loop() is loop and not task.done())]


async def _contain(awaitable: Awaitable[Any], key: str) -> None:
    try:
        await awaitable
    except Exception:
        logger().exception("on_delete of %r failed", key)
