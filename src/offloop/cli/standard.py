"""Standard output and standard error, as the commands write to them.

What standard output does not take is an error, which is told once.  What
standard error does not take is lost, as with ``2>/dev/null``: a log whose disk
is full, or a terminal that went away, ends no work.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from offloop.child.standard import hold_standard_descriptors
from offloop.cli.arguments import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def standard_files() -> Generator[None]:
    """Within it, both are open, also where the command was started without them.

    A program that calls `offloop.cli.main` with files of its own in their place
    keeps these, and has its own again afterwards.
    """
    hold_standard_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = within = _output(), _errors()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr, *within):  # the user's code may have its own over ours
            with suppress(ValueError):  # or have closed or detached one
                stream.flush()
        sys.stdout, sys.stderr = before


def _output() -> TextIO:
    own = sys.__stdout__
    if own is None or sys.stdout is not own:
        return sys.stdout or open(os.devnull, "w")
    file = _Output(1)
    return _text(file if own.write_through else io.BufferedWriter(file), own)


def _errors() -> TextIO:
    own = sys.__stderr__
    if own is None or sys.stderr is not own:
        return sys.stderr or open(os.devnull, "w")
    return _text(_Errors(2), own)  # without a buffer, whose lock a signal's handler could not break


def _text(file: io.BufferedWriter | io.FileIO, own: TextIO) -> TextIO:
    """A text file like Python's own, which has nothing more to write to the same descriptor."""
    own.flush()
    assert isinstance(own, io.TextIOWrapper)
    return io.TextIOWrapper(
        file,
        own.encoding,
        own.errors,
        line_buffering=own.line_buffering,
        write_through=own.write_through,
    )


def wait_no_more() -> None:
    """From now on, what these do not take at once is lost; a signal's handler may call this."""
    for stream in (sys.stdout, sys.stderr):
        file = getattr(stream, "buffer", None)
        file = getattr(file, "raw", file)
        if isinstance(file, Outlet):
            file.wait_no_more()


class Outlet(io.FileIO):
    """Writes to a descriptor, which its opener closes, and waits for its reader until told not to.

    It does so whether or not the descriptor blocks.  Close it.

    Args:
        descriptor: where to write.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._bell, self._rope = os.pipe()
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)  # which has always room

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, or as much as is taken before nobody waits any more.

        Returns:
            How many bytes were taken.
        """
        rest = memoryview(data).cast("B")
        whole = len(rest)
        while rest and (self._is_regular or self._has_room()):
            # Where there is room at all, a pipe has it for so much.
            piece = rest if self._is_regular else rest[: select.PIPE_BUF]
            try:
                rest = rest[os.write(self.fileno(), piece) :]
            except BlockingIOError:  # others write there as well
                self._is_regular = False  # nor is it what it was, in that case
        return whole - len(rest)

    def _has_room(self) -> bool:
        """Wait until something can be written, but no longer than until the bell rings."""
        poll = select.poll()  # its own, as a bar draws from another thread
        poll.register(self.fileno(), select.POLLOUT)
        poll.register(self._bell, select.POLLIN)
        return poll.poll() != [(self._bell, select.POLLIN)]

    def wait_no_more(self) -> None:
        """Have nobody wait here from now on; a signal's handler may call this."""
        os.write(self._rope, b"!")  # nobody takes it, so the bell goes on ringing

    def close(self) -> None:
        """Let go of the descriptor."""
        if not self.closed:
            os.close(self._bell)
            os.close(self._rope)
        super().close()


class _Output(Outlet):
    """Standard output.  After a failure it leads nowhere, or each later flush would fail again."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)
            if isinstance(error, BrokenPipeError):
                raise
            raise UsageError(f"cannot write to standard output: {error.strerror}") from error
        return memoryview(data).nbytes


class _Errors(Outlet):
    """Standard error, which fails nobody."""

    def write(self, data: ReadableBuffer, /) -> int:
        with suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes
