"""The parent's end of a template process: starts it, has it fork workers, hears of their ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from offloop.child import nesting
from offloop.child.lowlevel import MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, descriptors_in, with_descriptors
from offloop.child.modules import is_allowed
from offloop.contexts.ends import duplicates
from offloop.contexts.forks import close_in_forks
from offloop.contexts.imports import foreign_finders, path_entries
from offloop.contexts.outbox import RETRY_AFTER, SHORTAGES
from offloop.contexts.watch import ExitWatch, Lifeline
from offloop.errors import WorkerStartError
from offloop.wire.frames import (
    EXITED,
    HEADER_SIZE,
    KILL,
    NOT_SPAWNED,
    PRELOAD,
    READY,
    REFUSED,
    SPAWN,
    SPAWNED,
    FrameDecoder,
    Record,
    frame,
)

#: The largest message to or from a template, in bytes; a failing preload's traceback is the longest.
_LIMIT = 1 << 24
#: Bytes asked for in one receive: the end of a worker takes some 0.25 ms to settle, and many may end at once.
_CHUNK = 4 * HEADER_SIZE
#: Seconds without an answer after which a template is told to go on: somebody may have stopped it.
PATIENCE = 1.0
#: Seconds that a template may take to end.
END_GRACE = 3.0


class Interpreter(NamedTuple):
    """What distinguishes one template from another; workers with equal ones share a template.

    Attributes:
        executable: the Python to run.
        flags: its command-line options, as the parent was given them.
        environ: its environment variables.
        preload: modules to import before workers are forked.
        site: whether the interpreter needs ``site``, for import hooks that it installs.
        rights: the user and group ids under which a template of it runs, see `rights`; set for each start.
    """

    executable: str
    flags: tuple[str, ...]
    environ: frozenset[tuple[str, str]]
    preload: tuple[str, ...]
    site: bool
    rights: tuple[int, ...] = ()


def rights() -> tuple[int, ...]:
    """The user and group ids that what is started now has: a program may have dropped some meanwhile."""
    return os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *sorted(os.getgroups())


def interpreter(executable: str | None, env: Mapping[str, str], preload: tuple[str, ...]) -> Interpreter:
    """The interpreter for a factory's options, as this process is now.

    Raises:
        WorkerStartError: nobody says which program is Python, as in one that embeds it.
    """
    environ = {**os.environ, **env}
    python = executable or sys.executable
    if not python:
        raise WorkerStartError(
            "sys.executable does not say where Python is; tell it: ProcessWorkerFactory(executable=...)"
        )
    flags = tuple(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # as multiprocessing does
    return Interpreter(python, flags, frozenset(environ.items()), preload, foreign_finders())


class Launched(NamedTuple):
    """An interpreter that was started, and what keeps it alive."""

    process: subprocess.Popen[bytes]
    lifeline: Lifeline


def launch(python: Interpreter, code: str, fds: tuple[int, ...]) -> Launched:
    """Start an interpreter that runs ``code``, without loading ``site``.

    Its ``sys.argv[1:]`` are the numbers of its end of the lifeline, and of ``fds``.

    Raises:
        WorkerStartError: this process is a worker within workers, too many of them.
    """
    if nesting.depth >= nesting.MAX_DEPTH:
        raise WorkerStartError(
            f"workers within workers, {nesting.depth} deep: does a module or a task start the program again?"
        )
    home = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["offloop"].__file__ or "")))
    # Collecting while it imports would take 1.5 ms, for nothing; `configure` turns it on again.
    start = f"import gc, sys; gc.disable(); sys.path.insert(0, {home!r}); {code}"
    theirs, ours = os.pipe()
    # A Ctrl-C before the new interpreter can ignore it would be a traceback of its own:
    # blocked signals stay so in it, until `take_signals`.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [python.executable, *python.flags, "-S", "-P", "-c", start, *map(str, (theirs, *fds))],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs, *fds),
            env=dict(python.environ),
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return Launched(process, Lifeline(ours))


def configuration(python: Interpreter, limit: int) -> bytes:
    """The frame that makes a new interpreter like this one."""
    config = {
        "path": path_entries(),
        "prefix": sys.prefix,
        "exec_prefix": sys.exec_prefix,
        "argv": sys.argv[:1],
        "depth": nesting.depth + 1,
        "site": python.site,
        "flags": {"no_site": sys.flags.no_site, "safe_path": sys.flags.safe_path},
        "preload": python.preload,
        "limit": limit,
    }
    return frame(READY, pickle.dumps(config, 5))


class Spawned(Protocol):
    """Who asked for a worker."""

    def spawned(self, pid: int, pidfd: int, kill: Callable[[], object]) -> None:
        """It runs; ``pidfd`` is -1 where there are none, and belongs to the callee.

        ``kill`` ends it where this process is not allowed to signal it.
        """

    def not_spawned(self, error: BaseException) -> None:
        """It could not be forked."""

    def ended(self, status: int | None, peak_rss: int | None) -> None:
        """It ended, with this wait status (None: unknown, the template went first)."""


class TemplateLost(WorkerStartError):
    """The template died, for no reason that a fresh interpreter would share."""


class TemplateProcess:
    """One template, shared by the contexts of an event loop that want the same interpreter."""

    _shared: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Interpreter, TemplateProcess]]] = (
        WeakKeyDictionary()
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, python: Interpreter, limit: int) -> None:
        self._loop = loop
        self.python = python
        self._users = 0
        self._is_retired = False
        self._requests: dict[int, Spawned] = {}
        self._queue: list[tuple[bytes, tuple[int, ...]]] = []  # frames, with the descriptors that go along
        self._preloaded: set[str] = set()
        self._workers: dict[int, Spawned] = {}
        self._frames = FrameDecoder(_LIMIT)
        self._numbers = 0
        self._problem: BaseException | None = None
        self._reminder: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None  # see `Outbox`
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        close_in_forks(self._sock)
        try:
            with theirs:
                launched = launch(
                    python,
                    "from offloop.child.template import main; main(*map(int, sys.argv[1:]))",
                    (theirs.fileno(),),
                )
        except BaseException:
            self._sock.close()
            raise
        self._process = launched.process
        self._exit = ExitWatch(loop, *launched)
        launched.lifeline.tell(configuration(python, limit))
        loop.add_reader(self._sock, self._readable)

    @classmethod
    def obtain(cls, loop: asyncio.AbstractEventLoop, python: Interpreter, limit: int) -> TemplateProcess:
        """This loop's template for that interpreter; give it back with `release`."""
        templates = cls._shared.setdefault(loop, {})
        template = templates.get(python)
        if template is None or template.lost:
            template = templates[python] = cls(loop, python, limit)
        template._users += 1
        template._is_retired = False
        return template

    @property
    def lost(self) -> bool:
        """Whether the template is gone, and can fork no more."""
        return self._sock.fileno() < 0

    @property
    def pid(self) -> int:
        """The template's process id."""
        return self._process.pid

    def release(self) -> None:
        """One user less; the last one ends the template."""
        self._users -= 1
        if self._users == 0:
            templates = self._shared.get(self._loop, {})
            if templates.get(self.python) is self:
                del templates[self.python]
            self._close()

    def retire(self) -> None:
        """It forks no more, for nobody, and ends with its last worker."""
        self._is_retired = True
        self._close_if_idle()

    def dropped(self) -> bool:
        """Release it, if it has ended; whether it has."""
        if self.lost:
            self.release()
        return self.lost

    def _close_if_idle(self) -> None:
        if self._is_retired and not self._workers and not self._requests:
            self._close()

    async def wait_ended(self) -> None:
        """Wait until the process is gone, if it was ended: by force, if it takes long."""
        if self.lost:
            overdue = self._loop.call_later(END_GRACE, self._exit.kill)
            try:
                await self._exit.wait()
            finally:
                overdue.cancel()

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Have a worker forked with these descriptors, which are duplicated; ``asker`` hears of it."""
        if self.lost:
            raise self._problem or TemplateLost("the template process is gone")
        copies = duplicates(fds)
        self._numbers += 1
        self._requests[self._numbers] = asker
        self._queue.append((frame(SPAWN, id=self._numbers), copies))
        self._send_requests()
        if self._reminder is None:
            self._reminder = self._loop.call_later(PATIENCE, self._remind)

    def _remind(self) -> None:
        """Have it go on, should it have been stopped, for as long as it owes an answer."""
        self._reminder = None
        if self._requests:
            self._exit.signal(signal.SIGCONT)
            self._reminder = self._loop.call_later(PATIENCE, self._remind)

    def kill(self, pid: int) -> None:
        """Have a worker killed; without the template it is dead, or about to be."""
        if not self.lost:
            self._queue.append((frame(KILL, ref=pid), ()))
            self._send_requests()

    def preload(self, names: Sequence[str]) -> None:
        """Have modules imported that a worker needed, so that workers to come share them."""
        new = [name for name in names if name not in self._preloaded and is_allowed(name)]
        if new and not self.lost:
            self._preloaded.update(new)
            self._queue.append((frame(PRELOAD, " ".join(new).encode()), ()))
            self._send_requests()

    def _send_requests(self) -> None:
        while self._queue and self._retry is None:
            request, fds = self._queue[0]
            try:
                self._sock.sendmsg([request], with_descriptors(fds), MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._writable)
                return
            except OSError as error:
                if error.errno in SHORTAGES:  # as when it has not taken in the last ones yet
                    self._retry = self._loop.call_later(RETRY_AFTER, self._try_again)
                elif not isinstance(error, ConnectionError):  # else it is gone, which the reader will see
                    self._loop.call_soon(self._close)
                return
            del self._queue[0]
            for fd in fds:
                os.close(fd)

    def _try_again(self) -> None:
        self._retry = None
        self._send_requests()

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._send_requests()

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_CHUNK, socket.CMSG_LEN(4), MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._close()
            return
        fds = descriptors_in(ancillary)
        pidfd = fds[0] if fds else -1
        for record in self._frames.feed(data):
            # Ancillary data comes with the message it was sent with, and a
            # receive does not read past it: the last record is the one it belongs to.
            self._handle(record, pidfd if record[0] == SPAWNED else -1)

    def _handle(self, record: Record, pidfd: int) -> None:
        kind, _, ref, id, peak, _, payload = record
        if kind == REFUSED:
            text = bytes(payload).decode(errors="replace")
            self._problem = WorkerStartError("the modules of preload could not be imported", text)
        elif kind == SPAWNED:
            asker = self._workers[ref] = self._requests.pop(id)
            asker.spawned(ref, pidfd, lambda: self.kill(ref))
        elif kind == NOT_SPAWNED:
            error = OSError(ref, os.strerror(ref))
            self._requests.pop(id).not_spawned(WorkerStartError(f"a worker could not be forked: {error}"))
            self._close_if_idle()
        elif kind == EXITED:
            worker = self._workers.pop(ref, None)
            if worker is not None:
                worker.ended(id, int(peak))
            self._close_if_idle()

    def _close(self) -> None:
        """Let go of the template, which ends it; or take note that it ended by itself."""
        if self.lost:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for timer in (self._reminder, self._retry):
            if timer is not None:
                timer.cancel()
        self._exit.begin()
        self._exit.signal(signal.SIGCONT)  # one that is stopped would not hear of its end
        for _, fds in self._queue:
            for fd in fds:
                os.close(fd)
        self._queue.clear()
        requests, self._requests = self._requests, {}
        for asker in requests.values():
            asker.not_spawned(self._problem or TemplateLost("the template process ended unexpectedly"))
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.ended(None, None)
