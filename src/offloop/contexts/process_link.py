"""The link to a worker process: its sockets, its ledger, its death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from time import monotonic

from offloop.child.exchange import Part
from offloop.contexts.forks import close_in_forks
from offloop.contexts.lending import Lending
from offloop.contexts.outbox import Outbox
from offloop.contexts.replies import Replies, name_behind, unloadable_result
from offloop.contexts.sending import Sender
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import LIMIT, Starter
from offloop.errors import WorkerStartError
from offloop.link import Exit, Link, LinkOwner, S, Sendable, not_started
from offloop.shm.ledger import Ledger, create_file
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    BYE,
    CANCEL,
    CANCELLED,
    FAILED,
    READY,
    RECALL,
    REFUSED,
    RESULT,
    RETURNED,
    STOP,
    UNLOADABLE,
    FrameDecoder,
    ProtocolError,
    Record,
    frame,
    pack_numbers,
    unpack_numbers,
)

#: Bytes asked for in one receive.
CHUNK = 1 << 16
#: Seconds of reading after which other callbacks of the event loop get their turn.
BUDGET = 0.001
#: Room for the descriptors that come along with one receive.
RIGHTS = socket.CMSG_LEN(4 * 16)
#: They are not handed on to programs that this process starts.
CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: Records delivered between looks at the clock.
STRIDE = 16
#: Seconds that a worker may take to exit after it said goodbye.
EXIT_GRACE = 3.0
#: Seconds to wait for the exit status of a process that is known to be dead.
STATUS_GRACE = 0.5


class ProcessLink(Link):
    """The parent's end of one worker process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        starter: Starter,
        definitions: Definitions,
        options: WorkerOptions,
        owner: LinkOwner,
    ) -> None:
        self._loop = loop
        self._starter = starter
        self._options = options
        self._owner = owner
        self._definitions = definitions
        self._lending = Lending(loop, self._write)
        self._exchange = self._lending.exchange
        replies = Replies(definitions, self._lending)
        self._decode, self._decode_failure = replies.decode, replies.decode_failure
        self._frames = FrameDecoder(LIMIT)
        self._control_frames = FrameDecoder(1 << 24)
        self._pidfd = -1
        self._status: int | None = None
        self._peak_rss: int | None = None
        self._problem: BaseException | None = None
        self._said_bye = self._was_ready = self._kill_asked = self._over = False
        self._unread: list[Record] = []
        self._timer: asyncio.TimerHandle | None = None

    # -- starting -----------------------------------------------------------

    def start(self) -> None:
        """Have the process started; its setup waits in the socket for it."""
        loop = self._loop
        self._data, data = socket.socketpair()
        self._control, control = socket.socketpair()
        ledger = create_file()
        try:
            self.ledger = Ledger(ledger, self._options.slots + 1)
            for sock in (self._data, self._control):
                sock.setblocking(False)
            close_in_forks(self._data, self._control)
            self._outbox = Outbox(loop, self._data)
            self._control_outbox = Outbox(loop, self._control)
            self._sender = Sender(self._outbox, self._definitions, self._lending)
            loop.add_reader(self._data, self._readable)
            loop.add_reader(self._control, self._control_readable)
            self._sender.setup(self._options.setup())
            self._starter.spawn((data.fileno(), control.fileno(), ledger), self)
        except Exception as error:
            problem = (
                error
                if isinstance(error, WorkerStartError)
                else WorkerStartError(f"a worker could not start: {error}")
            )
            problem.__cause__ = error if problem is not error else None
            loop.call_soon(self.not_spawned, problem)
        finally:
            data.close()
            control.close()
            os.close(ledger)

    def spawned(self, pid: int, pidfd: int) -> None:
        """The process runs; from now on its end is watched."""
        self.pid = pid
        if pidfd < 0 and hasattr(os, "pidfd_open"):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                pidfd = -1
        self._pidfd = pidfd
        if pidfd >= 0:
            self._loop.add_reader(pidfd, self._process_ended)
        if self._kill_asked:
            self.kill()

    def not_spawned(self, error: BaseException) -> None:
        """There is no process."""
        self._problem = None if self._kill_asked else error
        self._finish(None)

    # -- sending ------------------------------------------------------------

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Pickle tasks and write them, all in one go."""
        return self._sender.send(items)

    def cancel(self, items: Sequence[Sendable]) -> None:
        """Cancel tasks."""
        self._name_tasks(CANCEL, items)

    def recall(self, items: Sequence[Sendable]) -> None:
        """Take tasks back."""
        self._name_tasks(RECALL, items)

    def _name_tasks(self, kind: int, items: Sequence[Sendable]) -> None:
        numbers = [number for item in items for number in (item.place, item.id)]
        self._control_outbox.write([frame(kind, pack_numbers(numbers))])

    def stop(self) -> None:
        """Let the worker finish."""
        self._outbox.write([frame(STOP)])

    def kill(self) -> None:
        """Send SIGKILL; the end is reported when the process is gone."""
        self._kill_asked = True
        self._signal(signal.SIGKILL)

    def abandon(self) -> None:
        """Send SIGKILL and close everything, without the event loop."""
        self.kill()
        self._over = True
        for sock, outbox in ((self._data, self._outbox), (self._control, self._control_outbox)):
            outbox.closed = True
            sock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.ledger.close()
        self._lending.close()

    def _write(self, parts: Sequence[Part]) -> None:
        self._outbox.write(parts)

    def _signal(self, number: int) -> None:
        if self._over or self.pid is None:
            return
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self._status is None:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def running(self) -> list[tuple[int, float]]:
        """What the ledger says is running."""
        return [] if self._over else self.ledger.running()

    # -- receiving ----------------------------------------------------------

    def _readable(self) -> None:
        """Take what the worker sent, for a while; what is left is taken in a later turn of the loop."""
        if not self._unread:
            try:
                records = self._receive()
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

    def _receive(self) -> list[Record] | None:
        """Records; None at the end of file."""
        wanted = self._frames.wanted
        if wanted is not None:
            count = self._data.recv_into(wanted)
            return self._frames.filled(count) if count else None
        data, ancillary, _, _ = self._data.recvmsg(CHUNK, RIGHTS, CLOEXEC)
        for _, _, rights in ancillary:
            self._exchange.receive_descriptors(rights)
        return self._frames.feed(data) if data else None

    def _deliver(self, until: float) -> None:
        records, report = self._unread, self._owner.link_result
        self._unread = []
        for at in range(0, len(records), STRIDE):
            if at and monotonic() > until:
                self._unread = records[at:]
                self._loop.call_soon(self._deliver_rest)
                break
            for record in records[at : at + STRIDE]:
                if record[0] == RESULT and not record[6]:
                    report(record[3], None, record[4], record[5])
                else:
                    self._handle(record)
        self._owner.link_delivered()

    def _deliver_rest(self) -> None:
        if not self._over and self._unread:
            self._deliver(monotonic() + BUDGET)

    def _handle(self, record: Record) -> None:
        kind, flags, ref, id, start, end, payload = record
        if kind == RESULT:
            try:
                value = self._decode(flags, payload)
            except BaseException as error:
                problem = unloadable_result(name_behind(flags, ref, payload), error)
                self._owner.link_failure(id, problem, start, end)
                if isinstance(error, KeyboardInterrupt):
                    raise
                return
            self._owner.link_result(id, value, start, end)
        elif kind == FAILED:
            self._owner.link_failure(id, self._decode_failure(payload), start, end)
        elif kind == UNLOADABLE:
            self._owner.link_unloadable(id, self._decode_failure(payload), start, end)
        elif kind == CANCELLED:
            self._owner.link_cancelled(id, start, end)
        elif self._is_about_segments(record):
            pass
        elif kind == READY:
            self._was_ready = True
            self._owner.link_ready()
        elif kind == REFUSED:
            self._problem = not_started(self._decode_failure(payload))
        elif kind == BYE:
            self._said_bye = True
            self._timer = self._loop.call_later(EXIT_GRACE, self._exit_overdue)

    def _is_about_segments(self, record: Record) -> bool:
        try:
            return self._exchange.note(record)
        except (ProtocolError, OSError):  # nonsense, or no memory to map
            self.kill()
        return True

    def _control_readable(self) -> None:
        try:
            data = self._control.recv(CHUNK)
            records = self._control_frames.feed(data)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProtocolError):
            data, records = b"", []
        if not data:
            self._loop.remove_reader(self._control)
            return
        for record in records:
            if record[0] == RETURNED:
                self._owner.link_returned(unpack_numbers(record[6]))

    def poll(self) -> None:
        """Take what has come, and what waits in the journal behind a long task."""
        if not self._over and self._was_ready:
            self._collect()

    def _collect(self) -> None:
        self._drain()
        try:
            for record in FrameDecoder(LIMIT).feed(self.ledger.unsent()):
                if record[0] in (RESULT, FAILED, UNLOADABLE, CANCELLED):
                    self._handle(record)
            self._owner.link_delivered()
        except ProtocolError:
            self.kill()

    def _drain(self) -> None:
        """Deliver everything that is in the socket now."""
        self._deliver(float("inf"))
        try:
            while (records := self._receive()) is not None:
                self._unread = records
                self._deliver(float("inf"))
        except (BlockingIOError, InterruptedError):
            pass
        except ProtocolError as error:
            self._take_before_garbage(error)
        except OSError:
            self.kill()

    def _take_before_garbage(self, error: ProtocolError) -> None:
        """The stream is spoilt, but what came before holds: those tasks have ended."""
        self._unread = error.records
        self._deliver(float("inf"))
        self._data_ended()

    # -- the end ------------------------------------------------------------

    def _data_ended(self) -> None:
        """End of file, or garbage.  Neither is the process's end: that is waited for, or brought about."""
        self._loop.remove_reader(self._data)
        if not self._said_bye and self._problem is None:
            self._signal(signal.SIGKILL)

    def _exit_overdue(self) -> None:
        """It said goodbye and did not go: a thread that does not end, a slow ``atexit``."""
        self._signal(signal.SIGTERM)
        self._timer = self._loop.call_later(1.0, self._signal, signal.SIGKILL)

    def _process_ended(self) -> None:
        """The pidfd says that the process is gone; its status comes from who started it."""
        self._loop.remove_reader(self._pidfd)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(STATUS_GRACE, self._finish, None)

    def ended(self, status: int | None, peak_rss: int | None) -> None:
        """The process is gone, with this wait status (None: the template that knew it is gone too)."""
        self._peak_rss = peak_rss
        self._finish(status if status is not None else signal.SIGKILL.value)

    def _finish(self, status: int | None) -> None:
        """Settle what the worker left behind, once."""
        if self._over:
            return
        self._status = status
        started: list[int] = []
        if self.pid is not None:
            self._collect()
            started = [id for id, _ in self.ledger.running()]
        self._over = True
        stack, output = self.ledger.stack(), self.ledger.last_words()
        self._release()
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        if not self._was_ready and self._problem is None and not self._kill_asked:
            self._problem = WorkerStartError(
                f"worker {self.pid} ended while it was starting, with exit code {code}"
            )
        clean = self._said_bye and code == 0
        exit = Exit(code, clean, started, self._problem, self._peak_rss, self.pid, stack, output)
        self._owner.link_exited(exit)

    def _release(self) -> None:
        loop = self._loop
        if self._timer is not None:
            self._timer.cancel()
        for sock, outbox in ((self._data, self._outbox), (self._control, self._control_outbox)):
            outbox.close()
            loop.remove_reader(sock)
            sock.close()
        if self._pidfd >= 0:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self.ledger.close()
        self._lending.close()
