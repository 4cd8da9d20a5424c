"""Statistics for other processes of the same user, where that was asked for: ``offloop top``."""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import time
import warnings
from asyncio import get_running_loop
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from functools import partial
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from offloop.child.lowlevel import MSG_NOSIGNAL
from offloop.loopend import SERVE
from offloop.observe.private import default_path, is_own, listen
from offloop.observe.snapshot import of_dispatcher
from offloop.registry import in_use

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher

#: Seconds that event loops have to answer, together; and a client to take what it asked for.
ANSWER, TAKE = 1.0, 2.0

_servers: WeakSet[StatisticsServer] = WeakSet()


class StatisticsServer:
    """Tells the statistics of all of this process's workers and pools to who connects to its socket.

    What `serve_statistics` returns; a context manager.  One thread serves it, so it answers
    also while an event loop is held up, and says which one is.

    Attributes:
        path: where it listens.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pid = os.getpid()
        self._listener = listen(path)
        self._waker, self._wake = socket.socketpair()
        self._is_closed = False
        self._thread = Thread(target=self._serve, name="offloop-statistics", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            for sock in (self._listener, self._waker, self._wake):
                sock.close()
            os.unlink(path)
            raise
        _servers.add(self)
        atexit.register(self.close)

    def close(self) -> None:
        """Listen no more, and remove the socket.  Idempotent."""
        if self._is_closed or os.getpid() != self._pid:  # in a child that was forked
            return
        self._is_closed = True
        atexit.unregister(self.close)
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        self._wake.close()
        self._thread.join(ANSWER + TAKE)

    def close_in_fork(self) -> None:
        """Let go of the socket, in a child that was forked."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<StatisticsServer {self.path!r} {'closed' if self._is_closed else 'listening'}>"

    def _serve(self) -> None:
        with self._listener, self._waker:
            poll = select.poll()
            for each in (self._listener, self._waker):
                poll.register(each, select.POLLIN)
            while self._waker.fileno() not in (fd for fd, _ in poll.poll()):
                try:
                    connection, _ = self._listener.accept()
                except OSError:  # no descriptor is left, say: it would be tried again at once
                    time.sleep(0.1)
                    continue
                with connection:
                    _answer(connection)


def _answer(connection: socket.socket) -> None:
    try:
        connection.settimeout(TAKE)
        if is_own(connection):
            connection.sendall(json.dumps(everything()).encode() + b"\n", MSG_NOSIGNAL)
    except OSError:  # who asked is gone, or does not take it
        pass


def everything() -> dict[str, Any]:
    """The statistics of this process's workers and pools, each taken on its event loop; from any thread."""
    asked = [(dispatcher, _ask(dispatcher)) for dispatcher in _dispatchers()]
    until = time.monotonic() + ANSWER
    pools: list[dict[str, Any]] = []
    for dispatcher, future in asked:
        try:
            pools.append(future.result(max(0.0, until - time.monotonic())))
        except FutureTimeoutError:
            pools.append({"id": id(dispatcher), "held_up": True})
        except Exception as error:  # it ended meanwhile
            pools.append({"id": id(dispatcher), "error": f"{type(error).__name__}: {error}"})
    return {"pid": os.getpid(), "pools": pools}


def _dispatchers() -> list[Dispatcher]:
    while True:
        try:
            found = list(in_use)
        except RuntimeError:  # another thread has just added one
            continue
        running = [each for each in found if each.loop is not None and each.loop.is_running()]
        return sorted(running, key=id)


def _ask(dispatcher: Dispatcher) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()

    def answer() -> None:
        try:
            owner = dispatcher.owner()
            statistics = of_dispatcher(dispatcher).to_dict()
            future.set_result({"id": id(dispatcher), "name": repr(owner), "statistics": statistics})
        except Exception as error:
            future.set_exception(error)

    try:
        assert dispatcher.loop is not None
        dispatcher.loop.call_soon_threadsafe(answer)
    except RuntimeError as error:  # the loop was closed
        future.set_exception(error)
    return future


def serve_statistics(path: str | os.PathLike[str] | None = None) -> StatisticsServer:
    """Let other processes of this user see the statistics of this one, as ``offloop top`` does.

    Nothing listens otherwise.  The socket lies in a folder that only this user may enter, and
    goes when the server is closed or the interpreter exits.  Whoever may connect sees what
    `Worker.statistics` shows, short texts of running tasks' arguments among it, and can change nothing.

    With the environment variable ``OFFLOOP_STATISTICS=1`` a program does this by itself.

    Args:
        path: where to listen; its folder must be this user's and closed to others (mode 0700), and
            is made if it is missing.  By default a place where ``offloop top PID`` looks.

    Returns:
        The server; close it, or use it as a context manager.

    Raises:
        OSError: it can't listen there; `PermissionError` if the folder is not private.
    """
    if path is None:
        return StatisticsServer(default_path(os.getpid()))
    return StatisticsServer(os.path.abspath(os.fspath(path)))


_by_itself: StatisticsServer | None = None
_lock = Lock()


def serve_by_itself() -> None:
    """Serve because the environment variable asks for it, once for a process; a failure is a warning."""
    global _by_itself
    with _lock:
        if _by_itself is not None and _by_itself._pid == os.getpid():
            return
        try:
            _by_itself = serve_statistics()
        except (OSError, RuntimeError) as error:  # the latter: no more threads
            text = f"{SERVE} is set, but no statistics are served: {error}"
            # Later: where warnings are errors, this raises.
            get_running_loop().call_soon(partial(warnings.warn, text, RuntimeWarning, stacklevel=1))


def _close_in_fork() -> None:
    for server in list(_servers):
        server.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
