"""The parent's end of a template process: starts it, has it fork workers, hears of their ends."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import socket
import subprocess
import sys
from array import array
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from offloop.child.template import EXITED, NOT_SPAWNED, SPAWN, SPAWNED
from offloop.contexts.forks import close_in_forks
from offloop.contexts.imports import foreign_finders
from offloop.contexts.watch import ExitWatch
from offloop.errors import WorkerStartError
from offloop.wire.frames import READY, REFUSED, FrameDecoder, Record, frame

#: The largest message to or from a template, in bytes; a failing preload's traceback is the longest.
_LIMIT = 1 << 24


class Interpreter(NamedTuple):
    """What distinguishes one template from another; workers with equal ones share a template.

    Attributes:
        executable: the Python to run.
        flags: its command-line options, as the parent was given them.
        environ: its environment variables.
        preload: modules to import before workers are forked.
        site: whether the interpreter needs ``site``, for import hooks that it installs.
    """

    executable: str
    flags: tuple[str, ...]
    environ: frozenset[tuple[str, str]]
    preload: tuple[str, ...]
    site: bool


def interpreter(executable: str | None, env: Mapping[str, str], preload: tuple[str, ...]) -> Interpreter:
    """The interpreter for a factory's options, as this process is now."""
    environ = {**os.environ, **env}
    flags = tuple(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # as multiprocessing does
    return Interpreter(
        executable or sys.executable, flags, frozenset(environ.items()), preload, foreign_finders()
    )


def launch(python: Interpreter, code: str, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start an interpreter that runs ``code`` with ``fds`` as ``sys.argv[1:]``, without loading ``site``."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["offloop"].__file__ or "")))
    # Collecting while it imports would take 1.5 ms, for nothing; `configure` turns it on again.
    start = f"import gc, sys; gc.disable(); sys.path.insert(0, {home!r}); {code}"
    return subprocess.Popen(
        [python.executable, *python.flags, "-S", "-P", "-c", start, *map(str, fds)],
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
        env=dict(python.environ),
    )


def configuration(python: Interpreter, limit: int) -> bytes:
    """The frame that makes a new interpreter like this one."""
    config = {
        "path": sys.path,
        "prefix": sys.prefix,
        "exec_prefix": sys.exec_prefix,
        "argv": sys.argv[:1],
        "site": python.site,
        "preload": python.preload,
        "limit": limit,
    }
    return frame(READY, pickle.dumps(config, 5))


class Spawned(Protocol):
    """Who asked for a worker."""

    def spawned(self, pid: int, pidfd: int) -> None:
        """It was forked; ``pidfd`` is -1 where there are none, and belongs to the callee."""

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
        self._python = python
        self._users = 0
        self._requests: dict[int, Spawned] = {}
        self._queue: list[tuple[int, tuple[int, int, int]]] = []
        self._workers: dict[int, Spawned] = {}
        self._frames = FrameDecoder(_LIMIT)
        self._numbers = 0
        self._problem: BaseException | None = None
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        close_in_forks(self._sock)
        with theirs:
            self._process = launch(
                python, "from offloop.child.template import main; main(int(sys.argv[1]))", (theirs.fileno(),)
            )
        self._exit = ExitWatch(loop, self._process)
        self._sock.send(configuration(python, limit))
        loop.add_reader(self._sock, self._readable)

    @classmethod
    def obtain(cls, loop: asyncio.AbstractEventLoop, python: Interpreter, limit: int) -> TemplateProcess:
        """This loop's template for that interpreter; give it back with `release`."""
        templates = cls._shared.setdefault(loop, {})
        template = templates.get(python)
        if template is None or template.lost:
            template = templates[python] = cls(loop, python, limit)
        template._users += 1
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
            if templates.get(self._python) is self:
                del templates[self._python]
            self._close()

    async def wait_ended(self) -> None:
        """Wait until the process is gone, if it was ended."""
        if self.lost:
            await self._exit.wait()

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Have a worker forked with these descriptors, which are duplicated; ``asker`` hears of it."""
        if self.lost:
            raise self._problem or TemplateLost("the template process is gone")
        self._numbers += 1
        self._requests[self._numbers] = asker
        copies = (os.dup(fds[0]), os.dup(fds[1]), os.dup(fds[2]))
        self._queue.append((self._numbers, copies))
        self._send_requests()

    def _send_requests(self) -> None:
        while self._queue:
            number, fds = self._queue[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))]
            try:
                self._sock.sendmsg([frame(SPAWN, id=number)], rights)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._writable)
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:  # it has not taken in the last ones yet
                    self._loop.call_later(0.01, self._send_requests)
                return  # else the template is gone, which the reader will see
            del self._queue[0]
            for fd in fds:
                os.close(fd)

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._send_requests()

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(4096, socket.CMSG_LEN(4), _CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        pidfd = -1
        for _, _, rights in ancillary:
            pidfd = int.from_bytes(rights[:4], sys.byteorder)
        if not data:
            self._close()
            return
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
            asker.spawned(ref, pidfd)
        elif kind == NOT_SPAWNED:
            error = OSError(ref, os.strerror(ref))
            self._requests.pop(id).not_spawned(WorkerStartError(f"a worker could not be forked: {error}"))
        elif kind == EXITED:
            worker = self._workers.pop(ref, None)
            if worker is not None:
                worker.ended(id, int(peak))

    def _close(self) -> None:
        """Let go of the template, which ends it; or take note that it ended by itself."""
        if self.lost:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._exit.begin()
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


_CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
