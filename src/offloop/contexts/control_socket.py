"""The parent's end of a worker's control socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from offloop.contexts.control_line import ControlLine
from offloop.contexts.logs import LogReceiver
from offloop.contexts.outbox import Outbox
from offloop.contexts.replies import Replies
from offloop.contexts.starters import LIMIT
from offloop.link import LinkOwner
from offloop.shm.ledger import CONTROL, Ledger
from offloop.wire.frames import FrameDecoder, ProtocolError, Record

#: Bytes asked for in one receive.
CHUNK = 1 << 16


class ControlSocket(ControlLine):
    """Writes to the control socket, and hands on what comes from it.

    Args:
        loop: the event loop.
        sock: the socket, which this owns from now on.
        owner: is told what comes.
        replies: loads messages.
        ledger: the page shared with the worker.
        logs: takes log records and warnings.
        unfit: called with the reason when the worker can't be spoken with any more: something came that
            makes no sense, after which nothing more is heard, or nothing can be sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        owner: LinkOwner,
        replies: Replies,
        ledger: Ledger,
        logs: LogReceiver,
        unfit: Callable[[str], object],
    ) -> None:
        sock.setblocking(False)
        super().__init__(owner, replies, logs, Outbox(loop, sock, unfit))
        self._loop = loop
        self._sock = sock
        self._ledger = ledger
        self._unfit = unfit
        self._frames = FrameDecoder(LIMIT)
        self._has_ended = False
        loop.add_reader(sock, self._readable)

    def drain(self) -> None:
        """Take everything that has come by now: what comes meanwhile is for a later turn of the loop."""
        until = self._ledger.words[CONTROL]
        while self.heard < until and self._take():
            pass

    def drain_last(self) -> None:
        """Take everything, now that the worker is gone: it may have died before it counted the last of it."""
        while self._take():
            pass

    def _readable(self) -> None:
        self._take()

    def _take(self) -> bool:
        """Take some of what has come; False if that was all."""
        if self._has_ended:
            return False
        records: list[Record] | None = None
        nonsense: ProtocolError | None = None
        try:
            records = self._receive()
        except (BlockingIOError, InterruptedError):
            return False
        except ProtocolError as error:  # a task wrote garbage: what came before it holds
            nonsense, records = error, error.records
        except OSError:  # the worker is gone
            pass
        if records is None:
            self._end()
            return False
        try:
            for record in records:
                self._hear(record)
        except ProtocolError as error:
            nonsense = error
        if nonsense is not None:
            self._end()
            self._unfit(f"it said what makes no sense: {nonsense!r}")
        return not self._has_ended

    def _end(self) -> None:
        """Nothing more will be heard."""
        self._has_ended = True
        self._loop.remove_reader(self._sock)

    def _stack_came(self) -> None:
        self._ledger.rewound()

    def _receive(self) -> list[Record] | None:
        """Records; None at the end of file."""
        wanted = self._frames.wanted
        if wanted is not None:
            count = self._sock.recv_into(wanted)
            self.heard += count
            return self._frames.filled(count) if count else None
        data = self._sock.recv(CHUNK)
        self.heard += len(data)
        return self._frames.feed(data) if data else None

    def close(self) -> None:
        """The worker is gone."""
        super().close()
        self._loop.remove_reader(self._sock)
        self._sock.close()
