"""Gates and mailboxes: how a test and its running tasks wait for each other.

Both are named pipes, given to tasks as paths, so that they work in every
context on this machine, survive pickling, and can be waited on without
polling.  The test holds both ends of each pipe open: no side blocks in
``open``, and a task that still waits when the test is over reads an end of
file and goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


async def wait_readable(fd: int) -> None:
    """Wait until a descriptor has something to read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


class Mailbox:
    """Lines from running tasks (`support.signals.tell`) to the test."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._partial = b""
        self._lines: deque[str] = deque()

    async def next(self) -> str:
        """The next line, waiting for it; cancelling loses nothing."""
        while not self._lines:
            await wait_readable(self._fd)
            self._read()
        return self._lines.popleft()

    def drain(self) -> list[str]:
        """The lines that are here already."""
        self._read()
        lines, self._lines = list(self._lines), deque()
        return lines

    def fileno(self) -> int:
        """The descriptor that can be read when there is a new line."""
        return self._fd

    def close(self) -> None:
        """Close the test's end; later messages are refused."""
        os.close(self._fd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines.extend(line.decode() for line in lines)


class Gate:
    """Where tasks (`support.signals.pass_gate`) arrive, and block until the test lets them through."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._arrivals = Mailbox(path.with_name(path.name + ".arrivals"))
        os.mkfifo(f"{path}.tokens")
        self._tokens = os.open(f"{path}.tokens", os.O_RDWR | os.O_NONBLOCK)

    async def arrived(self, count: int = 1) -> list[int]:
        """Wait for that many further arrivals; returns the `identity` of each."""
        return [int(await self._arrivals.next()) for _ in range(count)]

    def wait_arrived(self, count: int = 1) -> list[int]:
        """`arrived`, for tests that have no event loop."""
        return asyncio.run(asyncio.wait_for(self.arrived(count), 30))

    def arrivals_so_far(self) -> list[int]:
        """The arrivals which `arrived` has not handed out and which are here already."""
        return [int(line) for line in self._arrivals.drain()]

    def let_through(self, count: int = 1) -> None:
        """Let that many tasks through: those which wait, or the next ones to arrive."""
        os.write(self._tokens, b"." * count)

    def open(self) -> None:
        """Let every task through (up to 4,096 of them)."""
        self.let_through(4096)

    def close(self) -> None:
        """Close the test's ends; whoever still waits goes on."""
        self._arrivals.close()
        os.close(self._tokens)


class Log:
    """A file that tasks append lines to (`support.signals.append_line`); it outlives every crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.path = str(path)

    def lines(self) -> list[str]:
        """What was logged so far."""
        return self._path.read_text().splitlines() if self._path.exists() else []
