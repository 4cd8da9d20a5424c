"""The life of a worker process, from its sockets to its exit."""

from __future__ import annotations

import os
import sys

from offloop.child.control import ORPHANED, Control
from offloop.child.lastwords import keep_last_words
from offloop.child.lowlevel import sockets
from offloop.child.port import SocketPort
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.environment import Environment, LocalEnvironment
from offloop.shm.ledger import Ledger
from offloop.wire.frames import REFUSED

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def run_worker(data_fd: int, control_fd: int, ledger_fd: int, limit: int) -> int:
    """Be a worker process until told to stop; returns the exit status."""
    data, control = sockets.socket(fileno=data_fd), sockets.socket(fileno=control_fd)
    data.settimeout(None)
    control.settimeout(None)
    ledger = Ledger(ledger_fd)
    keep_last_words(ledger, ledger_fd)
    port = SocketPort(data, ledger, limit)
    _let_go_of_forks(port, control)
    turns = Turns()
    Control(control, turns, limit).start()
    setup = port.receive_setup()
    if setup is None:
        return ORPHANED
    try:
        options = port.decode(setup)
        _apply(options)
        environment = make_environment(options["environment"])
        run_bootstrap(options["bootstrap"], environment)
    except BaseException as error:
        port.say(REFUSED, port.encode_failure(error))
        return 1
    runner = Runner(port, options["number"], environment, turns, options["slots"])
    if not runner.serve():
        return ORPHANED
    runner.close()
    return 0


def _let_go_of_forks(port: SocketPort, control: sockets.socket) -> None:
    """A process that a task forks must not hold the worker's sockets, nor speak for it."""

    def let_go() -> None:
        port.let_go()
        control.close()

    os.register_at_fork(after_in_child=let_go)


def _apply(options: dict[str, Any]) -> None:
    """Take on what the parent wants of this process."""
    sys.path[:] = options["path"]
    os.chdir(options["cwd"])
    if options["nice"]:
        os.nice(options["nice"])
    if options["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, options["cpus"])
    if options["memory_limit"]:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (options["memory_limit"], hard))


def make_environment(factory: Callable[[], object] | None) -> Environment:
    """The worker's environment, from its class or factory."""
    environment = factory() if factory is not None else LocalEnvironment()
    if not isinstance(environment, Environment):
        raise TypeError(f"environment= made a {type(environment).__name__}, which is no offloop.Environment")
    return environment


def run_bootstrap(
    bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None, environment: Environment
) -> None:
    """Run the bootstrap: a callable given the environment, or a path to a Python file."""
    if bootstrap is None:
        return
    if callable(bootstrap):
        result: object = bootstrap(environment)
        if hasattr(type(result), "__await__"):
            import asyncio

            awaitable: Any = result

            async def finish() -> None:
                await awaitable

            asyncio.run(finish())
        return
    import runpy

    runpy.run_path(os.fspath(bootstrap), init_globals={"environment": environment}, run_name="__bootstrap__")


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
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # closed, or broken: nobody is left to be told
    os._exit(status)
