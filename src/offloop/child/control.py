"""A process worker's second thread: asleep on the control socket, it answers while a task runs."""

from __future__ import annotations

import _thread
import os

from offloop.child.lowlevel import signals, sockets
from offloop.child.turns import Turns
from offloop.wire.frames import (
    CANCEL,
    RETURNED,
    FrameDecoder,
    Record,
    frame,
    pack_numbers,
    unpack_numbers,
)

#: Interrupts the main thread.  A real-time signal where there are any: user code hardly uses those.
INTERRUPT: int = getattr(signals, "SIGRTMIN", signals.SIGUSR2 - 7) + 7
#: The exit status of a worker whose parent is gone.
ORPHANED = 70
_CHUNK = 1 << 14


class Control:
    """Serves the control socket until the parent is gone.

    Args:
        sock: the control socket, blocking.
        turns: what this thread shares with the runner's.
        limit: the largest payload accepted, in bytes.
    """

    def __init__(self, sock: sockets.socket, turns: Turns, limit: int) -> None:
        self._sock = sock
        self._turns = turns
        self._frames = FrameDecoder(limit)
        self._runner_thread = _thread.get_ident()

    def start(self) -> None:
        """Start the thread, and have its signal interrupt the calling one."""
        signals.signal(INTERRUPT, self._turns.interrupt)
        _thread.start_new_thread(self._serve, ())

    def _serve(self) -> None:
        # Signals are for the main thread: one that blocks in a system call is
        # woken only if the kernel hands the signal to that very thread.
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
        try:
            while data := self._sock.recv(_CHUNK):
                for record in self._frames.feed(data):
                    self._handle(record)
        except OSError:
            pass
        os._exit(ORPHANED)

    def _handle(self, record: Record) -> None:
        numbers = unpack_numbers(record[6])
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        returned = self._turns.take_back(places)
        if returned:
            self._sock.sendall(frame(RETURNED, pack_numbers(returned)))
        if record[0] == CANCEL:
            for place, _ in places:
                if self._turns.request_cancel(place):
                    signals.pthread_kill(self._runner_thread, INTERRUPT)
