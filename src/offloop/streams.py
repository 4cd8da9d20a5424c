"""`Stream`: what a generator yields in a worker, item by item, while it is still running there.

The module is not called ``stream``, which would hide the function `offloop.stream`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from offloop.execution import Execution
from offloop.lookout import BUDGET
from offloop.reentry import InUseError
from offloop.registry import refuse_elsewhere
from offloop.task import describe
from offloop.wire.credit import ReceiveWindow
from offloop.wire.frames import CREDIT, STREAMED

R = TypeVar("R")

#: The option that makes an execution a stream.
OPTIONS = {"flags": STREAMED}
#: Seconds after which a look for an item is repeated.  Our note that we wait and the worker's note
#: of an item may cross each other, each unseen by the other, but not for longer than that.
LOOK_AGAIN = 0.001


class Inbox:
    """The items of one stream that have come and were not consumed.  Implements `offloop.link.ItemSink`."""

    def __init__(self, execution: Execution[Any]) -> None:
        self.execution = execution
        self.items: deque[tuple[Any, int]] = deque()
        #: The index of the item to come next.
        self.expected = 0
        self.is_closed = False
        self._error: BaseException | None = None
        self._window = ReceiveWindow()
        self._waiter: asyncio.Future[None] | None = None
        self._is_hungry = False
        execution.add_done_callback(self._ended)

    def put(self, value: Any, size: int) -> None:
        """Take the next item."""
        self.expected += 1
        if not self.is_closed and self._error is None:
            self.items.append((value, size))
            if self._is_hungry:
                self._be_hungry(False)
            if self._waiter is not None:
                self.wake()

    def spoil(self, error: BaseException) -> None:
        """The next item can't be loaded: the stream ends with this error."""
        self.expected += 1
        if self._error is None and not self.is_closed:
            self._error = error
            self.wake()
            self.execution.cancel()

    def consumed(self, size: int) -> None:
        """The consumer took an item of ``size`` bytes."""
        grant = self._window.consumed(size)
        if grant is not None:
            link = self.execution.link
            if link is not None:
                link.tell(CREDIT, self.execution.id, grant)

    async def more(self) -> bool:
        """Wait for an item.

        Returns:
            Whether there is one; False at the end, and after `close`.

        Raises:
            BaseException: what the stream ended with, once everything before it was consumed.
            InUseError: somebody else waits.
            RuntimeError: called from another event loop.
        """
        refuse_elsewhere(self.execution.dispatcher)
        while not self.items and not self.is_closed:
            if self._error is not None:
                raise self._error
            if self.execution.done():
                self.execution.result()
                return False
            await self._wait()
        return not self.is_closed

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise InUseError("a stream has one consumer at a time, and another one waits for an item")
        loop = self.execution.get_loop()
        self._waiter = loop.create_future()
        self._be_hungry(True)
        self._look()
        timer = loop.call_later(LOOK_AGAIN, self._look)
        try:
            if self._waiter.done():
                await asyncio.sleep(0)  # a stream that is always ready lets others have a turn too
            else:
                await self._waiter
        finally:
            self._waiter = None
            timer.cancel()
            if self._is_hungry:
                self._be_hungry(False)

    def _be_hungry(self, is_hungry: bool) -> None:
        self._is_hungry = is_hungry
        link = self.execution.link
        if link is not None:
            link.hunger(self.execution.id, is_hungry)

    def _look(self) -> None:
        """Look for what the worker has written and not sent."""
        link = self.execution.link
        if link is not None and self.expected:  # the first item is sent at once
            link.poll(monotonic() + BUDGET)

    def _ended(self, _: asyncio.Future[Any]) -> None:
        self.execution.inbox = None  # no more items come; a cycle would keep the task's arguments
        self.wake()

    def wake(self) -> None:
        """Have the consumer look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Nobody wants any more: cancel the generator.

        Raises:
            RuntimeError: called from another event loop.
        """
        refuse_elsewhere(self.execution.dispatcher)
        self.is_closed = True
        self.items.clear()
        self.execution.cancel()
        self.wake()

    async def aclose(self) -> None:
        """`close`, and wait until the generator has ended."""
        self.close()
        if not self.execution.done():
            await asyncio.wait([self.execution])
        if not self.execution.cancelled():
            self.execution.exception()  # after leaving early nobody asks for it


class _Consumer:
    """Whoever can still consume a stream; the generator is cancelled with the last of these."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox

    def __del__(self) -> None:
        execution = self.inbox.execution
        if not execution.done():
            execution.dispatcher.call_on_loop(self.inbox.close)


class Stream(AsyncIterator[R]):
    """The items that a task yields; what ``stream`` returns.

    ``async for`` gets them while the generator is still running in the worker,
    which runs at most 256 items or 1 MiB ahead of the consumer, and waits then.  A
    stream has one consumer, and belongs to the event loop that it was made on.

    Leaving the loop early closes the generator in the worker: if it is at a
    ``yield``, as when one calls its ``close()``; if its code runs just then, it is
    interrupted as any task that is cancelled.  Either way its ``finally`` blocks run.
    ``aclose()`` and ``async with`` wait until that is done.  What the generator raises then
    is not raised here, but kept in `execution`.

    An exception of the generator is raised after the items before it, and so is
    `WorkerCrashed`.  A stream is tried again (``retries``) only as long as no item has arrived.
    A ``timeout`` counts the time from its start to its end, waiting for the consumer included.

    Attributes:
        execution: the execution of the task, whose result is None.
    """

    def __init__(self, execution: Execution[Any]) -> None:
        self.execution = execution
        self._inbox = execution.inbox = Inbox(execution)
        self._consumer = _Consumer(self._inbox)

    def __aiter__(self) -> AsyncIterator[R]:  # noqa: PYI034 -- an async generator, which is closed by leaving a loop
        """An iterator over the items that were not consumed yet."""
        return _iterate(self._consumer)

    async def __anext__(self) -> R:
        """The next item."""
        inbox = self._inbox
        if not await inbox.more():
            raise StopAsyncIteration
        item, size = inbox.items.popleft()
        inbox.consumed(size)
        value: R = item
        return value

    async def aclose(self) -> None:
        """Close the generator in the worker, and wait until it has ended.  Idempotent.

        A consumer that waits for an item at this moment comes to the end of the stream.
        """
        await self._inbox.aclose()

    async def __aenter__(self) -> Stream[R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        execution, inbox = self.execution, self._inbox
        state = "closed" if inbox.is_closed else "ended" if execution.done() else "open"
        counts = f"received={inbox.expected} waiting={len(inbox.items)}"
        return f"<Stream {describe(execution.task)} {state} {counts}>"


async def _iterate(consumer: _Consumer) -> AsyncGenerator[Any, None]:
    """The iterator of a `Stream`, to which it does not refer."""
    inbox = consumer.inbox
    items, consumed = inbox.items, inbox.consumed
    try:
        while await inbox.more():
            while items:
                item, size = items.popleft()
                consumed(size)  # before it is handed out: the next one is on its way meanwhile
                yield item
                del item
    except InUseError:
        raise
    except BaseException:
        await inbox.aclose()
        raise
    await inbox.aclose()
