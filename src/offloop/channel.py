"""The parent's end of a task's channel: messages to and from a running task."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from offloop.changes import Changes
from offloop.child.channel import ROOM
from offloop.errors import ChannelClosed
from offloop.wire.frames import MESSAGE, RECEIVED

if TYPE_CHECKING:
    from offloop.execution import Execution
    from offloop.link import Link


class Channel(AsyncIterator[Any]):
    """Messages between a task and whoever holds its execution; `Execution.channel`.

    Both directions are first in, first out, and each holds at most 64 messages
    that were not received.  The task's end is `current_task().channel <offloop.TaskContext.channel>`.
    Iterate over it for the messages that the task sends, until it ends.

    Messages may be sent before the task starts.  The channel is closed when the
    execution has ended, whatever way.  If the task is tried again (``retries``),
    messages that it was sent and did not receive are gone, and it starts with an empty channel.
    """

    def __init__(self, execution: Execution[Any]) -> None:
        self._id, self._dispatcher = execution.id, execution.dispatcher
        #: It refers to this, by its `Live`: a cycle would keep the task's arguments.
        self._execution = ref(execution)
        self._link: Link | None = None
        self._waiting: deque[Any] = deque()  # packed, for a task that has not opened its end
        self._room = ROOM
        self._come: deque[Callable[[], Any]] = deque()
        self._changes = Changes(execution.get_loop())
        self._sending = asyncio.Lock()

    async def send(self, value: Any) -> None:
        """Send a message to the task; waits while 64 were sent that the task has not received.

        Args:
            value: anything that an argument of a task may be.

        Raises:
            SerializationError: it can't be pickled; nothing was sent.
            ChannelClosed: the task has ended, or ends while this waits.

        Cancelling this call: the message was sent, or it was not and never will be.
        """
        self._check_open()
        packed = self._dispatcher.context().pack(value)
        async with self._sending:  # in the order of the calls
            while not self._room:
                self._check_open()
                await self._changes.wait()
            self._check_open()
            self._room -= 1
            if self._link is None:
                self._waiting.append(packed)
            else:
                self._link.tell(MESSAGE, self._id, packed)

    async def receive(self) -> Any:
        """The next message of the task; waits until there is one.

        Raises:
            SerializationError: it can't be loaded here; the next one may be.
            ChannelClosed: the task has ended, and everything it sent was received.

        Cancelling this call loses no message.
        """
        while not self._come:
            self._check_open()
            await self._changes.wait()
        load = self._come.popleft()
        if self._link is not None and not has_ended(self._execution):
            self._link.tell(RECEIVED, self._id)
        return load()

    async def __anext__(self) -> Any:
        """The next message; ends when the channel is closed."""
        try:
            return await self.receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def _check_open(self) -> None:
        if has_ended(self._execution):
            raise ChannelClosed("the task has ended, and its channel with it")

    # -- what the task's end does ------------------------------------------------------

    def opened(self, link: Link) -> None:
        """The task uses its channel: send what waits."""
        self._link = link
        while self._waiting:
            link.tell(MESSAGE, self._id, self._waiting.popleft())

    def put(self, load: Callable[[], Any]) -> None:
        """The task sent a message, which ``load`` gives."""
        self._come.append(load)
        self._changes.announce()

    def was_received(self) -> None:
        """The task received a message."""
        self._room += 1
        self._changes.announce()

    def restart(self) -> None:
        """The task is tried again: what its worker had is gone."""
        self._link = None
        self._room = ROOM - len(self._waiting)
        self._changes.announce()

    def close(self) -> None:
        """The execution has ended."""
        self._waiting.clear()
        self._changes.announce()

    def __repr__(self) -> str:
        state = (
            "closed" if has_ended(self._execution) else "open" if self._link is not None else "not open yet"
        )
        return f"<Channel {state} to_receive={len(self._come)}>"


def has_ended(execution: ref[Execution[Any]]) -> bool:
    """Whether it has ended; one that nobody holds any more has."""
    held = execution()
    return held is None or held.done()
