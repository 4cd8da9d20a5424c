"""What a worker and its parent say about tasks beside sending them, however it travels."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from offloop.contexts.logs import LogReceiver
from offloop.contexts.outbox import Line
from offloop.contexts.replies import Replies
from offloop.link import LinkOwner, Sendable
from offloop.wire.frames import (
    LIVE,
    LOG,
    MESSAGE,
    RETURNED,
    STACK,
    WARNING,
    ProtocolError,
    Record,
    frame,
    pack_numbers,
    unpack_numbers,
)


class ControlLine:
    """Puts into words what is to be said, and hands on what was heard.

    Args:
        owner: is told what comes.
        replies: loads messages.
        logs: takes log records and warnings.
        outbox: where what is said goes.

    Attributes:
        heard: how many bytes were received of those that the worker counts in its ledger.
    """

    heard: int = 0

    def __init__(self, owner: LinkOwner, replies: Replies, logs: LogReceiver, outbox: Line) -> None:
        self._owner = owner
        self._replies = replies
        self._logs = logs
        self._outbox = outbox

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
        """Take everything that has come by now; by default nothing waits."""

    def close(self) -> None:
        """The worker is gone."""
        self._outbox.close()

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
                self._stack_came()
            self._owner.link_said(kind, id, pickle.loads(payload) if payload else None)

    def _stack_came(self) -> None:
        """The worker has told its stack itself."""
