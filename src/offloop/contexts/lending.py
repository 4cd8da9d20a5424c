"""The parent's share in the segments that it and one worker lend each other: who is told what, and when."""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Callable, Sequence
from contextvars import Context as VariableContext

from offloop.child.exchange import Exchange
from offloop.child.layout import Part
from offloop.contexts.unmapping import unmap_aside

#: Seconds after large payloads were last sent or received when segments in disuse are closed, here and there.
TIDY_AFTER = 11.0
#: Seconds after which the worker hears of loans that have ended, if no task takes it along before.
SETTLE_AFTER = 0.001


class Lending:
    """An `Exchange` whose news goes out by itself, through the event loop.

    Args:
        loop: the event loop.
        write: writes parts to the worker's data socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, write: Callable[[Sequence[Part]], None]) -> None:
        self.exchange = Exchange(self._loans_ended, unmap_aside)
        self._loop = loop
        self._write = write
        self._settling = self._closed = self._used_again = False
        self._timer: asyncio.TimerHandle | None = None
        #: How many bytes came from the worker through segments, handed back ones included.
        self.taken = 0

    @property
    def in_use(self) -> bool:
        """Whether large payloads were sent or received a short while ago."""
        return self._timer is not None

    def open(self, payload: bytes | memoryview) -> tuple[memoryview, list[memoryview]]:
        """The pickle and the buffers of a payload that came by segment; see `Exchange.open`."""
        self.used()
        pickled, buffers = self.exchange.open(payload)
        self.taken += sum(buffer.nbytes for buffer in (pickled, *buffers))
        return pickled, buffers

    def used(self) -> None:
        """A large payload was sent or received, or loans have ended."""
        if self._timer is None:
            self._timer = self._loop.call_later(TIDY_AFTER, self._tidy)
        else:
            self._used_again = True

    def _loans_ended(self) -> None:
        """On any thread: the last object on memory of the worker's has died."""
        if self._settling or self._closed:
            return
        self._settling = True
        if _get_running_loop() is self._loop:
            # As a rule a result was let go of, and the next task, sent soon, takes it along (`Sender.send`).
            # A timer can't be set here, in the midst of anything: perhaps of setting another one.
            self._loop.call_soon(self._settle_later, context=VariableContext())
            return
        try:
            self._loop.call_soon_threadsafe(self._settle, context=VariableContext())
        except RuntimeError:
            pass  # the loop was closed: the worker is gone, or soon will be

    def _settle_later(self) -> None:
        self._loop.call_later(SETTLE_AFTER, self._settle)

    def _settle(self) -> None:
        self._settling = False
        if not self._closed:
            if self.exchange.has_news:
                self._write(self.exchange.settle())
            self.used()

    def _tidy(self) -> None:
        self._timer = None
        self._write(self.exchange.settle(nudge=True))
        # What was used meanwhile was not in disuse long enough, here or there;
        # and the worker may let go of a loan without being heard to.
        if self._used_again or self.exchange.bytes_held:
            self._used_again = False
            self.used()

    def close(self) -> None:
        """The worker is gone."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.exchange.close()
