"""A running task's end of its channel: messages to and from the parent, in order, and only so many."""

from __future__ import annotations

from collections import deque

from offloop.errors import ChannelClosed
from offloop.wire.frames import MESSAGE, OPENED, RECEIVED

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop.child.live import LiveTask
    from offloop.child.protocols import Voice

#: How many messages may wait to be received, in each direction.
ROOM = 64


class TaskChannel:
    """What `TaskContext.channel` gives: blocking calls, and their siblings for async tasks.

    Any thread of the task may use it.  It is closed when the task has ended.
    """

    def __init__(self, live: LiveTask, voice: Voice) -> None:
        self._live = live
        self._voice = voice
        self._come: deque[Any] = deque()  # packed
        self._room = deque(
            [None] * ROOM
        )  # a place for each message that may be sent; taken and put back whole
        voice.tell(OPENED, live.id, None)

    def send(self, value: Any) -> None:
        """Send a message to whoever holds the execution.

        It blocks while 64 messages were sent and not received.

        Args:
            value: anything that a result may be.

        Raises:
            SerializationError: it can't be pickled; nothing was sent.
            ChannelClosed: the task has ended.
            TaskCancelled: the task was cancelled while this waited; nothing was sent.
        """
        packed = self._voice.pack(value)
        while not self._try_send(packed):
            self._live.wait(self._has_room)

    async def asend(self, value: Any) -> None:
        """`send` for async tasks: it waits without holding up the worker's event loop."""
        packed = self._voice.pack(value)
        while not self._try_send(packed):
            await self._live.wait_async(self._has_room)

    def receive(self) -> Any:
        """The next message from the parent; blocks until there is one.

        Raises:
            SerializationError: it can't be loaded here; the next one may be.
            ChannelClosed: the task has ended.
            TaskCancelled: the task was cancelled while this waited.
        """
        while (packed := self._try_receive()) is None:
            self._live.wait(self._has_come)
        return self._voice.unpack(packed[0])

    async def areceive(self) -> Any:
        """`receive` for async tasks: it waits without holding up the worker's event loop."""
        while (packed := self._try_receive()) is None:
            await self._live.wait_async(self._has_come)
        return self._voice.unpack(packed[0])

    # -- what is heard, on another thread ----------------------------------------------

    def put(self, packed: Any) -> None:
        """A message has come."""
        self._come.append(packed)
        self._live.wake()

    def was_received(self) -> None:
        """A message that was sent has been received."""
        self._room.append(None)
        self._live.wake()

    # ------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return bool(self._room)

    def _has_come(self) -> bool:
        return bool(self._come)

    def _try_send(self, packed: Any) -> bool:
        self._check_open()
        try:
            self._room.popleft()
        except IndexError:
            return False
        self._voice.tell(MESSAGE, self._live.id, packed)
        return True

    def _try_receive(self) -> tuple[Any] | None:
        self._check_open()
        try:
            packed = self._come.popleft()
        except IndexError:
            return None
        self._voice.tell(RECEIVED, self._live.id, None)
        return (packed,)

    def _check_open(self) -> None:
        if self._live.closed:
            raise ChannelClosed("the task has ended, and its channel with it")
