"""The timer for looks at workers that hold more than they run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

#: How many seconds late a look may be, rather than set the timer anew.
TOLERANCE = 0.002
#: Seconds of looking after which other callbacks of the event loop get their turn.
BUDGET = 0.00025


class Lookout:
    """One timer for all of a pool's workers.

    Args:
        next_look: when to look next, given the time; both in monotonic seconds.
        look: called at that time.
    """

    def __init__(self, next_look: Callable[[float], float], look: Callable[[], None]) -> None:
        self._next_look = next_look
        self._look = look
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._left: list[Any] = []  # workers for which there was no time

    def arm(self, loop: asyncio.AbstractEventLoop, now: float, *, hasten: bool = False) -> None:
        """Wait for the next look.

        One that is waited for already stays, unless it is to be hastened: when to look is asked of
        every worker, which is too much for each turn.
        """
        if self._handle is not None and not hasten:
            return
        due = self._next_look(now)
        if self._handle is not None:
            if due > self._due - TOLERANCE:
                return
            self._handle.cancel()
        self._due = due
        self._handle = loop.call_later(due - now, self._ring)

    def look_at(self, silent: Collection[T], poll: Callable[[T, float], object]) -> None:
        """Look at workers, for `BUDGET` seconds; those that are left have their turn the next time.

        Args:
            silent: the workers.
            poll: looks at one, until a time in monotonic seconds.
        """
        until = monotonic() + BUDGET
        due = deque(dict.fromkeys([*filter({*silent}.__contains__, self._left), *silent]))
        while due:
            poll(due.popleft(), until)
            if monotonic() > until:
                break
        self._left = list(due)

    def _ring(self) -> None:
        self._handle = None
        self._look()
