"""What takes the place of a worker's two sockets where there are none: lines that wait for a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offloop.child.layout import Part
from offloop.contexts.control_line import ControlLine
from offloop.contexts.logs import LogReceiver
from offloop.contexts.replies import Replies
from offloop.contexts.starters import LIMIT
from offloop.link import LinkOwner
from offloop.wire.frames import FrameDecoder, ProtocolError


class Batch:
    """Gathers what is written, as an `Outbox` would take it, until it is taken.

    Args:
        wrote: called when there is something.
    """

    def __init__(self, wrote: Callable[[], object]) -> None:
        self._wrote = wrote
        self._parts: list[bytes] = []
        #: How many bytes were to be written.
        self.written = 0

    def write(self, parts: Sequence[Part]) -> None:
        """Put parts in line.  Buffers are copied: who sent them may change them now."""
        for part in parts:
            assert isinstance(part, (bytes, memoryview))  # nothing is lent across machines
            if len(part):
                self._parts.append(bytes(part))
                self.written += len(self._parts[-1])
        if self._parts:
            self._wrote()

    def take(self) -> list[bytes]:
        """All that waits."""
        parts, self._parts = self._parts, []
        return parts

    def close(self) -> None:
        """Forget what waits."""
        self._parts.clear()


class FedLine(ControlLine):
    """What is said about tasks, where it does not come through a socket.

    Args:
        owner: is told what comes.
        replies: loads messages.
        logs: takes log records and warnings.
        batch: where what is said goes.
    """

    def __init__(self, owner: LinkOwner, replies: Replies, logs: LogReceiver, batch: Batch) -> None:
        super().__init__(owner, replies, logs, batch)
        self._frames = FrameDecoder(LIMIT)

    def feed(self, data: bytes) -> None:
        """Take what has come.

        Raises:
            ProtocolError: it is nonsense; what came before that was taken.
        """
        nonsense: ProtocolError | None = None
        try:
            records = self._frames.feed(data)
        except ProtocolError as error:
            nonsense, records = error, error.records
        for record in records:
            self._hear(record)
        if nonsense is not None:
            raise nonsense

    @property
    def taken(self) -> int:
        """How many bytes came."""
        return self._frames.taken
