"""What a dying worker leaves for the crash report: its stack, and the end of its stderr."""

from __future__ import annotations

import errno
import faulthandler
import io
import os
import sys

from offloop.child.lowlevel import signals
from offloop.shm.ledger import RING_END, Ledger

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


#: Has the worker's stack written to the ledger.  A real-time signal where there are any, else none.
DUMP: int = signals.SIGRTMIN + 8 if hasattr(signals, "SIGRTMIN") else 0
#: Those at which `faulthandler` writes it by itself.
FATAL = (signals.SIGSEGV, signals.SIGBUS, signals.SIGFPE, signals.SIGILL, signals.SIGABRT)


def keep_last_words(ledger: Ledger, fd: int) -> None:
    """From now on have them written to the ledger, which survives this process.

    Args:
        ledger: the page shared with the parent.
        fd: its descriptor, which stays open: faulthandler writes to it when a fatal signal comes.
    """
    rewind(fd)
    _let_go_of_forks(fd)
    # The stack of C code, which Python 3.14 adds by default, would take the room of Python's.
    options: Any = {"c_stack": False} if sys.version_info >= (3, 14) else {}
    faulthandler.enable(fd, **options)
    if DUMP:
        # In C, so it works as well while C code holds the interpreter's lock.
        faulthandler.register(DUMP, fd, all_threads=False)
    _take_standard_streams(ledger)


def _take_standard_streams(ledger: Ledger) -> None:
    """What tasks print is not lost with their worker: neither the end of stderr, nor a line on stdout.

    A module of ``preload`` may have put something else in their places, around those of Python's.
    """
    raw: Any = _Tee(ledger)
    encoding: str | None = getattr(sys.__stderr__, "encoding", None)  # the user's choice, perhaps
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True, write_through=True)
    stdout: Any
    for stdout in (sys.stdout, sys.__stdout__):
        try:
            stdout.reconfigure(line_buffering=True)
        except Exception:
            pass  # there is none, or it can't do that, or was detached


def _let_go_of_forks(fd: int) -> None:
    """The crash of a process that a task forks is told on stderr: it is not the worker's."""
    inode = os.fstat(fd).st_ino

    def let_go() -> None:
        try:
            if os.fstat(fd).st_ino == inode:  # a task may have closed it, and have another file in its place
                os.dup2(2, fd, inheritable=False)  # what the task has told faulthandler itself stays
        except OSError:
            pass  # it is closed, or there is no stderr

    os.register_at_fork(after_in_child=let_go)


def rewind(fd: int) -> None:
    """Have the next stack written to the beginning of its place."""
    os.lseek(fd, RING_END, os.SEEK_SET)


class _Tee(io.FileIO):
    """The descriptor of stderr; what Python code writes to it is also kept in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(2, "w", closefd=False)
        self._ledger = ledger

    def write(self, data: Any, /) -> int:
        """Write all of it, as there is no buffer above that would: a signal may cut a write short.

        Raises:
            BlockingIOError: the descriptor is one that does not block, and takes no more now.
        """
        self._ledger.say(bytes(data))
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            count = super().write(left)
            if count is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), size - len(left))
            left = left[count:]
        return size
