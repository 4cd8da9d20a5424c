"""What happens to workers that nobody shut down when their event loop ends."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from contextvars import Context
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary, ref

from offloop.registry import in_use, note_use, tell_witnesses

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher

#: Seconds for workers to end in good order as their event loop ends; then they are killed.
GRACE = 5.0
#: Seconds after which a timer rings that is only to be there: below 2**31 ms, the most for Qt's loops.
_LONG = 1e6
#: The environment variable that has a process's statistics served to others of its user.
SERVE = "OFFLOOP_STATISTICS"

#: What tells when an event loop is closed, by that loop's id: it dies with the loop, or before.
_closings: WeakValueDictionary[int, _Closing] = WeakValueDictionary()


def at_loop_end(end: Callable[[], Awaitable[None]], dispatcher: Dispatcher) -> Callable[[], None]:
    """Have something awaited when the running event loop ends.

    A loop that ends closes its async generators (``shutdown_asyncgens``, which
    `asyncio.run` calls); this makes one that waits for that.

    Args:
        end: what is to be awaited.
        dispatcher: whose end that is.

    Returns:
        A function that takes it back.  It must be kept: dropping it is dropping the generator.
    """
    if os.environ.get(SERVE, "0") not in ("", "0"):  # first: what is begun here must not be dropped
        import_module("offloop.serving").serve_by_itself()  # which is a layer above: a plug-in
    armed = True
    closing_ref = _note_closing(dispatcher, asyncio.get_running_loop())
    note_use(dispatcher)

    async def guard() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if armed:
                await end()

    generator = guard()
    _run_to_next_stop(generator.__anext__())  # to the yield, which tells the loop of the generator

    def disarm() -> None:
        nonlocal armed
        if armed:
            armed = False
            in_use.discard(dispatcher)
            if (closing := closing_ref()) is not None:
                closing.discard(dispatcher)
            _run_to_next_stop(generator.aclose())

    return disarm


class _Closing:
    """Has workers end that live on when their loop is closed by itself, without ``shutdown_asyncgens``.

    A loop that is closed lets go of its timers.  So a timer is the only one that has this, as its
    callback, which dies then.

    Args:
        loop: the event loop, in whose thread this is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self.dispatchers: WeakSet[Dispatcher] = WeakSet()
        self._timer = self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> ref[asyncio.TimerHandle]:
        return ref(loop.call_later(_LONG, self, context=Context()))

    def __call__(self) -> None:
        """Wait on: this is no time for anything."""
        if (loop := self._loop()) is not None:
            self._timer = self._wait(loop)

    def discard(self, dispatcher: Dispatcher) -> None:
        """It has ended; after the last one no timer is left in the loop."""
        self.dispatchers.discard(dispatcher)
        if not self.dispatchers and (timer := self._timer()) is not None:
            timer.cancel()
            if (loop := self._loop()) is not None:
                _closings.pop(id(loop), None)

    def __del__(self) -> None:
        loop = self._loop()
        if sys.is_finalizing() or loop is None or not loop.is_closed():
            return
        left = [dispatcher for dispatcher in self.dispatchers if dispatcher.has_workers]
        untold = [who for each in left if (who := _never_shut_down(each))]
        with ExitStack() as todo:  # all is done, from the last on, whatever raises, as warnings may
            for who in untold:
                todo.callback(_tell, who)
            for dispatcher in left:
                in_use.discard(dispatcher)
                todo.callback(dispatcher.abandon)


def _note_closing(dispatcher: Dispatcher, loop: asyncio.AbstractEventLoop) -> ref[_Closing]:
    """Have ``dispatcher`` end when ``loop`` is closed; returns what has it end so."""
    closing = _closings.get(id(loop))
    if closing is None:
        closing = _closings[id(loop)] = _Closing(loop)
    closing.dispatchers.add(dispatcher)
    return ref(closing)


def _run_to_next_stop(step: Awaitable[None]) -> None:
    """Run a step of a generator that awaits nothing."""
    try:
        step.__await__().send(None)
    except (StopIteration, RuntimeError):
        pass  # it is done; or it is being closed by the loop just now


async def end_with_loop(dispatcher: Dispatcher) -> None:
    """Shut down what is left as the event loop ends; with a `ResourceWarning`, unless that was agreed on."""
    if dispatcher.ended_for_good or not dispatcher.has_workers:
        return
    try:
        if who := _never_shut_down(dispatcher):
            _tell(who)
    finally:  # where warnings are errors, it raises
        await _end(dispatcher)


def _never_shut_down(dispatcher: Dispatcher) -> str:
    """Whose workers these are, if a warning is due; else nothing."""
    owner = dispatcher.owner()
    is_due = owner is not None and dispatcher.abandoned() and not dispatcher.ends_with_loop
    return repr(owner) if is_due else ""


def _tell(who: str) -> None:
    tell_witnesses(who)
    warnings.warn(f"{who} was never shut down", ResourceWarning, stacklevel=1)


async def _end(dispatcher: Dispatcher) -> None:
    dispatcher.cancel_all(running=True)
    closed = dispatcher.close(cancel_pending=True)
    await asyncio.wait([closed], timeout=GRACE)
    if not closed.done():
        dispatcher.kill()
        await asyncio.wait([closed], timeout=GRACE)
