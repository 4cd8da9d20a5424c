"""The life of a worker process, from its sockets to its exit."""

from __future__ import annotations

import _thread
import atexit
import os
import sys

from offloop.child.control import ORPHANED, Control
from offloop.child.lastwords import keep_last_words, rewind
from offloop.child.lowlevel import sockets
from offloop.child.outlet import Outlet
from offloop.child.port import SocketPort
from offloop.child.runner import Runner
from offloop.child.setup import take_setup
from offloop.child.standard import flush_standard_streams
from offloop.child.turns import Turns
from offloop.shm.ledger import Ledger

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop.child.memory import MemoryGuard

#: Freed blocks of memory up to this size, and twice as much in all, stay with the process.
HEAP = 8 << 20


def run_worker(data_fd: int, control_fd: int, ledger_fd: int, limit: int) -> int:
    """Be a worker process until told to stop; returns the exit status."""
    data, control = sockets.socket(fileno=data_fd), sockets.socket(fileno=control_fd)
    data.settimeout(None)
    control.settimeout(None)
    _reuse_memory()
    ledger = Ledger(ledger_fd)
    keep_last_words(ledger, ledger_fd)
    turns = Turns()
    turns.thread = _thread.get_ident()
    outlet = Outlet(control, turns, ledger.words, lambda: os._exit(ORPHANED))
    atexit.register(outlet.flush)
    port = SocketPort(data, ledger, limit, outlet)
    _let_go_of_forks(port, control, outlet, turns)
    Control(control, outlet, turns, limit, lambda: rewind(ledger_fd)).start()
    try:
        setup = take_setup(port, outlet, lambda options: _apply(options, port))
        if isinstance(setup, int):
            return setup
        options, environment = setup
        memory = _watch_memory(options["max_memory"], port)
        runner = Runner(port, options["number"], environment, turns, options["slots"], memory)
        if runner.serve():
            runner.close()
            return 0
    except ConnectionError:  # of the port: what the user's code raises is reported
        pass
    return ORPHANED


def _reuse_memory() -> None:
    """Have arrays and pickles of some megabytes, made for each task anew, use memory that has pages already.

    glibc gives freed blocks back to the system at once, beginning with 128 KiB; but it takes the largest
    that was ever freed for what this program needs (``M_MMAP_THRESHOLD`` in mallopt(3)), so one that nobody
    writes to is enough.  Maps over arrays of 0.25 to 4 MB run up to three times as fast.
    """
    bytes(HEAP)


def _watch_memory(limit: int | None, port: SocketPort) -> MemoryGuard | None:
    if limit is None:
        return None
    from offloop.child.memory import MemoryGuard

    return MemoryGuard(limit, port)


def _let_go_of_forks(port: SocketPort, control: sockets.socket, outlet: Outlet, turns: Turns) -> None:
    """A process that a task forks must not hold the worker's sockets, nor speak for it."""

    def let_go() -> None:
        port.let_go()
        control.close()
        outlet.close()
        for live in turns.lives.values():
            live.let_go()

    os.register_at_fork(after_in_child=let_go)


def _apply(options: dict[str, Any], port: SocketPort) -> None:
    """Take on what the parent wants of this process."""
    if options["is_remote"]:
        port.stay_apart()
    port.path.take(options["path"])
    if not options["is_remote"] or os.path.isdir(options["cwd"]):
        os.chdir(options["cwd"])
    if options["nice"]:
        os.nice(options["nice"])
    if options["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, options["cpus"])
    if options["memory_limit"]:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (options["memory_limit"], hard))


def leave(status: int) -> None:
    """Exit as a forked process must: what was registered is run, the template's stack is not unwound."""
    try:
        threading = sys.modules.get("threading")
        if threading is not None and status == 0:
            threading._shutdown()
        import atexit

        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    flush_standard_streams()
    os._exit(status)
