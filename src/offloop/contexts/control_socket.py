"""The parent's end of a worker's control socket: what is said about tasks beside sending them."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable, Sequence
from typing import Any

from offloop.contexts.logs import LogReceiver
from offloop.contexts.outbox import Outbox
from offloop.contexts.replies import Replies
from offloop.contexts.starters import LIMIT
from offloop.link import LinkOwner, Sendable
from offloop.shm.ledger import CONTROL, Ledger
from offloop.wire.frames import (
    LIVE,
    LOG,
    MESSAGE,
    RETURNED,
    STACK,
    WARNING,
    FrameDecoder,
    ProtocolError,
    Record,
    frame,
    pack_numbers,
    unpack_numbers,
)

#: Bytes asked for in one receive.
CHUNK = 1 << 16


class ControlSocket:
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
        self._loop = loop
        self._sock = sock
        self._owner = owner
        self._replies = replies
        self._ledger = ledger
        self._logs = logs
        self._unfit = unfit
        self._frames = FrameDecoder(LIMIT)
        self._outbox = Outbox(loop, sock, unfit)
        self._has_ended = False
        #: How many bytes were received; the worker counts what it wrote.
        self.heard = 0
        loop.add_reader(sock, self._readable)

    def name_tasks(self, kind: int, items: Sequence[Sendable]) -> None:
        """Say something about tasks, which are named by place and id."""
        numbers = [number for item in items for number in (item.place, item.id)]
        self._outbox.write([frame(kind, pack_numbers(numbers))])

    def tell(self, kind: int, id: int, value: Any) -> None:
        """Say something to one running task."""
        if kind != MESSAGE:  # which was packed
            value = pickle.dumps(value, 5) if value is not None else b""
        self._outbox.write([frame(kind, value, id=id)])

    @property
    def written(self) -> int:
        """How many bytes were to be written."""
        return self._outbox.written

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

    def _hear(self, record: Record) -> None:
        """Hand on one record.

        Raises:
            ProtocolError: there is nonsense in it.
        """
        if record[0] in (LOG, WARNING):
            self._logs.receive(record[0], record[6])
            return
        try:
            self._hear_of_task(record)
        except Exception as error:
            raise ProtocolError(f"nonsense about a task: {error!r}") from error

    def _hear_of_task(self, record: Record) -> None:
        kind, _, _, id, _, _, payload = record
        if kind == RETURNED:
            self._owner.link_returned(unpack_numbers(payload))
        elif kind == MESSAGE:
            self._owner.link_said(kind, id, self._replies.message(payload))
        elif kind in LIVE:
            if kind == STACK:
                self._ledger.rewound()
            self._owner.link_said(kind, id, pickle.loads(payload) if payload else None)

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
        self._outbox.close()
        self._loop.remove_reader(self._sock)
        self._sock.close()
