"""Streams: what a generator yields is sent item by item, while it is still running.

Between two items the generator is suspended at its ``yield``.  So a stream that is
cancelled there, or while it waits for its consumer, closes its generator: the
generator's ``finally`` blocks run.  One that is cancelled within the generator's
own code is interrupted as every task is.
"""

from __future__ import annotations

from time import monotonic

from offloop.child.faults import unpicklable
from offloop.child.live import LiveTask
from offloop.errors import TaskCancelled
from offloop.wire.byvalue import type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

    from offloop.child.runner import Runner
    from offloop.child.turns import Turns
    from offloop.wire.frames import Record

#: Seconds after which a stream that never waits lets others on the worker's event loop have a turn.
TURN = 0.001


def stream(runner: Runner, record: Record, value: Any) -> Coroutine[Any, Any, None] | None:
    """Send what a task yields.

    Args:
        runner: the worker's.
        record: the task's.
        value: what the task returned: a generator or an async generator, or
            another iterator.

    Returns:
        None when all is sent; or, where there is or must be an event loop, a
        coroutine that does it.

    Raises:
        TypeError: ``value`` is no iterator.
        BaseException: what the generator raises, and what pickling its items does.
    """
    kind = type_of(value)
    is_async = hasattr(kind, "__anext__")
    if not is_async and not hasattr(kind, "__next__"):
        if hasattr(kind, "__await__"):
            getattr(value, "close", bool)()  # a coroutine, or Python warns that it was never awaited
        raise TypeError(
            f"a stream needs a generator or another iterator, and the task returned {_name(kind)}"
        )
    live = LiveTask.of(runner.port.voice, runner.turns, record[3], runner.turns.place)
    emitter = Emitter(runner, live)
    if is_async or runner.has_loop:
        return _send_on_loop(value, emitter, is_async=is_async)
    _send_all(value, emitter)
    return None


def _name(kind: type[Any]) -> str:
    return "None" if kind is type(None) else f"an object of type {kind.__qualname__}"


class Emitter:
    """Sends one stream's items as far as its consumer gives room."""

    def __init__(self, runner: Runner, live: LiveTask) -> None:
        self.live = live
        self.turns: Turns = runner.turns
        self._port = runner.port
        self._sent = 0

    def send(self, item: Any) -> bool:
        """Send an item; returns whether another one may follow at once.

        Raises:
            SerializationError: the item can't be pickled.
        """
        live = self.live
        try:
            size = self._port.item(live.id, live.slot, self._sent, item)
        except (ConnectionError, TaskCancelled):  # the parent is gone; a thread's interruption came late
            raise
        except BaseException as error:
            raise unpicklable("an item", item, error) from error
        self._sent += 1
        if live.window.sent(size):
            return True
        self._port.flush()
        return live.window.has_room()

    def flush(self) -> None:
        """Send what is not under way yet."""
        self._port.flush()

    def next_of(self, items: Iterator[Any]) -> Any:
        """The next item; the generator's code may be interrupted while it runs.

        Raises:
            StopIteration: there are no more.
            TaskCancelled: the task was cancelled, before or meanwhile.
        """
        turns = self.turns
        try:
            turns.interruptible = self.live.place
            if turns.cancelled:  # requested while the last item was being sent
                turns.interrupt()
            return next(items)
        finally:
            turns.interruptible = 0
            if turns.cancelled:
                turns.settle()

    def check(self) -> None:
        """Raise `TaskCancelled` if nobody wants more."""
        if self.live.closed or self.live.is_cancelled:
            raise TaskCancelled("the stream was closed")


def _send_all(items: Iterator[Any], emitter: Emitter) -> None:
    """Send everything from the runner's own thread, which waits where there is no room."""
    turns, send, place = emitter.turns, emitter.send, emitter.live.place
    try:
        while True:
            # As in `next_of`, but a hundred thousand times a second.
            turns.interruptible = place
            if turns.cancelled:
                turns.interrupt()
            try:
                item = next(items)
            except StopIteration:
                return
            turns.interruptible = 0
            if turns.cancelled:
                turns.settle()
            if not send(item):
                del item  # it may be large, and the wait long
                emitter.live.wait(emitter.live.window.has_room)
                emitter.check()
    except BaseException:
        turns.interruptible = 0
        turns.settle()
        getattr(items, "close", bool)()
        raise


async def _send_on_loop(items: Any, emitter: Emitter, *, is_async: bool) -> None:
    """Send everything on the worker's event loop, which goes on where there is no room."""
    import asyncio

    from offloop.child.overlap import as_without_loop

    end: type[Exception] = StopAsyncIteration if is_async else StopIteration
    until = monotonic() + TURN
    try:
        while True:
            try:
                item = await items.__anext__() if is_async else as_without_loop(emitter.next_of, items)
            except end:
                return
            has_room = emitter.send(item)
            del item
            if not has_room:
                await emitter.live.wait_async(emitter.live.window.has_room)
                emitter.check()
            elif monotonic() > until:
                await asyncio.sleep(0)
                until = monotonic() + TURN
    except BaseException:
        await _close(items, is_async=is_async)
        raise


async def _close(items: Any, *, is_async: bool) -> None:
    from offloop.child.overlap import as_without_loop

    if not is_async:
        as_without_loop(getattr(items, "close", bool))
    elif hasattr(items, "aclose"):
        await items.aclose()
