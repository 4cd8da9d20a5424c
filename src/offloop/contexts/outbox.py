"""Writing to a non-blocking socket: everything goes out in order, as soon as the socket takes it."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

#: How many parts one system call takes at the most.
_PARTS = 64


class Outbox:
    """What is to be written to a socket, in order.

    Args:
        loop: the event loop that waits for the socket.
        sock: a non-blocking stream socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._parts: deque[memoryview] = deque()
        self._waiting = False
        self.closed = False

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Write these after all that was written before.

        Never blocks, and never raises for a peer that is gone.
        """
        if self.closed:
            return
        for part in parts:
            if len(part):
                self._parts.append(memoryview(part).cast("B"))
        if not self._waiting:
            self._flush()

    def _flush(self) -> None:
        queue = self._parts
        while queue:
            try:
                if len(queue) == 1:
                    sent = self._sock.send(queue[0])
                else:
                    sent = self._sock.sendmsg([queue[i] for i in range(min(len(queue), _PARTS))])
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self.close()  # the worker is gone, which its link will see
                return
            while queue and sent >= len(queue[0]):
                sent -= len(queue.popleft())
            if sent:
                queue[0] = queue[0][sent:]
        if bool(queue) is not self._waiting:
            self._waiting = bool(queue)
            if self._waiting:
                self._loop.add_writer(self._sock, self._flush)
            else:
                self._loop.remove_writer(self._sock)

    def close(self) -> None:
        """Write no more."""
        self.closed = True
        self._parts.clear()
        if self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._sock)
