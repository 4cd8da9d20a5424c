"""What workers write to standard output and standard error: all of it, once, and nothing in vain."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from offloop import ProcessWorkerFactory, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Buffered, as where nobody says otherwise.
BUFFERED = {"PYTHONUNBUFFERED": ""}
#: More bytes than a pipe holds.
LARGE = 1 << 20


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module to preload, yet to be written."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "loaded_before_the_fork.py"


def preloading(module: Path, code: str) -> ProcessWorkerFactory:
    module.write_text(code)
    return ProcessWorkerFactory(preload=[module.stem], env=BUFFERED)


async def test_what_a_preloaded_module_prints_is_printed_once(
    module: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with WorkerPool(1, factory=preloading(module, "print('loaded')")) as pool:
        for _ in range(3):
            await pool.submit(print, "ran")
            await pool.recycle()
    assert capfd.readouterr().out == "loaded\n" + 3 * "ran\n"


WRAPPED = """
import sys

class Wrapped:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        return self.stream.write(text.upper())
    def flush(self):
        self.stream.flush()

sys.stdout = Wrapped(sys.stdout)
"""
REFUSING = """
import sys

class Refusing:
    def __init__(self, stream):
        self.write, self.flush = stream.write, stream.flush
    def reconfigure(self):
        raise RuntimeError

sys.stdout = Refusing(sys.stdout)
"""
DETACHED = """
import io, sys
sys.stdout, sys.stderr = (io.TextIOWrapper(stream.detach()) for stream in (sys.stdout, sys.stderr))
"""


def print_and_die() -> None:
    print("printed")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "printed"), [(WRAPPED, "PRINTED\n"), (REFUSING, "printed\n"), (DETACHED, "printed\n")]
)
async def test_a_preloaded_module_may_put_something_else_in_the_place_of_stdout(
    module: Path, capfd: pytest.CaptureFixture[str], code: str, printed: str
) -> None:
    async with WorkerPool(1, factory=preloading(module, code)) as pool:
        with pytest.raises(Exception, match="SIGKILL"):
            await pool.submit(print_and_die)
    assert capfd.readouterr().out == printed


def stderr_format() -> tuple[str, str | None]:
    return sys.stderr.encoding, sys.stderr.errors


async def test_stderr_has_the_encoding_that_the_user_wants() -> None:
    factory = ProcessWorkerFactory(env={"PYTHONIOENCODING": "latin-1"})
    async with WorkerPool(1, factory=factory) as pool:
        assert await pool.submit(stderr_format) == ("iso8859-1", "backslashreplace")


@contextmanager
def stderr_to_pipe() -> Iterator[int]:
    """Have descriptor 2 lead into a pipe; gives the reading end."""
    before = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(before, 2)
        os.close(before)


def write_while_signals_come() -> int:
    """Write more than the pipe holds, which a signal cuts short; returns how much of it arrives."""
    arrived = bytearray()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    main = threading.get_ident()

    def read(reading: int) -> None:
        full = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
        while int.from_bytes(fcntl.ioctl(reading, termios.FIONREAD, bytes(4)), sys.byteorder) < full:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGUSR1)  # who writes waits, and has written a part
        while data := os.read(reading, LARGE):
            arrived.extend(data)
        os.close(reading)

    with stderr_to_pipe() as reading:
        reader = threading.Thread(target=read, args=(reading,))
        reader.start()
        sys.stderr.write("x" * LARGE)
    reader.join()
    return len(arrived)


@pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="nothing tells how much a pipe holds")
async def test_what_is_written_to_stderr_arrives_though_signals_come() -> None:
    async with WorkerPool(1) as pool:
        assert await pool.submit(write_while_signals_come) == LARGE


def write_without_blocking() -> tuple[int, int]:
    """Write more than the pipe holds; returns how much the error says was written, and how much arrives."""
    with stderr_to_pipe() as reading:
        os.set_blocking(2, False)
        try:
            sys.stderr.write("x" * LARGE)
        except BlockingIOError as error:
            said = error.characters_written
        arrived = len(os.read(reading, LARGE))
        os.close(reading)
    return said, arrived


async def test_what_a_stderr_that_does_not_block_has_no_room_for_is_told() -> None:
    async with WorkerPool(1) as pool:
        said, arrived = await pool.submit(write_without_blocking)
        assert said == arrived > 0


def fork_without_stdout() -> int:
    """Return in a child as well, which has no standard output; returns how that ends."""
    before: Any = sys.stdout
    sys.stdout = None  # type: ignore[assignment]  # as in a program that was started without one
    child = os.fork()
    if child == 0:
        return -1
    sys.stdout = before
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_a_child_of_a_task_ends_well_without_a_standard_output() -> None:
    async with WorkerPool(1) as pool:
        assert await pool.submit(fork_without_stdout) == 0
