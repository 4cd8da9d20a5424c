"""How worker threads wake an event loop.

`call_soon_threadsafe` takes 5 to 15 µs more of a task's way back: it makes a
handle with a copy of the context, and asyncio reads its pipe until an
exception says that it is empty.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context as VariableContext

#: Has an event loop call something soon; for any thread.
Ring = Callable[[Callable[[], object]], object]


def ring_by_itself(loop: asyncio.AbstractEventLoop) -> Ring:
    """The loop's own way; nothing happens once the loop is closed, for nobody waits."""

    def ring(call: Callable[[], object]) -> None:
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass

    return ring


class Doorbell:
    """Has an event loop call what other threads ask it to; to be made on the loop, and closed there.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._is_rung = self._is_closed = False
        self._fd = -1
        try:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            # What is set where a pool was first used is not for its tasks' callbacks, nor to be kept alive.
            VariableContext().run(loop.add_reader, self._fd, self._answer)
        except (AttributeError, OSError, NotImplementedError):  # another system, no descriptors, another loop
            self._close_descriptor()

    def ring(self, call: Callable[[], object]) -> None:
        """Have the loop call this, soon; from any thread.  Nothing happens once it is closed."""
        self._calls.append(call)
        with self._lock:  # so that nobody writes to a descriptor that is somebody else's by now
            if self._is_rung or self._is_closed:
                return
            self._is_rung = True
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)
                return
        ring_by_itself(self._loop)(self._answer)

    def _answer(self) -> None:
        if self._fd >= 0:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                return  # it was answered already
        self._is_rung = False  # who rings from here on may not be heard below
        self._call_all()

    def _call_all(self) -> None:
        calls = self._calls
        try:
            while calls and not self._is_closed:
                calls.popleft()()
        finally:
            if calls and not self._is_closed:  # what was called raised: the others are not lost
                self._loop.call_soon(self._call_all)

    def close(self) -> None:
        """Answer no more; whoever rings is not heard.  Idempotent."""
        with self._lock:
            self._is_closed = True
            if self._fd >= 0 and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._close_descriptor()
        self._calls.clear()

    def _close_descriptor(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
