"""Where the results of ``offloop map`` go: standard output, or a file that a later run can go on with."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import IO, Self

from offloop.cli.arguments import UsageError
from offloop.cli.records import Done, NotRecordsError, read_records
from offloop.cli.standard import Outlet


class LineFile:
    """Writes whole lines to a descriptor, which its opener closes; nothing waits in a buffer.

    Close it.

    Args:
        descriptor: where to write.
        name: what it is called in an error.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._outlet = Outlet(descriptor)
        self._name = name
        #: Has nobody wait for its reader from now on; a signal's handler may call it.
        self.wait_no_more = self._outlet.wait_no_more
        self.close = self._outlet.close
        self.fileno = self._outlet.fileno

    def write_line(self, line: str) -> None:
        """Write a line, whose end is added.

        Raises:
            asyncio.CancelledError: it was broken off, as nobody waits any more.
            BrokenPipeError: nobody reads any more.
            UsageError: it cannot be written.
        """
        data = line.encode() + b"\n"
        try:
            taken = self._outlet.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(f"cannot write to {self._name}: {error.strerror}") from error
        if taken < len(data):
            raise asyncio.CancelledError


@contextmanager
def standard_output() -> Generator[LineFile]:
    """Standard output for results alone: what the user's code prints goes to standard error meanwhile."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        with closing(LineFile(own, "standard output")) as lines, redirect_stdout(sys.stderr):
            yield lines
    finally:
        os.dup2(own, 1)
        os.close(own)


class OutputFile:
    """A file of records, to which lines are appended; use it as a context manager.

    It is locked, so that no two runs write to it, and on the disk when the
    context is left.

    Args:
        path: where it is or shall be.
        resume: go on with what it holds.  Otherwise it must be new or empty.

    Attributes:
        done: the inputs whose results it held already.

    Raises:
        UsageError: it cannot be opened or gone on with.  Then it is left as it was.
    """

    def __init__(self, path: str, *, resume: bool) -> None:
        self._path = path
        self.done = Done()
        self._file = _open(path)
        try:
            self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
            if self._is_regular:
                self._lock()
                _sync_folder(Path(path).parent)
            elif resume:
                raise UsageError(f"{path} is not a file that could be gone on with")
            if resume:
                self._take_up()
            elif self._is_regular and os.fstat(self._file.fileno()).st_size:
                raise UsageError(f"{path} holds something already; --resume goes on with it")
            self.lines = LineFile(self._file.fileno(), path)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            # Not flock(), whose lock a forked child of the user's would hold on to.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{self._path} is being written by another run") from error

    def _take_up(self) -> None:
        """Find out what is done, and cut off what is torn."""
        self._file.seek(0)
        try:
            with open(self._file.fileno(), "rb", closefd=False) as reader:
                self.done, end = read_records(reader)
        except NotRecordsError as error:
            raise UsageError(f"cannot go on with {self._path}: {error}") from error
        except OSError as error:
            raise UsageError(f"cannot read {self._path}: {error.strerror}") from error
        self._file.truncate(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._file, closing(self.lines):
            try:
                if self._is_regular:
                    os.fsync(self._file.fileno())
            except OSError as error:
                raise UsageError(f"cannot write to {self._path}: {error.strerror}") from error


def _open(path: str) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    try:
        try:
            descriptor = os.open(path, flags, 0o666)
        except PermissionError:  # a terminal or a device may be open to writers only
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        return open(descriptor, "ab", buffering=0)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Have a new file's name reach the disk, too, as far as the folder may be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
