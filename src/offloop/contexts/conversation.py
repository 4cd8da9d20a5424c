"""The calls that a link and a worker on a cluster talk by, and whether the worker still answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextvars import Context
from time import monotonic
from typing import Any, Protocol

from offloop.contexts.engine import Seat
from offloop.contexts.messages import Push, Reply, pack, unpack

#: Calls that carry tasks and may be under way at a time; what is said meanwhile goes with the next one.
MOST_PUSHES = 4
#: Looks at whether a worker was heard of within ``lost_after``.
LOOKS = 5


class Talker(Protocol):
    """Whose conversation it is; called on the event loop."""

    def take_push(self) -> Push | None:
        """What there is to be said now."""

    def is_busy(self) -> bool:
        """Whether outcomes are waited for."""
        raise NotImplementedError

    def hear(self, reply: Reply, asked: float, answered: float) -> bool:
        """Take an answer, which was asked for and came then.  Whether another one may be asked for."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """The worker does not answer any more."""


def when_done(
    loop: asyncio.AbstractEventLoop,
    answer: Future[Any],
    then: Callable[[Any], object],
    otherwise: Callable[[Any], object] | None = None,
) -> None:
    """Have ``then(answer)`` called on the event loop, in nobody's context.

    Args:
        loop: the event loop.
        answer: a future, which some other thread ends.
        then: called once it has ended.
        otherwise: called in that thread instead, if the loop was closed.
    """
    nobodys = Context()

    def done(answer: Future[Any]) -> None:
        try:
            loop.call_soon_threadsafe(then, answer, context=nobodys)
        except RuntimeError:
            if otherwise is not None:
                otherwise(answer)

    answer.add_done_callback(done)


class Conversation:
    """Pushes what is to be said, pulls what there is to be heard, and notices silence.

    While a call is under way, what is to be said gathers for the next one: so
    batches grow as an engine is slow, and a lone task goes at once.

    Args:
        loop: the event loop.
        seat: the worker's actor, which is open.
        lost_after: seconds of silence after which the worker is lost.
        talker: says and hears.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seat: Seat, lost_after: float, talker: Talker
    ) -> None:
        self._loop = loop
        self._seat = seat
        self._lost_after = lost_after
        self._talker = talker
        self._pushed = self._pushing = self._received = 0
        self._pulling = self._push_due = self._is_over = False
        self._asked = 0.0
        self._heard, self._silent = True, 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin."""
        self._look()
        self.push_soon()
        self.pull()

    def close(self) -> None:
        """Say and hear no more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    # -- saying -------------------------------------------------------------------

    def push_soon(self) -> None:
        """There is something to be said: in the loop's next turn, with what is added until then."""
        if not self._push_due and not self._is_over:
            self._push_due = True
            self._loop.call_soon(self._push)

    def _push(self) -> None:
        self._push_due = False
        if self._is_over or self._pushing >= MOST_PUSHES:
            return
        push = self._talker.take_push()
        if push is not None:
            self._pushed += 1
            self._pushing += 1
            self._call(self._was_pushed, "push", self._pushed, pack(push))

    def _was_pushed(self, answer: Future[Any]) -> None:
        self._pushing -= 1
        if self._is_good(answer):
            self.push_soon()

    def signal(self, number: int) -> None:
        """Have a signal sent to the worker, at once."""
        if not self._is_over:
            self._call(self._is_good, "signal", int(number))

    async def stack(self) -> str:
        """The stack of the worker's running code, or ""."""
        if self._is_over:
            return ""
        try:
            return str(await asyncio.wrap_future(self._seat.call("stack")))
        except Exception:
            return ""  # the worker is gone, which is seen otherwise

    # -- hearing ------------------------------------------------------------------

    def pull(self) -> None:
        """Ask for what there is to be heard, unless that was asked already."""
        if not self._pulling and not self._is_over:
            self._pulling = True
            self._asked = monotonic()
            self._call(self._pulled, "pull", self._received, self._pushed, self._talker.is_busy())

    def _pulled(self, answer: Future[Any]) -> None:
        self._pulling = False
        if not self._is_good(answer):
            return
        try:
            reply = Reply(*unpack(answer.result()))
        except Exception as error:
            self._talker.lost(f"it answers nonsense: {error}")
            return
        self._received = reply.number
        if self._talker.hear(reply, self._asked, monotonic()):
            self.pull()

    # -- calls --------------------------------------------------------------------

    def _call(self, then: Callable[[Future[Any]], object], method: str, *args: Any) -> None:
        answer: Future[Any]
        try:
            answer = self._seat.call(method, *args)
        except Exception as error:
            answer = Future()
            answer.set_exception(error)
        when_done(self._loop, answer, then)

    def _is_good(self, answer: Future[Any]) -> bool:
        """Whether a call went well; one that did not ends the conversation."""
        if self._is_over:
            return False
        try:
            error = answer.exception()
        except CancelledError as cancelled:
            error = cancelled
        if error is None:
            self._heard = True
            return True
        self._talker.lost(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        return False

    def _look(self) -> None:
        """Notice silence.  An event loop that was held up has looked less often, and so noticed less."""
        self._silent = 0 if self._heard or not self._pulling else self._silent + 1
        self._heard = False
        if self._silent >= LOOKS - 1:
            self._talker.lost(f"nothing was heard of it for {self._lost_after:g} s")
        else:
            self._timer = self._loop.call_later(self._lost_after / LOOKS, self._look)
