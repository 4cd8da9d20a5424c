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
        self.set_timeout(timeout)
        wanted = self._frames.wanted
        try:
            if wanted is not None:
                count = self._sock.recv_into(wanted)
                return self._frames.filled(count) if count else None
            data, ancillary = self._wait() if timeout is None else self._receive_message(0)
            for _, _, rights in ancillary:
                self._take_rights(rights)
            return self._frames.feed(data) if data else None
        except (TimeoutError, BlockingIOError):
            return []
        except ConnectionError:
            return None

    def _wait(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The next message, however long it takes."""
        began = monotonic()
        try:
            for _ in range(LOOKS if self._is_brisk else 0):  # not until a time, as clocks can be made to stand
                try:
                    return self._receive_message(sockets.MSG_DONTWAIT)
                except BlockingIOError:
                    os.sched_yield()
            return self._receive_message(0)
        finally:
            self._is_brisk = monotonic() - began < BRISK

    def _receive_message(self, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        data, ancillary, _, _ = self._sock.recvmsg(CHUNK, RIGHTS, MSG_CMSG_CLOEXEC | flags)
        return data, ancillary
