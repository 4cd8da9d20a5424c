"""Functions that fail, crash, resist cancellation, or can't be pickled; importable in workers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from offloop import Task, TaskCancelled, current_task
from support.signals import apass_gate, append_line, identity, pass_gate, tell


def fail(error: BaseException) -> NoReturn:
    """Raise the argument."""
    raise error


def fail_if_odd(number: int) -> int:
    """Give even numbers back; refuse odd ones."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def fail_by_name(name: str, *args: Any) -> NoReturn:
    """Raise an exception given by its builtin or asyncio name."""
    import asyncio
    import builtins

    raise (getattr(builtins, name, None) or getattr(asyncio, name))(*args)


async def afail_by_name(name: str, *args: Any) -> NoReturn:
    """`fail_by_name`, out of a coroutine."""
    fail_by_name(name, *args)


async def fail_in_subtask(name: str) -> None:
    """`fail_by_name`, in another task of the worker's event loop, which this one awaits."""
    import asyncio

    await asyncio.gather(afail_by_name(name), asyncio.sleep(0))


def fail_with_cause() -> NoReturn:
    """Raise one exception from another."""
    try:
        raise KeyError("the root")
    except KeyError as error:
        raise ValueError("the surface") from error


def fail_with_context() -> NoReturn:
    """Raise one exception while another one is handled."""
    try:
        raise KeyError("the first")
    except KeyError:
        raise ValueError("the second")  # noqa: B904  an implicit context is what this is for


def fail_with_notes() -> NoReturn:
    """Raise an exception with two notes."""
    error = ValueError("noted")
    error.add_note("first note")
    error.add_note("second note")
    raise error


def fail_with_group() -> NoReturn:
    """Raise a group of exceptions, one of them nested."""
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])


def count_then_fail(limit: int) -> Iterator[int]:
    """Yield some numbers, then raise."""
    yield from range(limit)
    raise ValueError("the generator broke")


class TwoArgumentError(Exception):
    """Its arguments are not those of its ``__init__``, which breaks naive pickling."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class UnpicklableError(Exception):
    """An exception that refuses to be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("this exception stays at home")


def fail_in_two_arguments() -> NoReturn:
    """Raise an exception that naive pickling can't rebuild."""
    raise TwoArgumentError(404, "not here")


def fail_unpicklably() -> NoReturn:
    """Raise an exception that can't be pickled."""
    raise UnpicklableError("secret")


# --- ending the process -----------------------------------------------------------------------------


def exit_process(code: int) -> NoReturn:
    """End the process without any goodbye."""
    os._exit(code)


def speak_and_exit(text: str) -> NoReturn:
    """Say something on stderr, then end the process without any goodbye."""
    sys.stderr.write(text)
    sys.stderr.flush()
    os._exit(1)


def signal_self(number: int) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), number)
    time.sleep(60)  # a fatal signal leaves no way to get past this


def segfault() -> None:
    """Crash as C code does."""
    import faulthandler

    faulthandler._sigsegv()  # type: ignore[attr-defined]


def segfault_deep_down(text: str, depth: int = 300) -> None:
    """Say something on stderr, then crash with a long stack."""
    if depth:
        segfault_deep_down(text, depth - 1)
    sys.stderr.write(text)
    segfault()


def allocate_and_exit(size: int) -> NoReturn:
    """Fill that many bytes of memory, then end the process without any goodbye."""
    data = bytearray(b"x") * size
    os._exit(1 + bool(data))


def gate_then_exit(path: str, code: int) -> NoReturn:
    """Wait at a gate, then end the process without any goodbye."""
    pass_gate(path)
    os._exit(code)


def crash_at_first(log: str) -> int:
    """End the process at the first attempt; give the attempt's number at later ones."""
    attempt = current_task().attempt
    append_line(log, attempt)
    if attempt == 1:
        os._exit(1)
    return attempt


async def acrash_at_first(log: str) -> int:
    """`crash_at_first`, out of a coroutine."""
    import asyncio

    await asyncio.sleep(0.01)
    return crash_at_first(log)


def log_attempt_and_crash(log: str) -> NoReturn:
    """Leave the attempt's number, then end the process."""
    append_line(log, current_task().attempt)
    os._exit(1)


def log_and_fail(log: str, text: str) -> NoReturn:
    """Leave a line, then raise."""
    append_line(log, "ran")
    raise ValueError(text)


def log_and_crash(log: str) -> NoReturn:
    """Leave a line, then end the process."""
    append_line(log, "ran")
    os._exit(1)


# --- resisting or noticing cancellation -------------------------------------------------------------


def be_busy(seconds: float) -> None:
    """Be busy in Python code; why it is not within `spin`'s ``try``, see `worker_contract.tasks.be_busy`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(1000))


def spin(mailbox: str) -> None:
    """Be busy in Python code until cancelled; say how it ended.

    The bound keeps a worker which fails to cancel it from spinning for ever.
    """
    try:
        tell(mailbox, "started")  # in here: the cancellation may come right after it
        be_busy(20)
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


def gate_and_tell(path: str, mailbox: str) -> None:
    """Block at a gate; say which exception came out of the blocking call."""
    try:
        pass_gate(path)
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise


async def agate_and_tell(path: str, mailbox: str) -> None:
    """Wait at a gate on the event loop; say which exception came out of the wait."""
    try:
        await apass_gate(path)
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise


def gate_despite_cancellation(path: str) -> None:
    """Block at a gate until it opens, whatever is raised here."""
    try:
        pass_gate(path)
    except TaskCancelled:  # it comes once
        pass_gate(path, arrives=False)


def wait_or_note(path: str, number: int, gate: str = "", ended: str = "") -> int:
    """Block at a gate until it opens, whatever is raised here, and tell; without one only take a note."""
    if gate:
        gate_despite_cancellation(gate)
        tell(ended, "over")
    else:
        append_line(path, str(number))
    return number


async def agate_or_else(path: str, value: Any) -> Any:
    """Wait at a gate; if cancelled meanwhile, return the value all the same."""
    import asyncio

    try:
        await apass_gate(path)
    except asyncio.CancelledError:
        return value


async def agate_then_ask(path: str) -> NoReturn:
    """Wait at a gate; if cancelled meanwhile, go on, and find it out by asking."""
    import asyncio

    try:
        await apass_gate(path)
    except asyncio.CancelledError:
        assert current_task().cancelled
    current_task().raise_if_cancelled()
    raise AssertionError("nobody said that it was cancelled")


def ignore_cancellation(path: str) -> None:
    """Stay at a gate, whatever is raised here."""
    try:
        tell(f"{path}.arrivals", identity())  # in here: the cancellation may come right after it
        time.sleep(20)
    except TaskCancelled:  # it comes once
        time.sleep(20)


# --- pickling ---------------------------------------------------------------------------------------


class Stubborn:
    """An object that refuses to be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be moved")


class GatedResult:
    """An object that waits at a gate while it is pickled, and becomes a text."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        pass_gate(self.path)
        return (str, ("pickled",))


class FailsOnLoad:
    """Pickles well, and does something bad wherever it is loaded."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> Any:
        return (self.function, self.args)


class HostileName(Task[Any]):
    """Its ``repr`` raises."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        raise RuntimeError("no name")

    async def run(self, environment: Any) -> Any:
        return await apass_gate(self.path)


def home() -> tuple[int, int]:
    """The process and the interpreter in it where this runs."""
    try:
        import _interpreters
    except ImportError:
        return os.getpid(), 0
    return os.getpid(), _interpreters.get_current()[0]


class FailsInParent:
    """Pickles well, and can't be loaded in one place."""

    def __init__(self, parent: tuple[int, int]) -> None:
        self.parent = parent

    def __reduce__(self) -> Any:
        return (_load_unless, (self.parent,))


def _load_unless(parent: tuple[int, int]) -> FailsInParent:
    if home() == parent:
        raise ValueError("not to be loaded here")
    return FailsInParent(parent)
