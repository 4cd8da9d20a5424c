"""Keeping the event loop awake for a moment while a short task is away.

A CPU that has nothing to do goes to sleep, and to wake it takes longer than a
small task: on a virtual machine some 30 µs.  So where one small task is sent
after another, the loop does not wait for what comes, but looks for it, as the
worker does at its end (`offloop.child.receiving`, where more is said).

Between two looks others may have the CPU.  Who has lost it in this way shares
it, often with that very worker, which would be sooner done if the loop slept.
So who has lost the CPU, or has looked in vain, does not look for a while: for
twice as many tasks each time, and for one less after each look that has paid.
Where there is one CPU for all, nobody looks.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, Future
from contextvars import Context
from functools import lru_cache
from time import monotonic
from typing import Any

from offloop.child.receiving import Rests
from offloop.cpus import usable_cpus

#: Only a task that is expected to run no longer is looked for, in seconds …
SHORT = 50e-6
#: … and for no longer than this.
LOOK = 100e-6
#: Who is kept from the CPU for longer than this, in seconds, has given it to somebody: else it takes 0.5 µs.
SWITCH = 8e-6


class Vigil:
    """Looks for one task at a time: the one that was sent last."""

    def __init__(self) -> None:
        self._sent: Future[Any] | None = None
        self._until = 0.0
        self._is_kept = False
        self._rests = Rests()
        self._context = Context()  # of nobody

    def keep(self, loop: AbstractEventLoop, sent: Future[Any], seconds: float | None) -> None:
        """Look for a task that has just been sent.

        Args:
            loop: the event loop, which is not to sleep.
            sent: the task's execution.
            seconds: how long it will probably run; None if that is not known.
        """
        if seconds is None or seconds > SHORT:
            return
        if self._rests.holds() or not _are_cpus_to_spare():
            return
        self._sent, self._until = sent, monotonic() + LOOK
        if not self._is_kept:
            self._is_kept = True
            loop.call_soon(self._look, loop, context=self._context)

    def _look(self, loop: AbstractEventLoop) -> None:
        """See whether it is back: each turn of the loop takes what has come."""
        if self._sent is None or self._sent.done():
            self._rests.shorten()
        else:
            looked = monotonic()
            os.sched_yield()
            now = monotonic()
            if now < self._until and now - looked < SWITCH:
                loop.call_soon(self._look, loop, context=self._context)
                return
            self._rests.begin()
        self._sent, self._is_kept = None, False


@lru_cache(maxsize=1)
def _are_cpus_to_spare() -> bool:
    return usable_cpus() > 1
