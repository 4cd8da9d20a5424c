"""The template: a process that is started once, and forks workers on request.

It is single-threaded, so forking it is safe whatever threads the parent has;
it has loaded what every worker needs, so a fork takes a millisecond or two.
The parent sends a `SPAWN` with the three descriptors of a worker; the template
answers with the process id (and a pidfd, where there are any), and reports each
worker's end.  With a `KILL` it kills one that the parent, which may have dropped its
rights meanwhile, may not signal.  It lives as long as the parent holds its socket.
"""

from __future__ import annotations

import gc
import os

# `os.wait4` imports it by itself, when that name may mean a file of the user's.
import resource  # noqa: F401  # pyright: ignore[reportUnusedImport]
import select
import sys
from types import SimpleNamespace

from offloop.child import install_kill_points, modules, nesting
from offloop.child.control import INTERRUPT, ORPHANED
from offloop.child.lastwords import DUMP, FATAL
from offloop.child.lowlevel import (
    MSG_CMSG_CLOEXEC,
    RIGHTS,
    descriptor_of,
    descriptors_in,
    signals,
    sockets,
    with_descriptors,
)
from offloop.child.preloading import part_from_template, preload, preload_for_workers
from offloop.child.process import leave, run_worker
from offloop.child.standard import hold_standard_descriptors
from offloop.wire.cpickle import dumps, loads
from offloop.wire.failure import encode_failure
from offloop.wire.frames import (
    EXITED,
    HEADER,
    HEADER_SIZE,
    KILL,
    NOT_SPAWNED,
    PRELOAD,
    REFUSED,
    SPAWNED,
    frame,
)
from offloop.wire.pickling import PROTOCOL

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Template:
    """The template's loop.

    Args:
        sock: the socket to the parent.
        lifeline: the pipe from it, which the workers are not to hold.
        limit: the largest payload that workers accept, in bytes.
    """

    def __init__(self, sock: sockets.socket, lifeline: int, limit: int) -> None:
        self._sock = sock
        self._lifeline = lifeline
        self._limit = limit
        self._parent = os.getppid()
        self._workers: set[int] = set()  # not reaped: their ids are nobody else's

    def serve(self) -> tuple[int, int, int] | None:
        """Fork on request.

        Returns:
            In each forked worker: its descriptors.  In the template: None, once the parent is gone.
        """
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signals.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signals.signal(signals.SIGCHLD, _do_nothing)
        own = [self._lifeline, wake_read, wake_write]
        poll = select.poll()
        for fd in (self._sock.fileno(), wake_read, *self._watch_parent(own)):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if wake_read in ready:
                os.read(wake_read, 4096)
                self._reap()
            if self._sock.fileno() in ready:
                spawned = self._spawn(own)
                if spawned is False:
                    return None
                if isinstance(spawned, tuple):
                    return spawned
            elif ready - {wake_read}:
                return None

    def _watch_parent(self, own: list[int]) -> list[int]:
        """A pidfd of the parent: its socket may be held open by a child that it forked."""
        fd = descriptor_of(self._parent)
        watched = [fd] if fd >= 0 else []
        own += watched
        return watched

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._workers.discard(pid)
            unit = 1 if sys.platform == "darwin" else 1024
            self._say(frame(EXITED, ref=pid, id=status, start=float(usage.ru_maxrss * unit)))

    def _say(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        try:
            self._sock.sendmsg([data], with_descriptors(fds))
        except OSError:
            pass  # the parent is gone, which the loop will see

    def _spawn(self, own: list[int]) -> tuple[int, int, int] | bool:
        """Answer one request.

        Returns:
            In the new worker: its descriptors.  In the template: True, or False without a parent.
        """
        try:
            data, ancillary, _, _ = self._sock.recvmsg(HEADER_SIZE, RIGHTS, MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return False
        fds = descriptors_in(ancillary)
        if len(data) < HEADER_SIZE:
            return False
        _, kind, _, ref, request, length, _, _ = HEADER.unpack(data)
        if kind == PRELOAD:
            preload_for_workers(_receive_exactly(self._sock.fileno(), length).decode().split())
            return True
        if kind == KILL:
            self._kill(ref)
            return True
        if len(fds) != 3:
            return False
        try:
            pid = os.fork()
        except OSError as error:
            pid = -1
            self._say(frame(NOT_SPAWNED, id=request, ref=error.errno or 0))
        if pid == 0:
            self._become_worker(own)
            return fds[0], fds[1], fds[2]
        for fd in fds:
            os.close(fd)
        if pid > 0:
            self._announce(request, pid)
        return True

    def _kill(self, pid: int) -> None:
        if pid in self._workers:
            try:
                os.kill(pid, signals.SIGKILL)
            except PermissionError:
                pass  # it has become another user's by itself

    def _announce(self, request: int, pid: int) -> None:
        self._workers.add(pid)
        pidfd = descriptor_of(pid)
        self._say(frame(SPAWNED, id=request, ref=pid), (pidfd,) if pidfd >= 0 else ())
        if pidfd >= 0:
            os.close(pidfd)

    def _become_worker(self, own: list[int]) -> None:
        """Right after the fork: let go of what is the template's, and die with it."""
        template = os.getppid()
        signals.set_wakeup_fd(-1)
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)
        self._sock.close()
        for fd in own:
            os.close(fd)
        die_with_parent(template)
        part_from_template()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, a single-threaded one, dies."""
    if sys.platform == "linux":
        prctl = _prctl()
        if prctl is not None:
            prctl(1, signals.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before that
        os.kill(os.getpid(), signals.SIGKILL)


def _prctl() -> Callable[..., object] | None:
    """The C library's ``prctl``, called by what is underneath `ctypes`, which would take 3 ms to load."""
    try:
        from _ctypes import call_function, dlopen, dlsym

        this_process: Any = None  # which the types of this private module leave out
        address = dlsym(dlopen(this_process, 0), "prctl")
    except (ImportError, OSError):
        return None
    return lambda *arguments: call_function(address, arguments)


def _do_nothing(*_: object) -> None:
    """A signal handler."""


def take_signals() -> None:
    """Leave Ctrl-C to the parent, and have the signals come through that it blocks and its workers live by.

    The former by a handler rather than by SIG_IGN, which programs started here would inherit.
    Until now it was blocked, as it would have ended this process with a traceback.
    """
    signals.signal(signals.SIGINT, _do_nothing)
    signals.pthread_sigmask(
        signals.SIG_UNBLOCK, (signals.SIGINT, signals.SIGCHLD, INTERRUPT, DUMP or INTERRUPT, *FATAL)
    )


def configure(config: dict[str, Any]) -> None:
    """Make this interpreter like the parent's: the same path, prefixes and builtins; then preload."""
    sys.path[:] = config["path"]
    sys.prefix, sys.exec_prefix = config["prefix"], config["exec_prefix"]
    sys.argv[:] = config["argv"]
    nesting.depth = config["depth"]
    _take_flags(config["flags"])
    _add_site_builtins(config["site"])
    gc.freeze()  # first, as all of it stays
    gc.enable()
    preload(config["preload"])


def _take_flags(flags: dict[str, Any]) -> None:
    """Have ``sys.flags`` without what only this start-up needs (``-S``, ``-P``).

    Libraries hand them on to the interpreters that they start, as multiprocessing and loky do.
    """
    own = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"}
    sys.flags = SimpleNamespace(**{**own, **flags})  # type: ignore[assignment]  # the type itself can't be made


def _add_site_builtins(whole: bool) -> None:
    import builtins

    if whole:
        import site

        before = sys.path[:]
        site.main()
        sys.path[:] = before
        return
    from _sitebuiltins import Quitter

    for name in ("exit", "quit"):
        setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))


def receive_config(fd: int) -> dict[str, Any] | None:
    """The first frame on a new process's descriptor: how to set up the interpreter; None without a parent."""
    head = _receive_exactly(fd, HEADER_SIZE)
    payload = _receive_exactly(fd, HEADER.unpack(head)[5]) if head else b""
    config: dict[str, Any] | None = loads(payload) if payload else None
    return config


def _receive_exactly(fd: int, size: int) -> bytes:
    """That many bytes and no more: what follows brings descriptors along.  Empty without a parent."""
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            return b""
        data += more
    return data


def _begin(lifeline: int) -> dict[str, Any] | None:
    """What every interpreter does first; returns its configuration, or None without a parent."""
    take_signals()
    hold_standard_descriptors()  # some of the parent's may have been of the kind that ends with `exec`
    config = receive_config(lifeline)
    die_without(lifeline)
    return config


def die_without(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of a pipe, which nobody writes to, is closed.

    The parent holds it.  A parent-death signal would come with the end of the *thread* that started
    this process; this comes with that of the whole, also to a process that is busy in C, or stopped.
    """
    os.set_inheritable(lifeline, False)
    if sys.platform != "linux":
        return
    import fcntl

    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signals.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)  # POLLHUP is always told
    if poll.poll(0):  # it was closed before that
        os._exit(ORPHANED)


def run_alone(lifeline: int, data_fd: int, control_fd: int, ledger_fd: int) -> int:
    """Be a worker that was started by itself, without a template; returns the exit status."""
    install_kill_points("worker")
    config = _begin(lifeline)
    if config is None:
        return ORPHANED
    for fd in (data_fd, control_fd, ledger_fd):
        os.set_inheritable(fd, False)
    try:
        configure(config)
    except BaseException as error:  # of a module of preload
        _refuse(data_fd, error)
        return 1
    return run_worker(data_fd, control_fd, ledger_fd, config["limit"])


def _refuse(data_fd: int, error: BaseException) -> None:
    """Tell the parent why this worker does not start."""
    failure = encode_failure(error, dumps, loads)
    sock = sockets.socket(fileno=data_fd)
    sock.settimeout(None)
    sock.sendall(frame(REFUSED, dumps(failure, PROTOCOL)))


def main(lifeline: int, fd: int) -> None:
    """Run the template on the socket ``fd``; started by `offloop.contexts.template`."""
    install_kill_points("template", "worker")
    sock = sockets.socket(fileno=fd)
    try:
        worker, limit = _serve(sock, lifeline)
    finally:
        sock.close()
    status = 0
    if worker is not None:
        status = 1
        try:
            status = run_worker(*worker, limit)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
    leave(status)  # also the template, whose modules would take 2 ms to be taken apart


def _serve(sock: sockets.socket, lifeline: int) -> tuple[tuple[int, int, int] | None, int]:
    """Be the template; returns, in each forked worker, its descriptors and the payload limit."""
    config = _begin(lifeline)
    if config is None:
        return None, 0
    try:
        configure(config)
    except BaseException:
        import traceback

        sock.sendall(frame(REFUSED, traceback.format_exc().encode()))
        return None, 0
    if config["preload"]:
        gc.collect()
        gc.freeze()
    _prctl()  # loads it for all
    modules.take_stock()
    return Template(sock, lifeline, config["limit"]).serve(), config["limit"]
