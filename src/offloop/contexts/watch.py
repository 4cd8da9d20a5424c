"""Waiting for a child process of our own to end, without a signal handler and without polling."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable

from offloop.child.lowlevel import descriptor_of
from offloop.contexts.forks import close_in_forks


def end(pidfd: int, kill: Callable[[], object]) -> None:
    """Kill the process of a pidfd, if it is one, and close that; see `WorkerProcess` for ``kill``."""
    if pidfd < 0:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        kill()
    os.close(pidfd)


#: In place of a wait status: somebody else has reaped the process.
UNKNOWN = -1


#: Seconds to wait for the exit status of a process that is known to be dead.
STATUS_GRACE = 0.5


class WorkerProcess:
    """A process that somebody else has started, and reaps.

    Args:
        loop: the event loop.
        pid: its process id.
        pidfd: its pidfd, which this owns from now on; or -1.
        gone: called when it has ended; never, where there are no pidfds.
        kill: has it killed by whoever may: this program, or the worker, may have other ids than it had then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        pidfd: int,
        gone: Callable[[], object],
        kill: Callable[[], object],
    ) -> None:
        self.pid = pid
        self._loop = loop
        self._pidfd = pidfd if pidfd >= 0 else descriptor_of(pid)
        self._gone, self._kill = gone, kill
        #: Whether its end can be waited for.
        self.is_watched = self._pidfd >= 0
        if self.is_watched:
            loop.add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.is_watched = False
        self._gone()

    def signal(self, number: int) -> None:
        """Send a signal; one that is gone does not get it, and one that may not be signalled only SIGKILL."""
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            if number == signal.SIGKILL:
                self._kill()

    def close(self) -> None:
        """Look after it no more."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd, self.is_watched = -1, False


class Lifeline:
    """The writing end of a pipe whose other end a child has.

    The child's configuration goes there first.  Then nothing does; and, on Linux, the kernel kills the
    child when this is closed, as it is by the end of this process, however that comes.

    Args:
        fd: the descriptor, which this owns.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        close_in_forks(self)

    def tell(self, data: bytes) -> None:
        """Write all of it, if the child still reads.

        If it does not, the signal of that, which may be the end of this program, is taken from the thread
        that gets it: on a pipe there is no `MSG_NOSIGNAL`.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        try:
            with open(self._fd, "wb", closefd=False) as pipe:
                pipe.write(data)
        except BrokenPipeError:  # it has ended, which is heard of in another way
            if signal.SIGPIPE in signal.sigpending() - before:
                signal.sigwait({signal.SIGPIPE})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Close it; doing so again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class ExitWatch:
    """Watches one child: by a pidfd where there are any, else by a thread in ``waitpid``.

    Args:
        loop: the event loop that is told.
        process: the child; it is reaped when it ends.
        lifeline: the child's; it is closed when the child has ended.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, process: subprocess.Popen[bytes], lifeline: Lifeline
    ) -> None:
        self._loop = loop
        self._process = process
        self._lifeline = lifeline
        self._ended: asyncio.Future[int] = loop.create_future()
        self._begun = False

    def begin(self) -> None:
        """Start to watch."""
        if self._begun:
            return
        self._begun = True
        # A loop that does not run may never run again, and the child must be reaped.
        pidfd = descriptor_of(self._process.pid) if self._loop.is_running() else -1
        if pidfd < 0:
            threading.Thread(target=self._wait_in_thread, daemon=True).start()
        else:
            self._loop.add_reader(pidfd, self._ready, pidfd)

    async def wait(self) -> int:
        """Wait for the end; returns the status as `ended` has it."""
        self.begin()
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> bool:
        """Send a signal; whether that is allowed: this program may have other ids than it had at first."""
        try:
            self._process.send_signal(number)
        except PermissionError:
            return False
        return True

    def kill(self) -> None:
        """Kill it; on Linux also where no signal may be sent."""
        if not self.signal(signal.SIGKILL):
            self._lifeline.close()

    @property
    def ended(self) -> asyncio.Future[int]:
        """What ``waitpid`` gave, once the process has ended; or `UNKNOWN`."""
        return self._ended

    def _ready(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._report(self._reap())

    def _reap(self) -> int:
        # Not by `Popen.wait`, which says 0 where the program ignores SIGCHLD or waits for any child.
        try:
            status = os.waitpid(self._process.pid, 0)[1]
        except ChildProcessError:
            status = UNKNOWN
        self._lifeline.close()
        self._process.returncode = os.waitstatus_to_exitcode(status) if status != UNKNOWN else 0
        return status

    def _wait_in_thread(self) -> None:
        status = self._reap()
        try:
            self._loop.call_soon_threadsafe(self._report, status)
        except RuntimeError:
            pass  # the loop was closed: nobody waits

    def _report(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)
