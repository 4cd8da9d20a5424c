"""The link to a worker process: its sockets, its ledger, its death."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from math import inf
from time import monotonic

from offloop.contexts.control_socket import ControlSocket
from offloop.contexts.ends import open_ends
from offloop.contexts.framed_link import BUDGET, OUTCOMES, STRIDE, FramedLink
from offloop.contexts.inlet import Inlet
from offloop.contexts.logs import LogReceiver
from offloop.contexts.oom import OomWatch
from offloop.contexts.outbox import Outbox
from offloop.contexts.sending import Sender
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.stacks import dumped_stack
from offloop.contexts.starters import LIMIT, Starter
from offloop.contexts.template import TemplateLost
from offloop.contexts.watch import STATUS_GRACE, UNKNOWN, WorkerProcess, end
from offloop.link import Exit, LinkOwner, could_not_start, died_at_start
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    FrameDecoder,
    ProtocolError,
)


class ProcessLink(FramedLink):
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
        super().__init__(loop, starter, definitions, options, owner, logs)
        self._starter, self._oom = starter, oom
        self._process: WorkerProcess | None = None
        self._peak_rss: int | None = None
        self._timer: asyncio.TimerHandle | None = None  # until its end is settled without its status
        self._has_begun = self._is_orphan = False

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
        self._outbox = self._writer = Outbox(loop, self._data, self._unfit)
        self._inlet = Inlet(self._data, self._exchange)
        replies, logs = self._replies, self._logs
        self._control = self._talk = ControlSocket(
            loop, control, owner, replies, self.ledger, logs, self._unfit
        )
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
        if self._kill_asked or self._writer.closed:  # which its setup waited in
            self._signal(signal.SIGKILL)

    def not_spawned(self, error: BaseException) -> None:
        """There is no process; or its template died before it told of it."""
        if isinstance(error, TemplateLost) and not self._kill_asked:
            self._close_ends()  # what that process has read is lost with it; it was not listened to
            self._start(self._starter.alone)
        else:
            self._problem = None if self._kill_asked else error
            self._finish(UNKNOWN)

    # -- speaking -----------------------------------------------------------

    def hunger(self, id: int, is_hungry: bool) -> None:
        """Note in the ledger whether somebody waits for a stream's next item."""
        if not self._over:
            self.ledger.set_hungry(id, is_hungry)

    async def dump_stack(self) -> str:
        """Have the C code of `faulthandler` write the stack to the ledger."""
        return await dumped_stack(self._signal, lambda: None if self._over else self.ledger)

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
        return self._has_begun and not self._writer.waits

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
                if record[0] in OUTCOMES:
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
            self._talk.drain_last()
            self._collect(inf)
        self._over, running = True, self.ledger.running()
        started, ran = [id for id, _ in running], sum(monotonic() - start for _, start in running)
        stack, output = self.ledger.stack(), self.ledger.last_words()
        self._release()
        code = os.waitstatus_to_exitcode(status) if status != UNKNOWN else 0 if self._said_bye else None
        if killed := not self._was_ready and self._problem is None and not self._kill_asked:
            killed = (code is None or code < 0) and self._options.is_plain and self._reason is None
            self._problem = died_at_start(self.pid, code, output, self._reason)
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
        super()._release()

    def _close_ends(self) -> None:
        self._outbox.close()
        self._loop.remove_reader(self._data)
        self._data.close()
        self._control.close()
        self.ledger.close()
