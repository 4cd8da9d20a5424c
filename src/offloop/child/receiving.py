"""What comes on a worker's data socket, and how the worker waits for it.

A CPU that has nothing to do goes to sleep, and to wake it takes longer than a
small task: on a virtual machine some 30 µs.  So a worker that is given one small
task after another looks again for a moment before it sleeps, as the mutexes of
the GNU C library do (``PTHREAD_MUTEX_ADAPTIVE_NP``): only if the last wait was
short, so that what comes seldom costs nothing, and letting whoever else wants
this CPU go first (`os.sched_yield`), so that it is nobody's loss.
"""

from __future__ import annotations

import os
from time import monotonic

from offloop.child.lowlevel import MSG_CMSG_CLOEXEC, RIGHTS, sockets
from offloop.wire.frames import FrameDecoder, Record

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes asked for in one receive.
CHUNK = 1 << 16
#: So many times it looks before it sleeps: 50 µs, where a look takes 2.
LOOKS = 25
#: Looking has paid, or would have, if a wait took less than this, in seconds.
BRISK = 100e-6


class Receiver:
    """Receives frames from a socket.

    Args:
        sock: the data socket, blocking.
        limit: the largest payload accepted, in bytes.
        take_rights: given the descriptors that come along, as they come.
    """

    def __init__(self, sock: sockets.socket, limit: int, take_rights: Callable[[bytes], None]) -> None:
        self._sock = sock
        self._frames = FrameDecoder(limit)
        self._take_rights = take_rights
        self._timeout: float | None = None
        self._began = 0.0  # when the wait did that is not over
        self._is_brisk = False

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
        if timeout is None:
            records = self.look()
            if records is None or records:
                return records
        self.set_timeout(timeout or None)
        return self._receive(sockets.MSG_DONTWAIT if timeout == 0 else 0)

    def look(self) -> list[Record] | None:
        """Receive what comes within a moment, before a wait, here or elsewhere: where looking has paid.

        Returns:
            As `receive`.
        """
        self.set_timeout(None)  # with any other, a look would be a wait
        self._began = monotonic()
        for _ in range(LOOKS if self._is_brisk else 0):  # not until a time, as clocks can be made to stand
            records = self._receive(sockets.MSG_DONTWAIT)
            if records is None or records:
                return records
            os.sched_yield()
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
        self._is_brisk = monotonic() - self._began < BRISK
        for _, _, rights in ancillary:
            self._take_rights(rights)
        return self._frames.feed(data) if data else None
