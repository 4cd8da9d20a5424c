"""Tasks and functions that tests run in workers; importable there, so that they travel by reference.

Workers import this module, so it stays as light as `offloop` itself.  Tests
find everything here; what fails or talks to the test is in modules of its own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

from offloop import Environment, LocalEnvironment, Task, current_task
from support.faulty import (
    FailsInParent as FailsInParent,
    FailsOnLoad as FailsOnLoad,
    GatedResult as GatedResult,
    HostileName as HostileName,
    Stubborn as Stubborn,
    TwoArgumentError as TwoArgumentError,
    UnpicklableError as UnpicklableError,
    acrash_at_first as acrash_at_first,
    afail_by_name as afail_by_name,
    agate_and_tell as agate_and_tell,
    agate_or_else as agate_or_else,
    agate_then_ask as agate_then_ask,
    allocate_and_exit as allocate_and_exit,
    be_busy as be_busy,
    count_then_fail as count_then_fail,
    crash_at_first as crash_at_first,
    exit_process as exit_process,
    fail as fail,
    fail_by_name as fail_by_name,
    fail_if_odd as fail_if_odd,
    fail_in_two_arguments as fail_in_two_arguments,
    fail_unpicklably as fail_unpicklably,
    fail_with_cause as fail_with_cause,
    fail_with_context as fail_with_context,
    fail_with_group as fail_with_group,
    fail_with_notes as fail_with_notes,
    gate_and_tell as gate_and_tell,
    gate_despite_cancellation as gate_despite_cancellation,
    gate_then_exit as gate_then_exit,
    home as home,
    ignore_cancellation as ignore_cancellation,
    log_and_crash as log_and_crash,
    log_and_fail as log_and_fail,
    log_attempt_and_crash as log_attempt_and_crash,
    segfault as segfault,
    segfault_deep_down as segfault_deep_down,
    signal_self as signal_self,
    speak_and_exit as speak_and_exit,
    spin as spin,
)
from support.signals import (
    APassGate as APassGate,
    ATell as ATell,
    PassGate as PassGate,
    Tell as Tell,
    apass_gate as apass_gate,
    append_line as append_line,
    clean_up_slowly as clean_up_slowly,
    identity as identity,
    pass_gate as pass_gate,
    tell as tell,
)


def echo(value: Any) -> Any:
    """Give the argument back."""
    return value


def add(left: Any, right: Any) -> Any:
    """Add two arguments."""
    return left + right


def are_one(value: Any, others: Any) -> bool:
    """Whether the first of the others is that very object."""
    return value is others[0]


def overwrite(data: bytearray, value: int) -> bytearray:
    """Change the argument in place, and give it back."""
    data[:] = bytes([value]) * len(data)
    return data


def keywords(**values: Any) -> dict[str, Any]:
    """Give the keyword arguments back."""
    return values


def current_worker_id() -> int:
    """The id of the worker that runs this."""
    return current_task().worker_id


async def aecho(value: Any) -> Any:
    """Give the argument back, after a turn of the worker's event loop."""
    import asyncio

    await asyncio.sleep(0)
    return value


def count_to(limit: int) -> Iterator[int]:
    """Yield 0 up to, but not including, the limit."""
    yield from range(limit)


async def acount_to(limit: int) -> AsyncIterator[int]:
    """Yield 0 up to, but not including, the limit."""
    for number in range(limit):
        yield await aecho(number)


def count_slowly(limit: int) -> int:
    """Count in Python code."""
    number = 0
    while number < limit:
        number += 1
    return number


async def await_for_ever() -> None:
    """Wait for nothing."""
    import asyncio

    await asyncio.get_running_loop().create_future()


async def log_start_and_end(path: str, name: str) -> None:
    """Log two lines with a few event loop turns between them."""
    append_line(path, f"start {name}")
    for _ in range(5):
        await aecho(None)
    append_line(path, f"end {name}")


def fork_once() -> int:
    """Fork; the child ends at once, the task goes on.  Returns the child's exit code."""
    child = os.fork()
    if child == 0:
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def nested_list(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


_leaked: list[bytearray] = []


def leak(size: int) -> int:
    """Keep that many bytes of memory for ever.  Returns the process id."""
    _leaked.append(bytearray(b"x") * size)
    return os.getpid()


async def aleak(size: int) -> int:
    """`leak`, out of a coroutine."""
    return leak(await aecho(size))


def look_through(data: Any) -> int:
    """Look at every byte.  Returns the process id."""
    memoryview(data).tobytes()
    return os.getpid()


def make_cyclic_garbage(size: int) -> int:
    """Leave that many bytes of memory to the garbage collector.  Returns the process id."""
    cycle: list[Any] = [bytearray(b"x") * size]
    cycle.append(cycle)
    return os.getpid()


def new_lock() -> Any:
    """A result that can't be pickled."""
    return threading.Lock()


# --- tasks with an environment ---------------------------------------------------------------------


class Echo(Task[Any]):
    """Gives its value back."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def run(self, environment: Environment) -> Any:
        return self.value


class AsyncEcho(Echo):
    """Gives its value back, out of a coroutine."""

    async def run(self, environment: Environment) -> Any:
        return await aecho(self.value)


class Numbers(Task[int]):
    """Yields its numbers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def run(self, environment: Environment) -> Iterator[int]:
        yield from count_to(self.limit)


class AsyncNumbers(Numbers):
    """Yields its numbers, out of an async generator."""

    async def run(self, environment: Environment) -> AsyncIterator[int]:  # type: ignore[override]
        async for number in acount_to(self.limit):
            yield number


class NoSubclass:
    """A task by its shape alone."""

    def run(self, environment: Environment) -> str:
        return "by shape"


class Remember(Task[None]):
    """Stores an entry in the environment."""

    def __init__(self, key: str, value: Any, **options: Any) -> None:
        self.key = key
        self.value = value
        self.options = options

    def run(self, environment: Environment) -> None:
        environment.set(self.key, self.value, **self.options)


class Recall(Task[Any]):
    """Reads an entry of the environment."""

    def __init__(self, key: str) -> None:
        self.key = key

    def run(self, environment: Environment) -> Any:
        return environment.get(self.key)


class Clear(Task[None]):
    """Clears the environment."""

    def run(self, environment: Environment) -> None:
        environment.clear()


class Count(Task[int]):
    """Counts, in the environment, how many of its kind have run there."""

    def run(self, environment: Environment) -> int:
        environment["count"] = environment.get("count", 0) + 1
        return int(environment["count"])


class EnvironmentType(Task[str]):
    """Names the class of the environment."""

    def run(self, environment: Environment) -> str:
        return type(environment).__name__


class AboutMe(Task[dict[str, Any]]):
    """Reports what ``current_task()`` says."""

    def run(self, environment: Environment) -> dict[str, Any]:
        context = current_task()
        context.raise_if_cancelled()
        return {
            "worker_id": context.worker_id,
            "task_id": context.task_id,
            "attempt": context.attempt,
            "cancelled": context.cancelled,
            "same environment": context.environment is environment,
        }


async def gate_then_task_id(path: str) -> tuple[int, int]:
    """The task's id before and after waiting at a gate."""
    before = current_task().task_id
    await apass_gate(path)
    return before, current_task().task_id


# --- environments and bootstraps -------------------------------------------------------------------


class CustomEnvironment(LocalEnvironment):
    """A user's own environment."""


def prepared_environment() -> LocalEnvironment:
    """A user's own environment factory."""
    environment = CustomEnvironment()
    environment["prepared"] = "yes"
    return environment


def bootstrap(environment: Environment) -> None:
    """A good bootstrap."""
    environment["booted"] = "sync"


async def async_bootstrap(environment: Environment) -> None:
    """A good bootstrap that is a coroutine function."""
    environment["booted"] = await aecho("async")


def be_impatient(environment: Environment) -> None:
    """A bootstrap after which the worker waits but briefly for async callbacks."""
    from offloop.child import overlap

    overlap.ON_DELETE_GRACE = 0.1


def broken_bootstrap(environment: Environment) -> NoReturn:
    """A bootstrap that raises."""
    raise RuntimeError("the bootstrap is broken")


def exiting_bootstrap(environment: Environment) -> NoReturn:
    """A bootstrap that complains, and ends its process."""
    print("there is no licence", file=sys.stderr)
    os._exit(3)


class LoggingBootstrap:
    """A bootstrap that leaves a line a start."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __call__(self, environment: Environment) -> None:
        append_line(self.log, "booted")


class GatedBootstrap(LoggingBootstrap):
    """A bootstrap that leaves a line a start, and waits at a gate at all but the first."""

    def __init__(self, log: str, gate: str) -> None:
        super().__init__(log)
        self.gate = gate

    def __call__(self, environment: Environment) -> None:
        first = not os.path.exists(self.log)
        super().__call__(environment)
        if not first:
            pass_gate(self.gate)


class FlaggedBootstrap(LoggingBootstrap):
    """A bootstrap that leaves a line a start, and fails while a file exists."""

    def __init__(self, log: str, flag: str) -> None:
        super().__init__(log)
        self.flag = flag

    def __call__(self, environment: Environment) -> None:
        super().__call__(environment)
        if os.path.exists(self.flag):
            raise RuntimeError("the flag is up")


class FailsOnce(LoggingBootstrap):
    """A bootstrap that leaves a line a start, and fails at the first one."""

    def __call__(self, environment: Environment) -> None:
        first = not os.path.exists(self.log)
        super().__call__(environment)
        if first:
            raise RuntimeError("not yet")


def be_busy_and_pass(seconds: float, gate: str | None = None) -> None:
    """Be busy, and pass a gate if there is one."""
    be_busy(seconds)
    if gate is not None:
        pass_gate(gate)
