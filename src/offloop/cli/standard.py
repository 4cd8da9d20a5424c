"""Standard output and standard error, as the commands write to them.

What standard output does not take is an error, which is told once.  What
standard error does not take is lost, as with ``2>/dev/null``: a log whose disk
is full, or a terminal that went away, ends no work.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from offloop.child.standard import hold_standard_descriptors
from offloop.cli.arguments import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def open_standard_files() -> None:
    """Have both open for the life of the process, also where the command was started without them.

    A program that calls `offloop.cli.main` with files of its own in their place keeps these.
    """
    hold_standard_descriptors()
    sys.stdout = _in_place_of(sys.stdout, sys.__stdout__, lambda: io.BufferedWriter(_Output()))
    sys.stderr = _in_place_of(sys.stderr, sys.__stderr__, _Errors)


def _in_place_of(
    present: TextIO | None, own: io.TextIOWrapper | None, make: Callable[[], io.BufferedWriter | io.FileIO]
) -> TextIO:
    if present is None:
        return open(os.devnull, "w")  # for the life of the process
    if own is None or present is not own:
        return present
    line_buffering = own.line_buffering or own.write_through
    return io.TextIOWrapper(make(), own.encoding, own.errors, line_buffering=line_buffering)


def wait_no_more() -> None:
    """From now on, what standard error does not take at once is lost; a signal's handler may call this."""
    file = getattr(sys.stderr, "buffer", None)
    if isinstance(file, _Errors):
        file.wait_no_more()


def takes_more(descriptor: int) -> bool:
    """Whether something can be written at once."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


class _Output(io.FileIO):
    """Standard output.  After a failure it leads nowhere, or each later flush would fail again."""

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)
            if isinstance(error, BrokenPipeError):
                raise
            raise UsageError(f"cannot write to standard output: {error.strerror}") from error


class _Errors(io.FileIO):
    """Standard error, which fails nobody, and has nobody wait for its reader once a signal has come."""

    def __init__(self) -> None:
        super().__init__(2, "w", closefd=False)
        self._bell, self._rope = os.pipe()

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data).cast("B")
        whole = len(rest)
        try:
            while rest and self._has_room():
                # Where there is room at all, a pipe has it for so much.
                rest = rest[os.write(2, rest[: select.PIPE_BUF]) :]
        except OSError:
            pass
        return whole

    def _has_room(self) -> bool:
        """Wait until something can be written, but no longer than until the bell rings."""
        poll = select.poll()  # its own, as a bar draws from another thread
        poll.register(2, select.POLLOUT)
        poll.register(self._bell, select.POLLIN)
        return any(descriptor == 2 for descriptor, _ in poll.poll())

    def wait_no_more(self) -> None:
        """Have nobody wait here from now on."""
        os.write(self._rope, b"!")  # nobody takes it, so the bell goes on ringing
