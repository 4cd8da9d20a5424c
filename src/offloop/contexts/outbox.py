"""Writing to a non-blocking socket: everything goes out in order, as soon as the socket takes it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic
from typing import Protocol
from weakref import WeakSet

from offloop.child.layout import Copy, Part, WithDescriptor
from offloop.child.lowlevel import MSG_NOSIGNAL, with_descriptors

#: How many parts one system call takes at the most.
_PARTS = 64
#: Seconds of copying into segments after which other callbacks of the event loop get their turn: all
#: workers that are copied for share them, but each has a slice at least.
BUDGET = 0.0005
#: Bytes copied between looks at the clock.
SLICE = 1 << 18
#: What passes by itself: memory is short, or this user has too many descriptors under way in sockets.
SHORTAGES = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
#: Seconds after which it is tried again: nothing tells when it has passed.
RETRY_AFTER = 0.01


class Line(Protocol):
    """Takes what is to be written to a worker, in order.

    Attributes:
        written: how many bytes were to be written.
    """

    written: int

    def write(self, parts: Sequence[Part]) -> None:
        """Write these after all that was written before."""

    def close(self) -> None:
        """The worker is gone."""


#: Those of which a copy goes on in a later turn of their event loop.
_copiers: WeakSet[Outbox] = WeakSet()


class Outbox:
    """What is to be written to a socket, in order.

    Args:
        loop: the event loop that waits for the socket.
        sock: a non-blocking stream socket.
        cut_off: called with the reason why nothing more can be sent, though the peer may live on.  Of one
            that is gone nothing is said: its end is heard of in another way.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, cut_off: Callable[[str], object]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._cut_off = cut_off
        self._parts: deque[memoryview | Copy | WithDescriptor] = deque()
        self._waiting = False  # for the socket to take more
        self._retry: asyncio.TimerHandle | None = None  # while it waits for a shortage to pass
        self.closed = False
        #: How many bytes were to be written, those that are copied into segments included.
        self.written = 0

    def write(self, parts: Sequence[Part]) -> None:
        """Write these after all that was written before.

        Never blocks, and never raises for a peer that is gone.
        """
        if self.closed:
            _close_descriptors(parts)
            return
        if len(parts) == 1 and not self._parts and type(parts[0]) is bytes:
            sent = self._send_at_once(parts[0])
            self.written += sent
            if sent == len(parts[0]):
                return
            parts = [memoryview(parts[0])[sent:]]
        for part in parts:
            if isinstance(part, Copy):
                self.written += part.source.nbytes
                self._parts.append(part)
            elif isinstance(part, WithDescriptor):
                self.written += len(part.data)
                self._parts.append(part)
            elif len(part):
                view = memoryview(part).cast("B")
                self.written += len(view)
                self._parts.append(view)
        if not self._waiting and self._retry is None and self not in _copiers:
            self._flush()

    @property
    def waits(self) -> bool:
        """Whether something waits to be written or copied."""
        return bool(self._parts)

    def _send_at_once(self, data: bytes) -> int:
        """The usual case, and the fastest: nothing waits, and the socket takes it all."""
        try:
            return self._sock.send(data, MSG_NOSIGNAL)
        except OSError:  # it is full, or the worker gone: the usual way sorts it out
            return 0

    def _flush(self) -> None:
        queue = self._parts
        blocked = False
        until: float | None = None  # one for all copies: many small ones take as long as a large one
        while queue and not blocked:
            head = queue[0]
            if type(head) is Copy:
                if until is None:
                    until = monotonic() + BUDGET / (len(_copiers) + 1)
                elif monotonic() > until:
                    self._copy_later()
                    return
                if not head.advance(SLICE):
                    queue.popleft()
                continue
            try:
                self._sent(self._send(head))
            except (BlockingIOError, InterruptedError):
                blocked = True
            except OSError as error:
                self._failed(error)
                return
        self._wait(blocked)

    def _wait(self, waiting: bool) -> None:
        """Wait for the socket to take more, or wait for it no more."""
        if waiting is not self._waiting:
            self._waiting = waiting
            if waiting:
                self._loop.add_writer(self._sock, self._flush)
            else:
                self._loop.remove_writer(self._sock)

    def _failed(self, error: OSError) -> None:
        """Nothing was sent: try again, if that may help."""
        if error.errno in SHORTAGES:
            self._wait(False)
            self._retry = self._loop.call_later(RETRY_AFTER, self._try_again)
            return
        self.close()
        if not isinstance(error, ConnectionError):
            self._cut_off(f"nothing can be sent to it: {error!r}")

    def _try_again(self) -> None:
        self._retry = None
        self._flush()

    def _copy_later(self) -> None:
        """Leave what is still to be copied to a later turn of the loop."""
        self._wait(False)
        _copiers.add(self)
        self._loop.call_soon(self._copy_on)

    def _copy_on(self) -> None:
        _copiers.discard(self)
        if not self.closed:
            self._flush()

    def _send(self, head: memoryview | Copy | WithDescriptor) -> int:
        if isinstance(head, WithDescriptor):
            return self._sock.sendmsg([head.data], with_descriptors([head.fd]), MSG_NOSIGNAL)
        if len(self._parts) == 1:
            return self._sock.send(head, MSG_NOSIGNAL)  # type: ignore[arg-type]  # a copy does not come here
        views: list[memoryview] = []
        for part in islice(self._parts, _PARTS):
            if not isinstance(part, memoryview):
                break
            views.append(part)
        return self._sock.sendmsg(views, (), MSG_NOSIGNAL)

    def _sent(self, count: int) -> None:
        """Take off what was sent."""
        queue = self._parts
        while count:
            head = queue[0]
            if isinstance(head, WithDescriptor):
                head.close()
                head = queue[0] = memoryview(head.data)
            assert isinstance(head, memoryview)
            if count < len(head):
                queue[0] = head[count:]
                return
            count -= len(head)
            queue.popleft()

    def close(self) -> None:
        """Write no more."""
        self.closed = True
        _close_descriptors(self._parts)
        self._parts.clear()
        self._wait(False)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


def _close_descriptors(parts: Sequence[Part]) -> None:
    for part in parts:
        if isinstance(part, WithDescriptor):
            part.close()
