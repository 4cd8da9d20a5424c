"""A process worker's second thread: asleep on the control socket, it answers while a task runs."""

from __future__ import annotations

import _thread
import os
import sys

from offloop.child.lowlevel import signals, sockets, start_without_signals
from offloop.child.outlet import Outlet
from offloop.child.turns import Turns
from offloop.wire import cpickle as pickle
from offloop.wire.frames import (
    CANCEL,
    LIVE,
    MESSAGE,
    RETURNED,
    STACK,
    FrameDecoder,
    Record,
    frame,
    pack_numbers,
    unpack_numbers,
)

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

#: Interrupts the main thread.  A real-time signal where there are any: user code hardly uses those.
INTERRUPT: int = getattr(signals, "SIGRTMIN", signals.SIGUSR2 - 7) + 7
#: The exit status of a worker whose parent is gone.
ORPHANED = 70
_CHUNK = 1 << 14
#: Seconds after which a signal is sent again, should its task not have been interrupted: one that
#: comes right before a system call begins to block is seen by Python only when the call has ended.
_AGAIN = (0.001, 0.01, 0.1)


class Control:
    """Serves the control socket until the parent is gone.

    Args:
        sock: the control socket, blocking.
        outlet: where the answers go.
        turns: what this thread shares with the runner's.
        limit: the largest payload accepted, in bytes.
        rewind: see `offloop.child.lastwords.rewind`.
    """

    def __init__(
        self,
        sock: sockets.socket,
        outlet: Outlet,
        turns: Turns,
        limit: int,
        rewind: Callable[[], object],
    ) -> None:
        self._rewind = rewind
        self._sock = sock
        self._outlet = outlet
        self._turns = turns
        self._frames = FrameDecoder(limit)
        self._runner_thread = _thread.get_ident()
        self._pressing: dict[int, int] = {}  # places to be interrupted: how often their signal was sent

    def start(self) -> None:
        """Start the thread, and have its signal interrupt the calling one."""
        signals.signal(INTERRUPT, self._turns.interrupt)
        start_without_signals(lambda: _thread.start_new_thread(self._serve, ()))

    def _serve(self) -> None:
        try:
            while data := self._receive():
                for record in self._frames.feed(data):
                    self._handle(record)
        except OSError:
            pass
        except BaseException as error:  # what the parent said makes no sense
            sys.excepthook(type(error), error, error.__traceback__)
        self._ended()

    def _ended(self) -> None:
        """The parent is gone, or not understood: tasks that nobody could cancel must not go on."""
        os._exit(ORPHANED)

    def _receive(self) -> bytes:
        """Wait for bytes, and meanwhile interrupt again what a first signal did not reach."""
        while self._pressing:
            self._sock.settimeout(_AGAIN[min(self._pressing.values()) - 1])
            try:
                return self._sock.recv(_CHUNK)
            except TimeoutError:
                for place, sent in list(self._pressing.items()):
                    if sent < len(_AGAIN) and self._turns.is_to_be_interrupted(place):
                        self._interrupt(place)
                    else:
                        del self._pressing[place]
        self._sock.settimeout(None)
        return self._sock.recv(_CHUNK)

    def _interrupt(self, place: int) -> None:
        if self._turns.jumps is None:
            from offloop.child.jumps import jumps

            self._turns.jumps = jumps
        self._pressing[place] = self._pressing.get(place, 0) + 1
        signals.pthread_kill(self._runner_thread, INTERRUPT)

    def _handle(self, record: Record) -> None:
        if record[0] in LIVE:
            self._tell_task(record)
        else:
            self._take_back(record)

    def _tell_task(self, record: Record) -> None:
        kind, _, _, id, _, _, payload = record
        if kind == STACK:
            text = ""
            try:
                text = self._turns.stack_of(id)
                self._rewind()
            except Exception:  # what finds lines of source is the user's; or a task has closed the ledger
                pass  # this thread must live on
            self._outlet.send(frame(STACK, pickle.dumps(text), id=id))
            return
        live = self._turns.lives.get(id)
        if live is not None:  # else it has ended
            value = payload if kind == MESSAGE else pickle.loads(payload) if payload else None
            live.hear(kind, value)

    def _take_back(self, record: Record) -> None:
        numbers = unpack_numbers(record[6])
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        returned = self._turns.take_back(places)
        if returned:
            self._outlet.send(frame(RETURNED, pack_numbers(returned)))
        if record[0] == CANCEL:
            for place, _ in places:
                if self._turns.request_cancel(place):
                    self._interrupt(place)
