"""What comes on a worker's data socket, and how the worker waits for it.

A CPU that has nothing to do goes to sleep, and to wake it takes longer than a
small task: on a virtual machine some 30 µs.  So a worker that is given one small
task after another looks again for a moment before it sleeps, as the mutexes of
the GNU C library do (``PTHREAD_MUTEX_ADAPTIVE_NP``): only if the last wait was
short, so that what comes seldom costs nothing.

Between two looks others may have the CPU (`os.sched_yield`): the parent, as a
rule, which has something for it.  But to a program that computes, this gives a
whole slice of 3 or 4 ms, where one that is woken from its sleep goes first.  So
a worker that has lost a slice in this way does not look for a while: for twice
as many waits each time, and for one less after each look that has paid.
"""

from __future__ import annotations

import os
from time import monotonic

from offloop.child.lowlevel import MSG_CMSG_CLOEXEC, RIGHTS, descriptors_in, sockets
from offloop.wire.frames import FrameDecoder, Record

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes asked for in one receive.
CHUNK = 1 << 16
#: Seconds for which it looks before it sleeps.
LOOK = 150e-6
#: The most looks in that time; clocks can be made to stand.
LOOKS = 150
#: Looking has paid, or would have, if a wait took less than this, in seconds.
BRISK = 200e-6
#: Who is kept from a CPU for longer than this, in seconds, has given it to somebody who computes.
SLICE = 500e-6
#: How many waits then pass without a look: at first, and at the most.
REST, LONGEST_REST = 16, 1024


class Rests:
    """When not to look, as looks have done harm: after each of those for twice as many times."""

    def __init__(self) -> None:
        self._next = REST  # how many times the next rest lasts
        self.left = 0  # how many are left of this one

    def holds(self) -> bool:
        """Whether this time is one of a rest, which it then counts for."""
        if not self.left:
            return False
        self.left -= 1
        return True

    def begin(self) -> None:
        """A look did harm."""
        self.left, self._next = self._next, min(self._next * 2, LONGEST_REST)

    def shorten(self) -> None:
        """A look paid."""
        self._next = max(self._next - 1, REST)


class Receiver:
    """Receives frames from a socket.

    Args:
        sock: the data socket, blocking.
        limit: the largest payload accepted, in bytes.
        take_descriptors: given the descriptors that come along.
    """

    def __init__(
        self, sock: sockets.socket, limit: int, take_descriptors: Callable[[list[int]], None]
    ) -> None:
        self._sock = sock
        self._frames = FrameDecoder(limit)
        self._take_descriptors = take_descriptors
        self._timeout: float | None = None
        self._is_brisk = False
        self._rests = Rests()

    def set_timeout(self, timeout: float | None) -> None:
        """How long the socket waits at the most, in seconds, receiving and sending; None for ever."""
        if timeout != self._timeout:
            self._sock.settimeout(timeout)  # a system call
            self._timeout = timeout

    def receive(self, timeout: float | None) -> list[Record] | None:
        """Wait for frames.

        Args:
            timeout: how long at the most, in seconds; None for ever.

        Returns:
            The records that came (none, after the timeout); None when the parent is gone.
        """
        if timeout == 0:
            self.set_timeout(None)
            return self._receive(sockets.MSG_DONTWAIT)
        began = monotonic()
        records: list[Record] | None = []
        if self._is_brisk and self._frames.wanted is None:  # else the rest of a message is on its way
            records = self._look(began)
        if records == []:
            self.set_timeout(timeout)
            records = self._receive(0)
        self._is_brisk = monotonic() - began < BRISK
        return records

    def _look(self, began: float) -> list[Record] | None:
        """What comes within a moment."""
        if self._rests.holds():
            return []
        self.set_timeout(None)  # with any other, a look would be a wait
        for _ in range(LOOKS):
            records = self._receive(sockets.MSG_DONTWAIT)
            if records != []:
                self._rests.shorten()
                return records
            looked = monotonic()
            os.sched_yield()
            now = monotonic()
            if now - looked > SLICE:
                self._rests.begin()
            if now - began > LOOK:
                break
        return []

    def _receive(self, flags: int) -> list[Record] | None:
        wanted = self._frames.wanted
        try:
            if wanted is not None:
                count = self._sock.recv_into(wanted, 0, flags)
                return self._frames.filled(count) if count else None
            data, ancillary, _, _ = self._sock.recvmsg(CHUNK, RIGHTS, MSG_CMSG_CLOEXEC | flags)
        except (TimeoutError, BlockingIOError):
            return []
        except ConnectionError:
            return None
        if ancillary:
            self._take_descriptors(descriptors_in(ancillary))
        return self._frames.feed(data) if data else None
