"""Waiting for a child process of our own to end, without a signal handler and without polling."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading


class ExitWatch:
    """Watches one child: by a pidfd where there are any, else by a thread in ``waitpid``.

    Args:
        loop: the event loop that is told.
        process: the child; it is reaped when it ends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, process: subprocess.Popen[bytes]) -> None:
        self._loop = loop
        self._process = process
        self._ended: asyncio.Future[int] = loop.create_future()
        self._begun = False

    def begin(self) -> None:
        """Start to watch."""
        if self._begun:
            return
        self._begun = True
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):
            threading.Thread(target=self._wait_in_thread, daemon=True).start()
            return
        self._loop.add_reader(pidfd, self._ready, pidfd)

    async def wait(self) -> int:
        """Wait for the end; returns the exit status, or minus the signal's number."""
        self.begin()
        return await asyncio.shield(self._ended)

    @property
    def ended(self) -> asyncio.Future[int]:
        """The exit status, once the process has ended."""
        return self._ended

    def _ready(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._report(self._process.wait())

    def _wait_in_thread(self) -> None:
        status = self._process.wait()
        try:
            self._loop.call_soon_threadsafe(self._report, status)
        except RuntimeError:
            pass  # the loop was closed: nobody waits

    def _report(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)
