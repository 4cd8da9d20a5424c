"""What the links to workers that speak in frames share: what is sent there, and what becomes of an answer."""

from __future__ import annotations

import asyncio
import signal
from abc import abstractmethod
from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol

from offloop.contexts.control_line import ControlLine
from offloop.contexts.fetching import Fetches
from offloop.contexts.lending import Lending
from offloop.contexts.logs import LogReceiver
from offloop.contexts.outbox import Line
from offloop.contexts.replies import Replies
from offloop.contexts.sending import Sender
from offloop.contexts.setup import WorkerOptions
from offloop.link import Link, LinkOwner, S, Sendable, not_started
from offloop.shm.ledger import CONTROL
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    BYE,
    CANCEL,
    CANCELLED,
    FAILED,
    ITEM,
    MODULES,
    READY,
    RECALL,
    REFUSED,
    RESULT,
    RETIRE,
    STOP,
    UNLOADABLE,
    Record,
    frame,
    unpack_numbers,
)

#: Seconds of reading after which other callbacks of the event loop get their turn.
BUDGET = 0.00025
#: Records delivered between looks at the clock, where none is large.
STRIDE = 16
#: Seconds that a worker may take to exit after its last word, and then after SIGTERM.
EXIT_GRACE, FORCE_AFTER = 3.0, 1.0
#: The frames that end a task, and those on the way there.
OUTCOMES = frozenset({RESULT, ITEM, FAILED, UNLOADABLE, CANCELLED})


class Learner(Protocol):
    """Who starts workers."""

    def learn(self, modules: Sequence[str]) -> None:
        """A worker had to import these modules; others may need them as well."""


class FramedLink(Link):
    """The parent's end of one worker that speaks in frames, however they travel.

    A subclass makes ``_outbox``, ``_control`` and ``_sender`` when it starts its worker.

    Args:
        loop: the event loop.
        learner: is told of modules that the worker had to import.
        definitions: those of the pool.
        options: what the worker is told first.
        owner: is told what happens.
        logs: takes log records and warnings.
    """

    _outbox: Line
    _control: ControlLine
    _sender: Sender
    #: The words of the ledger, where there is one.
    _words: Sequence[int] = (0,) * (CONTROL + 1)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        learner: Learner,
        definitions: Definitions,
        options: WorkerOptions,
        owner: LinkOwner,
        logs: LogReceiver,
    ) -> None:
        self._loop, self._learner, self._options, self._owner = loop, learner, options, owner
        self._logs, self._definitions = logs, definitions
        self._lending = Lending(loop, lambda parts: self._outbox.write(parts))  # noqa: PLW0108 -- made later
        self._exchange = self._lending.exchange
        self._fetches = Fetches(loop, lambda: owner.link_delivered())  # noqa: PLW0108 -- its class may change
        self._replies = Replies(definitions, self._lending, self._fetches)
        self._problem: BaseException | None = None
        self._said_bye = self._was_ready = self._kill_asked = self._is_stopping = self._over = False
        self._reason: str | None = None  # why it was ended
        self._unread: list[Record] = []
        self._rest: asyncio.Handle | None = None  # of `_unread`'s delivery, if it is due
        self._lingers: asyncio.TimerHandle | None = None  # until it is made to end

    # -- sending ------------------------------------------------------------

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Pickle tasks and write them, all in one go."""
        return self._sender.send(items)

    def cancel(self, items: Sequence[Sendable]) -> None:
        """Cancel tasks."""
        self._control.name_tasks(CANCEL, items)

    def recall(self, items: Sequence[Sendable]) -> None:
        """Take tasks back."""
        self._control.name_tasks(RECALL, items)

    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """Say something to a running task."""
        self._control.tell(kind, id, value)

    def stop(self) -> None:
        """Let the worker finish."""
        self._is_stopping = True
        if not self._over:
            self._outbox.write([frame(STOP)])

    @abstractmethod
    def _signal(self, number: int) -> None:
        """Have the worker sent this signal, if it is there."""

    # -- receiving ----------------------------------------------------------

    def _deliver(self, until: float) -> None:
        """Hand on what was read; what is left at that time, in monotonic seconds, in a later turn."""
        if self._words[CONTROL] != self._control.heard:  # what tasks said goes before how they ended
            self._control.drain()
        records, report, take = self._unread, self._owner.link_result, self._replies.take_result
        self._unread = []
        stride = 1 if self._lending.in_use else STRIDE
        for at in range(0, len(records), stride):
            if at and monotonic() > until:
                self._unread = records[at:]
                self._rest = self._rest or self._loop.call_soon(self._deliver_rest)  # each has a whole budget
                break
            for record in records[at : at + stride]:
                if record[0] != RESULT:
                    self._handle(record)
                elif record[6]:
                    take(record, self._owner)
                else:
                    report(record[3], None, record[4], record[5])
        self._owner.link_delivered()

    def _deliver_rest(self) -> None:
        self._rest = None
        if not self._over and self._unread:
            self._deliver(monotonic() + BUDGET)

    def _handle(self, record: Record) -> None:
        kind, _, _, id, start, end, payload = record
        try:
            if kind == RESULT:
                self._replies.take_result(record, self._owner)
            elif kind == ITEM:
                self._replies.take_item(record, self._owner)
            elif kind == FAILED:
                self._owner.link_failure(id, self._replies.decode_failure(payload), start, end)
            elif kind == UNLOADABLE:
                self._owner.link_unloadable(id, self._replies.decode_failure(payload), start, end)
            elif kind == CANCELLED:
                self._owner.link_cancelled(id, start, end)
            elif self._exchange.note(record):
                pass
            elif kind == READY and not self._was_ready:
                self._was_ready = True
                self._owner.link_ready()
            elif kind == REFUSED and not self._was_ready:
                self._problem = not_started(self._replies.decode_failure(payload))
                self._expect_end()
            elif kind == MODULES:
                self._learner.learn(bytes(payload).decode(errors="replace").split())
            elif kind == RETIRE:
                self._owner.link_overgrown(*unpack_numbers(payload)[:2])
            elif kind == BYE:
                self._said_bye = True
                self._expect_end()
        except Exception as error:  # nothing of the user's is called here: a task wrote to this socket
            self._spoilt(error)

    def _spoilt(self, error: Exception) -> None:
        self._unfit(f"it said what makes no sense: {error!r}")

    def _unfit(self, reason: str) -> None:
        """The worker can't be spoken with any more, and is ended; what it said before that holds."""
        self._reason = reason
        self._signal(signal.SIGKILL)

    # -- the end ------------------------------------------------------------

    def _expect_end(self) -> None:
        """The worker said its last word.  It may have a thread that does not end, or a slow ``atexit``."""
        if self._lingers is None:
            self._lingers = self._loop.call_later(EXIT_GRACE, self._exit_overdue)

    def _exit_overdue(self) -> None:
        self._lingers = self._loop.call_later(FORCE_AFTER, self._signal, signal.SIGKILL)
        self._signal(signal.SIGTERM)

    def _release(self) -> None:
        """Let go of all that is held for the worker."""
        if self._lingers is not None:
            self._lingers.cancel()
        self._fetches.close()
        self._lending.close()
