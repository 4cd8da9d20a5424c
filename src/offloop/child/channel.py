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
    from offloop.child.turns import Turns

#: How many messages may wait to be received, in each direction.
ROOM = 64


class TaskChannel:
    """What `TaskContext.channel` gives: blocking calls, and their siblings for async tasks.

    Any thread of the task may use it.  It is closed when the task has ended.
    """

    def __init__(self, live: LiveTask, voice: Voice, turns: Turns) -> None:
        self._live = live
        self._voice = voice
        self._turns = turns
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
        while not self._take(self._room, MESSAGE, packed):
            self._live.wait(self._has_room)

    async def asend(self, value: Any) -> None:
        """`send` for async tasks: it waits without holding up the worker's event loop."""
        packed = self._voice.pack(value)
        while not self._take(self._room, MESSAGE, packed):
            await self._live.wait_async(self._has_room)

    def receive(self) -> Any:
        """The next message from the parent; blocks until there is one.

        Raises:
            SerializationError: it can't be loaded here; the next one may be.
            ChannelClosed: the task has ended.
            TaskCancelled: the task was cancelled while this waited.
        """
        while not (packed := self._take(self._come, RECEIVED)):
            self._live.wait(self._has_come)
        return self._voice.unpack(packed[0])

    async def areceive(self) -> Any:
        """`receive` for async tasks: it waits without holding up the worker's event loop."""
        while not (packed := self._take(self._come, RECEIVED)):
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

    def _take(self, queue: deque[Any], kind: int, said: Any = None) -> tuple[()] | tuple[Any]:
        """Take the first of a queue, and tell the parent; returns nothing if there is none.

        A cancellation comes before that or after: in between, it would leave a thread's parent asleep.
        """
        self._check_open()
        place = self._turns.shield()
        try:
            first = queue.popleft()
            self._voice.tell(kind, self._live.id, said)
        except IndexError:
            return ()
        finally:
            self._turns.unshield(place)
        return (first,)

    def _check_open(self) -> None:
        if self._live.closed:
            raise ChannelClosed("the task has ended, and its channel with it")
