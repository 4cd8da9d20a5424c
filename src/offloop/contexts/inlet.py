"""What a worker sends on its data socket, as the parent's event loop takes it in."""

from __future__ import annotations

import socket

from offloop.child.exchange import Exchange
from offloop.child.lowlevel import MSG_CMSG_CLOEXEC, RIGHTS, descriptors_in
from offloop.contexts.starters import LIMIT
from offloop.wire.frames import FrameDecoder, Record

#: Bytes asked for in one receive, unless a frame lacks more.
CHUNK = 1 << 13


class Inlet:
    """Receives records.

    Args:
        sock: the data socket, non-blocking.
        exchange: takes the descriptors that come along.
    """

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._exchange = exchange
        self._frames = FrameDecoder(LIMIT)

    @property
    def taken(self) -> int:
        """How many bytes have come."""
        return self._frames.taken

    def receive(self) -> list[Record] | None:
        """Records: none, if it was part of a frame that came.  None at the end of file.

        Raises:
            BlockingIOError: there is nothing now.
            ProtocolError: what came makes no sense.
            OSError: the socket is broken.
        """
        wanted = self._frames.wanted
        if wanted is not None:
            count = self._sock.recv_into(wanted)
            return self._frames.filled(count) if count else None
        data, ancillary, _, _ = self._sock.recvmsg(self._frames.ask(CHUNK), RIGHTS, MSG_CMSG_CLOEXEC)
        if ancillary:
            self._exchange.receive_descriptors(descriptors_in(ancillary))
        return self._frames.feed(data) if data else None
