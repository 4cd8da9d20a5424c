"""The link to a worker in an interpreter of this process: that to a process, less the process."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from offloop.child import nesting
from offloop.contexts.imports import path_entries
from offloop.contexts.logs import LogReceiver
from offloop.contexts.oom import OomWatch
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import LIMIT, Starter
from offloop.errors import WorkerStartError
from offloop.link import LinkOwner
from offloop.wire.definitions import Definitions
from offloop.wire.frames import CANCELLED, FAILED, RESULT, UNLOADABLE, FrameDecoder, ProtocolError

#: What a worker reports at the end of a task.
ENDS = (RESULT, FAILED, UNLOADABLE, CANCELLED)
#: Seconds that the end of the program waits for interpreters that were given up.
PATIENCE = 1.0

_RUN = """\
import sys
sys.path[:] = {path!r}
from offloop.child.interpreter import main
sys.exit(main({data}, {control}, {ledger}, {limit}, {depth}))
"""


class InterpreterLink(ProcessLink):
    """The parent's end of one worker in an interpreter, which can't be killed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        definitions: Definitions,
        options: WorkerOptions,
        owner: LinkOwner,
        logs: LogReceiver,
    ) -> None:
        self._is_overdue = False
        self._host = InterpreterHost(loop, options.number)
        super().__init__(loop, self._host, definitions, options, owner, OomWatch(), logs)

    def spawned(self, pid: int, pidfd: int, kill: Callable[[], object]) -> None:
        """Its thread runs; from now on it is listened to."""
        self._has_begun = True
        self._loop.add_reader(self._data, self._readable)

    def exited(self, problem: str) -> None:
        """The interpreter is gone; ``problem`` is a traceback, or empty."""
        if problem and not self._was_ready and self._problem is None:
            self._problem = WorkerStartError(f"the worker could not start: {last_line(problem)}", problem)
        self.ended(1 << 8 if problem else 0, None)

    async def dump_stack(self) -> str:
        """There is no way but Python code of its own."""
        return ""

    def kill(self) -> None:
        """Give it up: it ends when what it runs returns."""
        self._kill_asked = True
        self._signal(signal.SIGKILL)

    def abandon(self) -> None:
        """Give it up, and tell nobody: the event loop no longer runs."""
        self._kill_asked = self._over = True
        self._release()

    def _signal(self, number: int) -> None:
        """No signal reaches it: whatever for, give it up.  Later: this may be in the midst of something."""
        if not self._over:
            self._loop.call_soon(self._give_up)

    def _exit_overdue(self) -> None:
        """It said goodbye, and something holds it up."""
        self._is_overdue = True
        self._signal(signal.SIGTERM)

    def _give_up(self) -> None:
        if self._over:
            return
        what = "what holds it up" if self._is_overdue else "its task" if self._is_busy() else ""
        self._finish(signal.SIGKILL)
        if what and self._host.thread.is_alive():
            warnings.warn_explicit(
                f"an interpreter can't be killed: {self._host.thread.name} is abandoned, "
                f"and {what} goes on until it returns",
                RuntimeWarning,
                self._host.thread.name,
                1,
            )

    def _is_busy(self) -> bool:
        """Whether a task runs on; one that has ended may be named in the ledger for a moment more."""
        self.poll()
        before = self.running()
        try:
            records = FrameDecoder(LIMIT).feed(self.ledger.unsent())
        except ProtocolError:
            records = []
        ended = {record[3] for record in records if record[0] in ENDS}
        after = self.running()
        return any(each in after and each[0] not in ended for each in before)


class InterpreterHost(Starter):
    """Runs one worker's interpreter, in a thread of its own.

    Args:
        loop: the event loop that is told of the end.
        number: the worker's.
    """

    #: Those that run.
    threads: ClassVar[set[threading.Thread]] = set()

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self._loop = loop
        # A daemon: an abandoned one shall not keep the program from ending.
        self.thread = threading.Thread(target=self._run, name=f"offloop-worker-{number}", daemon=True)

    def spawn(self, fds: tuple[int, int, int], asker: Any) -> None:
        """Start the thread; it owns duplicates of the descriptors until the interpreter takes them over."""
        self._asker = asker
        self._fds = [os.dup(fd) for fd in fds]
        try:
            self.thread.start()
        except RuntimeError as error:  # can't start new thread
            self._close()
            asker.not_spawned(WorkerStartError(f"a worker could not start: {error}"))
        else:
            asker.spawned(0, -1, lambda: None)

    def _run(self) -> None:
        self.threads.add(self.thread)
        try:
            problem = self._host()
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            self.threads.discard(self.thread)
        try:
            self._loop.call_soon_threadsafe(self._asker.exited, problem)
        except RuntimeError:
            pass  # the loop was closed: nobody waits
        del self._asker

    def _host(self) -> str:
        """Be the worker until it ends; returns what went wrong."""
        interpreters: Any = import_module("concurrent.interpreters")
        try:
            interpreter = interpreters.create()
        except BaseException:
            self._close()
            raise
        data, control, ledger = self._fds
        code = _RUN.format(
            path=path_entries(),
            data=data, control=control, ledger=ledger, limit=LIMIT, depth=nesting.depth + 1,
        )  # fmt: skip
        try:
            interpreter.exec(code)
        except interpreters.ExecutionFailed as error:
            info = error.excinfo
            if info.type.__name__ != "SystemExit":
                return str(info.errdisplay or info.formatted)
            return "" if info.msg == "0" else "SystemExit: 1"
        finally:
            interpreter.close()
        return ""

    def _close(self) -> None:
        for fd in self._fds:
            os.close(fd)


@atexit.register
def _see_off() -> None:
    """Wait for interpreters that were given up: CPython may crash that ends one as its own thread does."""
    end = time.monotonic() + PATIENCE
    for thread in list(InterpreterHost.threads):
        thread.join(max(0.0, end - time.monotonic()))


def last_line(text: str) -> str:
    """The last line of a traceback: the exception."""
    return text.strip().rpartition("\n")[2]
