"""What a running task says and hears beside its outcome: reports, its channel, credit for its stream.

A task gets a `LiveTask` when it first needs one; most never do.  What the parent
says comes on another thread (the control thread of a process; the parent's own,
for a thread worker), and wakes whoever waits.
"""

from __future__ import annotations

import _thread

from offloop.child.channel import TaskChannel
from offloop.child.reports import ReportBuffer, checked_report
from offloop.errors import TaskCancelled
from offloop.wire.credit import SendWindow
from offloop.wire.frames import CREDIT, MESSAGE, RECEIVED, REPORT, REPORTED

TYPE_CHECKING = False

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable
    from typing import Any

    from offloop.child.protocols import Voice
    from offloop.child.reports import Report
    from offloop.child.turns import Turns


class LiveTask:
    """One running task's side talk with its parent.

    Args:
        voice: says things to the parent.
        turns: what this thread shares with the one that the parent's words come on.
        id: the task's id.
        place: its place in the order of tasks.
    """

    def __init__(self, voice: Voice, turns: Turns, id: int, place: int) -> None:
        self.id = id
        self.place = place
        #: The slot of the ledger in which it runs.
        self.slot = 0
        self.window = SendWindow()
        #: Whether the task has ended, or nobody listens any more.
        self.closed = False
        self._voice = voice
        self._turns = turns
        self._reports = ReportBuffer()
        self._lock = _thread.RLock()
        self._waiting: list[Callable[[], object]] = []
        self._channel: TaskChannel | None = None

    @classmethod
    def of(cls, voice: Voice, turns: Turns, id: int, place: int) -> LiveTask:
        """That of a running task: the one it has, or a new one."""
        live = turns.lives.get(id)
        return live if live is not None else turns.lives.setdefault(id, cls(voice, turns, id, place))

    @property
    def channel(self) -> TaskChannel:
        """The task's end of its channel, opened at first use."""
        if self._channel is None:
            place = self._turns.shield()
            try:
                with self._lock:
                    if self._channel is None:
                        self._channel = TaskChannel(self, self._voice, self._turns)
            finally:
                self._turns.unshield(place)
        return self._channel

    @property
    def is_cancelled(self) -> bool:
        """Whether the task's cancellation was requested."""
        return self.place in self._turns.cancelled

    # -- saying --------------------------------------------------------------------

    def report(self, done: Any, total: Any, message: Any) -> None:
        """Report progress; see `offloop.TaskContext.report`."""
        report = checked_report(done, total, message)
        place = self._turns.shield()
        try:
            with self._lock:
                if not self.closed:
                    self._send_reports(self._reports.add(report))
        finally:
            self._turns.unshield(place)

    def _send_reports(self, reports: list[Report]) -> None:
        if reports:
            self._voice.tell(REPORT, self.id, reports)

    def end(self) -> None:
        """The task has ended: say what it still had to say, and let go of who waits."""
        with self._lock:
            self._send_reports(self._reports.take_rest())
        self.close()

    def close(self) -> None:
        """Nobody listens any more."""
        self.closed = True
        self.wake()

    def let_go(self) -> None:
        """This is a process that the task forked, where no other thread runs: not even one with the lock."""
        self.closed = True
        self._lock = _thread.RLock()

    # -- hearing, on another thread --------------------------------------------------

    def hear(self, kind: int, value: Any) -> None:
        """Take in what the parent says to this task."""
        if kind == REPORTED:
            with self._lock:
                self._send_reports(self._reports.arrived())
        elif kind == CREDIT:
            self.window.grant(*value)
            self.wake()
        elif kind == MESSAGE:
            self.channel.put(value)
        elif kind == RECEIVED:
            self.channel.was_received()

    # -- waiting ---------------------------------------------------------------------

    def wake(self) -> None:
        """Have whoever waits look again; on any thread."""
        for wake in tuple(self._waiting):
            try:
                wake()
            except RuntimeError:
                pass  # it was woken before and has not looked yet; or its event loop was closed

    def wait(self, is_ready: Callable[[], bool]) -> None:
        """Block until ``is_ready()``, which something heard makes true.

        It ends as well when `closed` comes true.

        Raises:
            TaskCancelled: the task was cancelled before it was ready.
            RuntimeError: the task is that of an inline worker.
        """
        if not self._turns.may_wait:
            raise RuntimeError(
                "this synchronous task would wait for ever: it runs on the event loop "
                "of whom it waits for; use an async task"
            )
        gate = _thread.allocate_lock()
        place = self._turns.shield()
        self._waiting.append(gate.release)
        try:
            gate.acquire()
            while not (is_ready() or self.closed or self.is_cancelled):
                gate.acquire()  # until somebody releases it
        finally:
            self._waiting.remove(gate.release)
            self._turns.unshield(place)
        if self.is_cancelled and not is_ready():
            raise TaskCancelled("the task was cancelled")

    async def wait_async(self, is_ready: Callable[[], bool]) -> None:
        """The same for an async task; it holds up nobody on the worker's event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        while not (is_ready() or self.closed):
            woken: Future[None] = loop.create_future()

            def wake(woken: Future[None] = woken) -> None:
                loop.call_soon_threadsafe(_finish, woken)

            self._waiting.append(wake)
            try:
                if not (is_ready() or self.closed):  # it may have come before somebody could be told
                    await woken
            finally:
                self._waiting.remove(wake)


def _finish(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
