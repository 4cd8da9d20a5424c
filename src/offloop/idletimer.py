"""The timer that brings a dispatcher's turn when an idle worker may retire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

#: Seconds after the deadline, so that it has passed by any clock's rounding.
MARGIN = 0.001


class IdleTimer:
    """One timer for all of a pool's workers.

    Args:
        deadline: when the longest idle worker may retire, or None; asked when nothing is armed.
        due: called at that time.
    """

    def __init__(self, deadline: Callable[[], float | None], due: Callable[[], None]) -> None:
        self._deadline = deadline
        self._due = due
        self._handle: asyncio.TimerHandle | None = None
        #: Whether there is nothing to wait for yet, as far as is known.
        self.is_free = True

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the next deadline, if there is one."""
        deadline = self._deadline()
        if deadline is not None:
            self.is_free = False
            self._handle = loop.call_later(max(0.0, deadline - monotonic()) + MARGIN, self._ring)

    def cancel(self) -> None:
        """Wait for nothing."""
        if self._handle is not None:
            self._handle.cancel()

    def _ring(self) -> None:
        self.is_free = True
        self._due()
