"""Tasks that spoil the process or the interpreter of their worker; importable there."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn


def sleep_for_ever() -> None:
    """Block in a system call."""
    time.sleep(600)


# --- streams and descriptors -------------------------------------------------------------------------


class BrokenStream:
    """A stand-in for stdout and stderr that refuses everything."""

    def __getattr__(self, name: str) -> NoReturn:
        raise OSError(f"no {name} here")


def replace_streams(how: str) -> None:
    """Have other things where stdout and stderr were, and speak."""
    sys.stdout = sys.stderr = {"broken": BrokenStream(), "none": None, "closed": _closed()}[how]  # type: ignore[assignment]
    with contextlib.suppress(Exception):
        print("said to nobody")


def _closed() -> Any:
    with open(os.devnull, "w") as stream:
        return stream


def close_standard_descriptors() -> None:
    """Close stdin, stdout and stderr below Python."""
    for fd in range(3):
        os.close(fd)


def reuse_standard_descriptors(path: str) -> None:
    """Close them, and open others in their places."""
    close_standard_descriptors()
    for _ in range(3):
        os.open(path, os.O_RDWR | os.O_CREAT)


def flood_standard_descriptors(size: int) -> None:
    """Write a lot of garbage to stdout and stderr, which lead nowhere then."""
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(null, fd)
        os.write(fd, b"\xff" * size)
    sys.stderr.write("\xff" * size)


def write_frame_of(size: int) -> None:
    """Write, to every descriptor, the header of a frame that announces so many bytes; then wait."""
    from offloop.wire.frames import HEADER, MAGIC, RESULT

    header = HEADER.pack(MAGIC, RESULT, 0, 0, 1, size, 0.0, 0.0)
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(fd, header)
    sleep_for_ever()


# --- signals -----------------------------------------------------------------------------------------


def _interrupt() -> int:
    from offloop.child.control import INTERRUPT

    return INTERRUPT


def handle_interrupt(how: str) -> None:
    """Do something else with the signal by which offloop interrupts a task."""
    handler = {"ignored": signal.SIG_IGN, "default": signal.SIG_DFL, "swallowed": lambda *_: None}[how]
    signal.signal(_interrupt(), handler)


def block_interrupt() -> None:
    """Have it never delivered."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {_interrupt()})


def interrupt_self(times: int) -> int:
    """Send oneself the signal by which offloop interrupts a task."""
    for _ in range(times):
        os.kill(os.getpid(), _interrupt())
    return times


def signal_all_gently() -> str:
    """Send oneself the signals that a worker leaves to its parent, or ignores."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGPIPE)
    return "still here"


def die_by_alarm() -> None:
    """Be ended by a timer of one's own."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    sleep_for_ever()


def ignore_children() -> None:
    """Have the kernel reap the children of the worker."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


# --- the interpreter ---------------------------------------------------------------------------------


def patch_pickle(*more: str) -> None:
    """Break the modules that pickle things, and these names in them as well."""
    import copyreg
    import pickle

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no pickling here")

    for name in ("dump", "dumps", "load", "loads", *more):
        setattr(pickle, name, refuse)
    copyreg.__newobj__ = copyreg._reconstructor = refuse  # type: ignore[attr-defined]


def patch_os() -> None:
    """Break what a program uses of `os`, `time` and `socket`."""
    import socket

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no system here")

    os.write = os.read = os.close = refuse  # type: ignore[assignment]
    time.monotonic = time.time = refuse  # type: ignore[assignment]
    socket.socket = refuse  # type: ignore[assignment,misc]


def lose_builtins() -> None:
    """Take built-in functions away, and come to nothing oneself."""
    import builtins

    for name in ("len", "isinstance", "type", "Exception", "open", "repr", "str"):
        delattr(builtins, name)


def clear_modules() -> None:
    """Forget every module."""
    sys.modules.clear()


def lower_recursion_limit() -> int:
    """Leave hardly any room for calls."""
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    limit = depth + 10
    while True:
        try:
            sys.setrecursionlimit(limit)
            return limit
        except RecursionError:
            limit += 5


def change_process(path: str) -> None:
    """Change what the whole process has one of."""
    import locale

    os.chdir(path)
    os.rmdir(path)
    os.umask(0o777)
    os.nice(1)
    os.environ.clear()
    os.environ["PYTHONPATH"] = "/nowhere"
    locale.setlocale(locale.LC_ALL, "C")
    sys.argv[:] = ["?"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def clear_path() -> None:
    """Leave no directory to import from."""
    sys.path.clear()
    sys.path_importer_cache.clear()


def change_session() -> None:
    """Leave the parent's process group and session."""
    os.setsid()


def hook_everything() -> None:
    """Install hooks that raise, wherever the interpreter has one."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("a hook of the task's")

    sys.excepthook = sys.unraisablehook = threading.excepthook = sys.displayhook = refuse
    sys.meta_path.insert(0, refuse)  # type: ignore[arg-type]
    sys.path_hooks.insert(0, refuse)
    import warnings

    warnings.showwarning = refuse


def trace_everything() -> None:
    """Have a trace and a profile function that raise at the next call."""

    def refuse(*args: Any) -> NoReturn:
        raise RuntimeError("a tracer of the task's")

    sys.setprofile(refuse)


def collect_nothing() -> None:
    """Turn the garbage collector off, and thread switches all but off."""
    import gc

    gc.disable()
    sys.setswitchinterval(1000)


def audit_everything() -> None:
    """Install an audit hook, which nobody can take away, that refuses to unpickle and to open."""

    def refuse(event: str, args: object) -> None:
        if event in ("pickle.find_class", "open", "import"):
            raise RuntimeError("audited")

    sys.addaudithook(refuse)


# --- threads, and what runs behind a task ------------------------------------------------------------


def start_thread_that_raises() -> None:
    """Have a thread end with an exception, and wait for it."""
    threading.excepthook = lambda args: None

    def fail() -> NoReturn:
        raise RuntimeError("in a thread of the task's")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def start_thread_that_never_ends(*, daemon: bool) -> None:
    """Leave a thread behind."""
    threading.Thread(target=sleep_for_ever, daemon=daemon).start()


def hang_at_exit() -> None:
    """Register an exit function that does not return."""
    import atexit

    atexit.register(sleep_for_ever)


def fail_at_exit(how: str) -> None:
    """Register an exit function that raises, exits or crashes."""
    import atexit

    atexit.register({"raises": _raise, "exits": sys.exit, "dies": os._exit}[how], 3)


def _raise(code: int) -> NoReturn:
    raise RuntimeError(f"at exit, {code}")


def stop_loop() -> Any:
    """An async task that stops the event loop that runs it."""
    import asyncio

    async def stop() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "stopped"

    return stop()


def close_loop() -> Any:
    """An async task that tries to close the event loop that runs it."""
    import asyncio

    async def close() -> None:
        asyncio.get_running_loop().close()

    return close()


def cancel_everything() -> Any:
    """An async task that cancels every task of its event loop, itself as well."""
    import asyncio

    async def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(60)

    return cancel()


def leave_task_that_fails() -> Any:
    """An async task that leaves another behind, which fails unheard."""
    import asyncio

    async def fail() -> NoReturn:
        raise RuntimeError("in the background")

    async def leave() -> str:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        left = asyncio.ensure_future(fail())
        await asyncio.wait([left])
        return "left"

    return leave()


def raise_in_callback(name: str) -> Any:
    """An async task with a callback on its loop that raises what gets out of a loop."""
    import asyncio
    import builtins

    def interrupt() -> NoReturn:
        raise getattr(builtins, name)("in a callback")

    async def schedule() -> str:
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "over"

    return schedule()


def break_loop_policy() -> None:
    """Have no event loop be made any more."""
    import asyncio

    def refuse(*args: Any) -> NoReturn:
        raise RuntimeError("no loop for you")

    asyncio.new_event_loop = asyncio.events.new_event_loop = refuse  # type: ignore[attr-defined]


def warn_often(count: int) -> int:
    """Warn, each time of something else."""
    import warnings

    for number in range(count):
        warnings.warn(f"warning {number}", UserWarning, stacklevel=1)
    return count


def fork_bomb(count: int) -> int:
    """Fork some children that end at once, and reap none."""
    for _ in range(count):
        if os.fork() == 0:
            os._exit(0)
    return count


def lower_limit(name: str, value: int) -> None:
    """Lower a limit of the process, for good."""
    import resource

    resource.setrlimit(getattr(resource, name), (value, value))


def allocate_beyond(limit: int) -> int:
    """Allocate more than the address space may hold."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        return len(bytearray(limit))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def exhaust_recursion() -> int:
    """Recurse until the interpreter has enough."""
    return exhaust_recursion() + 1
