"""The link to a worker process: its sockets, its ledger, its death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any

from offloop.contexts.control_socket import ControlSocket
from offloop.contexts.ends import open_ends
from offloop.contexts.fetching import Fetches
from offloop.contexts.inlet import Inlet
from offloop.contexts.lending import Lending
from offloop.contexts.logs import LogReceiver
from offloop.contexts.oom import OomWatch
from offloop.contexts.outbox import Outbox
from offloop.contexts.replies import Replies
from offloop.contexts.sending import Sender
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.stacks import dumped_stack
from offloop.contexts.starters import LIMIT, Starter
from offloop.contexts.template import TemplateLost
from offloop.contexts.watch import STATUS_GRACE, UNKNOWN, WorkerProcess, end
from offloop.link import Exit, Link, LinkOwner, S, Sendable, could_not_start, died_at_start, not_started
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
    FrameDecoder,
    ProtocolError,
    Record,
    frame,
    unpack_numbers,
)

#: Seconds of reading after which other callbacks of the event loop get their turn.
BUDGET = 0.00025
#: Records delivered between looks at the clock, where none is large.
STRIDE = 16
#: Seconds that a worker may take to exit after its last word.
EXIT_GRACE = 3.0


class ProcessLink(Link):
    """The parent's end of one worker process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        starter: Starter,
        definitions: Definitions,
        options: WorkerOptions,
        owner: LinkOwner,
        oom: OomWatch,
        logs: LogReceiver,
    ) -> None:
        self._loop, self._starter, self._options, self._owner = loop, starter, options, owner
        self._oom, self._logs, self._definitions = oom, logs, definitions
        self._lending = Lending(loop, lambda parts: self._outbox.write(parts))  # noqa: PLW0108 -- made later
        self._exchange = self._lending.exchange
        self._fetches = Fetches(loop, lambda: owner.link_delivered())  # noqa: PLW0108 -- its class may change
        self._replies = Replies(definitions, self._lending, self._fetches)
        self._process: WorkerProcess | None = None
        self._peak_rss: int | None = None
        self._problem: BaseException | None = None
        self._said_bye = self._was_ready = self._kill_asked = self._over = False
        self._has_begun = self._is_orphan = self._is_stopping = False
        self._reason: str | None = None  # why it was ended
        self._unread: list[Record] = []
        self._rest: asyncio.Handle | None = None  # of `_unread`'s delivery, if it is due
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Have the process started; its setup waits in the socket for it."""
        self._start(self._starter)

    def _start(self, starter: Starter) -> None:
        loop, owner = self._loop, self._owner
        try:
            self._data, control, self.ledger, worker, fds = open_ends(self._options.slots + 1)
        except Exception as error:  # nothing is open, and there is nothing to release
            self._over = True
            exit = Exit(None, False, problem=could_not_start("a worker", error))
            loop.call_soon(lambda: owner.link_exited(exit))  # by its name: the owner's class may change
            return
        self._words = self.ledger.words
        self._outbox, self._inlet = Outbox(loop, self._data, self._unfit), Inlet(self._data, self._exchange)
        replies, logs = self._replies, self._logs
        self._control = ControlSocket(loop, control, owner, replies, self.ledger, logs, self._unfit)
        self._sender = Sender(self._outbox, self._definitions, self._lending)
        with worker:
            try:
                self._sender.setup(self._options.setup())
                if self._is_stopping:
                    self.stop()
                starter.spawn(fds, self)
            except Exception as error:
                loop.call_soon(self.not_spawned, could_not_start("a worker", error))

    def spawned(self, pid: int, pidfd: int, kill: Callable[[], object]) -> None:
        """The process runs; from now on it is listened to, and its end is watched."""
        if self._over:  # killed or abandoned meanwhile; nobody holds its sockets
            end(pidfd, kill)
            return
        self.pid = pid
        self._has_begun = True
        self._loop.add_reader(self._data, self._readable)
        self._process = WorkerProcess(self._loop, pid, pidfd, self._process_ended, kill)
        if self._kill_asked or self._outbox.closed:  # which its setup waited in
            self._signal(signal.SIGKILL)

    def not_spawned(self, error: BaseException) -> None:
        """There is no process; or its template died before it told of it."""
        if isinstance(error, TemplateLost) and not self._kill_asked:
            self._close_ends()  # what that process has read is lost with it; it was not listened to
            self._start(self._starter.alone)
        else:
            self._problem = None if self._kill_asked else error
            self._finish(UNKNOWN)

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

    def hunger(self, id: int, is_hungry: bool) -> None:
        """Note in the ledger whether somebody waits for a stream's next item."""
        if not self._over:
            self.ledger.set_hungry(id, is_hungry)

    async def dump_stack(self) -> str:
        """Have the C code of `faulthandler` write the stack to the ledger."""
        return await dumped_stack(self._signal, lambda: None if self._over else self.ledger)

    def stop(self) -> None:
        """Let the worker finish."""
        self._is_stopping = True
        if not self._over:
            self._outbox.write([frame(STOP)])

    def kill(self) -> None:
        """Send SIGKILL; the end is reported when the process is gone."""
        self._kill_asked = True
        if not self._has_begun:  # whoever is to fork it may be slow, or hang
            self._loop.call_soon(self._finish, signal.SIGKILL.value)
        self._signal(signal.SIGKILL)

    def abandon(self) -> None:
        """Send SIGKILL and close everything, without the event loop, which is to know nothing of it."""
        if not self._over:
            self._signal(signal.SIGKILL)
            self._kill_asked = self._over = True
            self._release()

    def _signal(self, number: int) -> None:
        if self._process is not None and not self._over:
            self._process.signal(number)

    def running(self) -> list[tuple[int, float]]:
        """What the ledger says is running."""
        return [] if self._over else self.ledger.running()

    def is_through(self) -> bool:
        """Whether nothing waits to be written or copied."""
        return self._has_begun and not self._outbox.waits

    def traffic(self) -> tuple[int, int]:
        """Bytes through its sockets and segments; none before the process runs."""
        if not self._has_begun:
            return 0, 0
        taken = self._inlet.taken + self._control.heard + self._lending.taken
        return self._outbox.written + self._control.written, taken

    # -- receiving ----------------------------------------------------------

    def _readable(self) -> None:
        """Take what the worker sent, for a while; what is left is taken in a later turn of the loop."""
        if self._unread:
            return  # `_deliver_rest` is due
        try:
            records = self._inlet.receive() or self._inlet.receive()  # the rest of a frame, as a rule
        except (BlockingIOError, InterruptedError):
            return
        except ProtocolError as error:
            self._take_before_garbage(error)
            return
        except OSError:
            records = None
        if records is None:
            self._data_ended()
            return
        self._unread = records
        self._deliver(monotonic() + BUDGET)

    def _deliver(self, until: float) -> None:
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
                self._starter.learn(bytes(payload).decode(errors="replace").split())
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

    def poll(self, until: float = inf) -> None:
        """Take what has come, and what waits in the journal behind a long task."""
        if not self._over and self._was_ready:
            self._collect(until)

    def _collect(self, until: float) -> None:
        # The journal first: what went before its content has been sent.  Else items come behind their end.
        unsent = self.ledger.unsent()
        if not self._drain(until):
            return  # a worker that has sent so much will send the rest
        try:
            self._control.drain()  # what was said before these outcomes
            for at, record in enumerate(FrameDecoder(LIMIT).feed(unsent)):
                if at and not at % STRIDE and monotonic() > until:
                    break  # it is still there at the next look
                if record[0] in (RESULT, ITEM, FAILED, UNLOADABLE, CANCELLED):
                    self._handle(record)
            self._owner.link_delivered()
        except ProtocolError as error:
            self._spoilt(error)
        self._fetches.advance(until)

    def _drain(self, until: float) -> bool:
        """Deliver what is in the socket now; whether that was all."""
        self._deliver(until)
        try:
            while not self._unread and (records := self._inlet.receive()) is not None:
                self._unread = records
                self._deliver(until)
                if monotonic() > until:
                    return False
        except (BlockingIOError, InterruptedError):
            pass
        except ProtocolError as error:
            self._take_before_garbage(error)
        except OSError:
            self.kill()
        return not self._unread

    def _take_before_garbage(self, error: ProtocolError) -> None:
        """The stream is spoilt, but what came before holds: those tasks have ended."""
        self._unread = error.records
        self._deliver(inf)
        self._spoilt(error)
        self._data_ended()

    # -- the end ------------------------------------------------------------

    def _data_ended(self) -> None:
        """End of file, or garbage.  Neither is the process's end: that is waited for, or brought about."""
        self._loop.remove_reader(self._data)
        if not self._said_bye and self._problem is None:
            self._signal(signal.SIGKILL)

    def _expect_end(self) -> None:
        """The worker said its last word."""
        if self._process is not None:
            self._process.expect_end(EXIT_GRACE)

    def _process_ended(self) -> None:
        """The pidfd says that the process is gone; its status comes from who started it."""
        grace, status = (0.0, signal.SIGKILL.value) if self._is_orphan else (STATUS_GRACE, UNKNOWN)
        self._timer = self._loop.call_later(grace, self._finish, status)

    def ended(self, status: int | None, peak_rss: int | None) -> None:
        """The process is gone, with this wait status (None: the template that knew it is gone too)."""
        self._peak_rss = peak_rss
        if status is None:  # it dies with its template, but perhaps not yet, and could begin a task before
            self._signal(signal.SIGKILL)
            self._is_orphan = self._process is not None and self._process.is_watched
            status = signal.SIGKILL.value
        if not self._is_orphan:
            self._finish(status)

    def _finish(self, status: int) -> None:
        """Settle what the worker left behind, once."""
        if self._over:
            return
        if self._has_begun:
            self._control.drain_last()
            self._collect(inf)
        self._over, running = True, self.ledger.running()
        started, ran = [id for id, _ in running], sum(monotonic() - start for _, start in running)
        stack, output = self.ledger.stack(), self.ledger.last_words()
        self._release()
        code = os.waitstatus_to_exitcode(status) if status != UNKNOWN else 0 if self._said_bye else None
        if killed := not self._was_ready and self._problem is None and not self._kill_asked:
            killed = (code is None or code < 0) and self._options.is_plain
            self._problem = died_at_start(self.pid, code, output)
        clean = self._said_bye and code == 0
        oom = self._oom.verdict(code, asked=self._kill_asked)
        exit = Exit(code, clean, started, self._problem, self._peak_rss, self.pid, stack, output, oom, ran)
        self._owner.link_exited(exit._replace(killed=killed and not oom, reason=self._reason))

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.close()
        self._close_ends()
        self._fetches.close()
        self._lending.close()

    def _close_ends(self) -> None:
        self._outbox.close()
        self._loop.remove_reader(self._data)
        self._data.close()
        self._control.close()
        self.ledger.close()
