"""Tasks that log and warn; importable in workers, where `logging` is imported only when they run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

from offloop import Environment, current_task
from support.signals import apass_gate, tell

#: The logger below which all of them log.
NAME = "spoken"


def logger(name: str = "") -> Any:
    """A logger of the tests."""
    import logging

    return logging.getLogger(f"{NAME}.{name}" if name else NAME)


def say(level: int, message: Any, *args: Any, name: str = "", **options: Any) -> int:
    """Log once; returns the task's id."""
    logger(name).log(level, message, *args, **options)
    return current_task().task_id


def log_value(value: Any) -> None:
    """An ``on_delete`` that logs."""
    logger().info("%s", value)


def say_levels(*levels: int, name: str = "") -> None:
    """Log once at each level."""
    for level in levels:
        logger(name).log(level, "at %d", level)


def say_many(count: int) -> None:
    """Log that many numbers."""
    for number in range(count):
        logger().info("%d", number)


def say_failure(text: str) -> None:
    """Log an exception with its traceback, and go on."""
    try:
        raise ValueError(text)
    except ValueError:
        logger().exception("it failed", stack_info=True)


async def say_twice(path: str, name: str) -> int:
    """Log before and after waiting at a gate; returns the task's id."""
    logger().info("%s before", name)
    await apass_gate(path)
    logger().info("%s after", name)
    return current_task().task_id


def say_in_thread() -> None:
    """Log from a thread that the task starts."""
    thread = threading.Thread(target=logger().info, args=("from a thread",), name="aside")
    thread.start()
    thread.join()


async def say_in_worker_thread() -> int:
    """Log from ``asyncio.to_thread``; returns the task's id."""
    import asyncio

    await asyncio.to_thread(logger().info, "from to_thread")
    return current_task().task_id


class SaysFarewell:
    """Logs when it is finalised."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __del__(self) -> None:
        logger().info(self.text)


def drop(text: str) -> None:
    """Have an object finalised that logs then."""
    SaysFarewell(text)


def drop_many(count: int) -> None:
    """Log much, while the garbage collector finalises cycles whose members log as well."""
    import gc

    gc.set_threshold(20)
    for number in range(count):
        cycle: Any = SaysFarewell(f"farewell {number}")
        cycle.itself = cycle
        logger().info("%d", number)
    del cycle
    gc.collect()


class Unspeakable:
    """What can't be pickled, and has no text."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be pickled")

    def __repr__(self) -> str:
        raise ValueError("no text")


def say_with(kind: str) -> None:
    """Log with an extra attribute of a kind that the parent could not load."""
    import enum

    recursive: list[Any] = [1]
    recursive.append(recursive)
    value = {
        "lock": threading.Lock,
        "unspeakable": Unspeakable,
        "recursive": lambda: recursive,
        "local": lambda: type("Local", (), {"__repr__": lambda self: "<local>"})(),
        "enum": lambda: enum.IntEnum("Colour", ["RED"])(1),
        "dict": lambda: {("a", 1): [None, {"deep": Unspeakable()}]},
    }[kind]()
    logger().info("with extra", extra={"given": value})


def say_nonsense() -> str:
    """Log what can't be formatted."""
    logger().info("%d", "no number")
    return "went on"


def say_and_die() -> NoReturn:
    """Log, and be killed."""
    logger().warning("last words")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def say_and_tell(path: str) -> None:
    """Log, then tell the test."""
    logger().info("said")
    tell(path, "went on")


def say_for_ever() -> NoReturn:
    """Log until cancelled."""
    while True:
        logger().info("x" * 1000)


def say_at_exit() -> None:
    """Log when the process ends."""
    import atexit

    atexit.register(logger().info, "at exit")


def say_many_at_exit(count: int, path: str) -> None:
    """Log many numbers when the process ends, then tell the test."""
    import atexit

    def speak() -> None:
        say_many(count)
        tell(path, "went on")

    atexit.register(speak)


def say_without_descriptors() -> None:
    """Close every descriptor, then log and warn."""
    import warnings

    logger()
    os.closerange(3, 256)
    logger().info("to nobody")
    warnings.warn("to nobody", stacklevel=1)


def say_in_fork() -> int:
    """Log in a forked child, which has handlers of its own only; returns its exit code."""
    import logging

    logger().info("before")
    child = os.fork()
    if child == 0:
        forwards = any(type(one).__module__.startswith("offloop") for one in logging.root.handlers)
        logger().warning("in the child")
        os._exit(forwards)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    logger().info("after")
    return code


def say_at_start(environment: Environment) -> None:
    """A bootstrap that logs."""
    logger().info("starting")


def is_loaded(module: str) -> bool:
    """Whether a module was imported in this worker."""
    return module in sys.modules


def clear_finders() -> None:
    """Do away with every finder that is not the interpreter's own."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]


def basic_config(path: str, *, force: bool = False) -> int:
    """Call ``logging.basicConfig``; returns how many handlers there are then."""
    import logging

    logging.basicConfig(filename=path, level=logging.INFO, force=force)
    return len(logging.root.handlers)


def add_handler(path: str) -> None:
    """Log to a file as well."""
    import logging

    logging.root.addHandler(logging.FileHandler(path))


def import_logging() -> None:
    """Import `logging`, and do no more."""
    import logging

    logging.getLogger()


# --- warnings --------------------------------------------------------------------------------------


class OwnWarning(DeprecationWarning):
    """A category that derives from a built-in one."""


class StrictWarning(RuntimeWarning):
    """A category that can't be made of a text."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def warn(text: str, name: str = "UserWarning") -> str:
    """Warn, and go on."""
    import builtins
    import warnings

    category = globals().get(name) or getattr(builtins, name)
    warnings.warn(text, category, stacklevel=1)
    return "went on"


def warn_of_unknown(text: str) -> None:
    """Warn in a category that only the worker knows."""
    import warnings

    warnings.warn(text, type("Unknown", (FutureWarning,), {}), stacklevel=1)


def warn_strictly() -> None:
    """Warn with an instance that can't be made again of its text."""
    import warnings

    warnings.warn(StrictWarning("one", "two"), stacklevel=1)


def catch_own_warnings(text: str) -> list[str]:
    """Warn, and catch it."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(text, stacklevel=1)
    return [str(one.message) for one in caught]
