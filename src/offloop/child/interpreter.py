"""The life of a worker in an interpreter of its own, within its parent's process.

It is that of a worker process, less what concerns a whole process: signals, the
working directory, crash reports.  What it shares with other interpreters it
leaves as it is.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys

from offloop.child import nesting
from offloop.child.control import Control
from offloop.child.lowlevel import sockets
from offloop.child.outlet import Outlet
from offloop.child.port import SocketPort
from offloop.child.refusals import Lookout
from offloop.child.runner import Runner
from offloop.child.setup import take_setup
from offloop.child.turns import Turns
from offloop.shm.ledger import Ledger
from offloop.wire.frames import CANCEL, Record

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from offloop.child.protocols import Call


def main(data_fd: int, control_fd: int, ledger_fd: int, limit: int, depth: int) -> int:
    """Be a worker until told to stop, or until the parent lets go; returns 0 if all went well.

    Args:
        data_fd, control_fd: descriptors of this end of the sockets.
        ledger_fd: that of the page shared with the parent.
        limit: the largest payload accepted, in bytes.
        depth: how many workers, one within the other, this is.
    """
    nesting.depth = depth
    data, sock = sockets.socket(fileno=data_fd), sockets.socket(fileno=control_fd)
    ledger = Ledger(ledger_fd)
    os.close(ledger_fd)
    turns, threads = Turns(), Threads()
    outlet = Outlet(sock, turns, ledger.words, lambda: _shut(data), threads.start)
    control = InterpreterControl(sock, outlet, turns, limit)
    threads.start(control.serve, ())
    port = InterpreterPort(data, ledger, limit, outlet)

    def let_go() -> None:
        """Say what is left to say, and leave nothing behind in the process, which lives on."""
        outlet.flush()
        control.stop()
        threads.join()
        outlet.close()
        sock.close()
        port.close()
        ledger.close()

    atexit.register(let_go)  # first, so that it is called last: others may have something to say
    try:
        return _work(port, outlet, turns)
    except ConnectionError:
        return 1  # the parent let go in the midst of a message
    finally:
        data.close()


class Threads:
    """Threads that have to be gone when the interpreter ends: what one holds then is never freed."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        # As `threading.Thread` does.  Daemons, or the end would wait for them before `atexit` ends them.
        self._start: Callable[..., Any] = _thread.__dict__["start_joinable_thread"]

    def start(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> object:
        """As `_thread.start_new_thread`."""
        self._handles = [handle for handle in self._handles if not handle.is_done()]
        handle = self._start(lambda: function(*arguments), daemon=True)
        self._handles.append(handle)
        return handle

    def join(self) -> None:
        """Wait until they are gone."""
        for handle in self._handles:
            handle.join()


def _work(port: InterpreterPort, outlet: Outlet, turns: Turns) -> int:
    setup = take_setup(port, outlet, _apply)
    if isinstance(setup, int):
        return setup
    options, environment = setup
    if options["looks_out"]:
        port.lookout = Lookout()
    runner = Runner(port, options["number"], environment, turns, options["slots"])
    if runner.serve():
        runner.close()
        return 0
    environment.close()  # given up by the parent while it ran a task
    return 1


def _apply(options: dict[str, Any]) -> None:
    """Take on what the parent wants of this interpreter."""
    sys.path[:] = options["path"]
    sys.stdin = open(os.devnull)  # noqa: SIM115 -- for as long as the interpreter lives
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it has just been made


def _shut(sock: sockets.socket) -> None:
    """Have whoever waits at either end of a socket see its end."""
    try:
        sock.shutdown(sockets.SHUT_RDWR)
    except OSError:
        pass  # the parent was first, or it is closed


class InterpreterPort(SocketPort):
    """Looks out for modules that refuse this interpreter, where a task could still run elsewhere."""

    lookout: Lookout | None = None

    def load(self, record: Record, environment: Any) -> Call:
        """The call that a task's record asks for; raises `ImportError` if what it would import refuses."""
        call = super().load(record, environment)
        if self.lookout is not None:
            self.lookout.look(call[0], call[1])
        return call


class InterpreterControl(Control):
    """Serves the control socket until the worker has ended, or its parent has let go of it.

    Signals reach the main interpreter alone.  So this thread, which is one of the
    worker's interpreter, has the exception raised in the runner's.
    """

    def __init__(self, sock: sockets.socket, outlet: Outlet, turns: Turns, limit: int) -> None:
        super().__init__(sock, outlet, turns, limit, lambda: None)
        self.serve = self._serve

    def stop(self) -> None:
        """Have the thread end."""
        _shut(self._sock)

    def _ended(self) -> None:
        self._turns.close()  # what was not begun runs elsewhere
        for live in list(self._turns.lives.values()):
            live.close()

    def _take_back(self, record: Record) -> None:
        turns = self._turns
        if record[0] == CANCEL and turns.interrupt_from_outside is None:
            from offloop.child.interrupting import interrupt_by_exception

            interrupt_by_exception(turns, self._runner_thread)
        super()._take_back(record)

    def _interrupt(self, place: int) -> None:
        """It has been: see `Turns.request_cancel`."""
