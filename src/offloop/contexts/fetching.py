"""Large bytes on their way out of shared memory: what the parent copies without holding its event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from offloop.contexts.outbox import BUDGET, SLICE


class _Fetch:
    """One object that is copied.

    Args:
        source: the bytes.
        is_mutable: make a `bytearray` rather than `bytes`.
        deliver: called with the copy.
    """

    def __init__(self, source: memoryview, is_mutable: bool, deliver: Callable[[Any], object]) -> None:
        from offloop.shm.mapping import Untouched  # loads ctypes, which most programs do without

        self._source = source
        self._deliver = deliver
        self._size = size = len(source)
        self._made = Untouched(bytearray if is_mutable else bytes, size)
        self._at = 0

    def advance(self) -> bool:
        """Copy a slice; False when all is copied."""
        if self._at < self._size:
            end = self._at + SLICE
            self._made.view[self._at : end] = self._source[self._at : end]
            self._at = end
        return self._at < self._size

    def finish(self) -> None:
        """Deliver it, and let go of the memory that it came in."""
        self._source.release()
        self._deliver(self._made.take())


class Fetches:
    """What is being copied, one after the other, in turns of the event loop.

    Args:
        loop: the event loop.
        delivered: called when something was delivered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, delivered: Callable[[], object]) -> None:
        self._loop = loop
        self._delivered = delivered
        self._queue: deque[_Fetch] = deque()
        self._is_due = False

    def begin(self, source: memoryview, is_mutable: bool, deliver: Callable[[Any], object]) -> None:
        """Copy ``source``, and ``deliver`` the copy, a `bytearray` or `bytes`; perhaps in a later turn."""
        self._queue.append(_Fetch(source, is_mutable, deliver))
        if not self._is_due:
            self._turn()

    def _turn(self) -> None:
        try:
            self.advance(monotonic() + BUDGET)
        finally:
            self._is_due = bool(self._queue)
            if self._is_due:
                self._loop.call_soon(self._turn)

    def advance(self, until: float) -> None:
        """Copy until that time, in monotonic seconds."""
        queue = self._queue
        while queue:
            while queue[0].advance():
                if monotonic() > until:
                    return
            fetched = queue.popleft()
            try:
                fetched.finish()
            except KeyboardInterrupt:
                queue.appendleft(fetched)  # to deliver it twice is harmless
                raise
            self._delivered()
            if monotonic() > until:
                return

    def close(self) -> None:
        """Let go of what was not delivered."""
        self._queue.clear()
