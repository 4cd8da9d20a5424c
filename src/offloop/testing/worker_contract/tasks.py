"""What the contract's tests run in workers; importable there, so that it travels by reference."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

from offloop import Environment, LocalEnvironment, Task, current_task


def echo(value: Any = None) -> Any:
    """Give the argument back."""
    return value


async def aecho(value: Any) -> Any:
    """The same from a coroutine."""
    import asyncio

    await asyncio.sleep(0)
    return value


def append(numbers: list[int]) -> None:
    """Change the argument."""
    numbers.append(1)


def count_to(limit: int) -> Iterator[int]:
    """Yield 0 up to, but not including, the limit."""
    yield from range(limit)


async def acount_to(limit: int) -> AsyncIterator[int]:
    """The same from an async generator."""
    for number in range(limit):
        yield await aecho(number)


def fail(error: BaseException) -> NoReturn:
    """Raise the argument."""
    raise error


async def afail(error: BaseException) -> NoReturn:
    """The same from a coroutine."""
    raise error


def fail_by_name(name: str) -> NoReturn:
    """Raise an exception given by its builtin or asyncio name."""
    import asyncio
    import builtins

    raise (getattr(builtins, name, None) or getattr(asyncio, name))("as asked for")


def about_me() -> tuple[int, int, int]:
    """The ids of the worker and of the task, and the attempt, as the task itself knows them."""
    task = current_task()
    return task.worker_id, task.task_id, task.attempt


def log(path: str, line: object) -> None:
    """Append a line to a file, where it survives the worker."""
    with open(path, "a") as file:
        file.write(f"{line}\n")


async def wait_for_ever(path: str) -> None:
    """Log ``started``, wait, and log the name of the exception that ends it."""
    import asyncio

    try:
        log(path, "started")
        await asyncio.Event().wait()
    except BaseException as error:
        log(path, type(error).__name__)
        raise


async def meet(path: str, count: int) -> int:
    """Wait until so many have come to the file, and return the worker's id."""
    import asyncio

    log(path, "here")
    while _count_lines(path) < count:  # noqa: ASYNC110  another process sets no event
        await asyncio.sleep(0.005)
    return current_task().worker_id


def _count_lines(path: str) -> int:
    with open(path) as file:
        return len(file.readlines())


async def log_start_and_end(path: str, name: str) -> None:
    """Log two lines with a few turns of the event loop between them."""
    log(path, f"start {name}")
    for _ in range(5):
        await aecho(None)
    log(path, f"end {name}")


def be_busy(seconds: float) -> None:
    """Be busy in Python code.

    Away from the block that shall see what ends it: CPython 3.13 and older can
    leave out a ``try`` that ends with a loop (python/cpython#130279).
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def spin(path: str) -> None:
    """Be busy in Python code, for 20 seconds at most; log what ends it."""
    try:
        log(path, "started")
        be_busy(20)
    except BaseException as error:
        log(path, type(error).__name__)
        raise
    finally:
        log(path, "finally")


def block(path: str) -> None:
    """Block in a call that knows nothing of cancellation, whatever is raised."""
    log(path, "started")
    for _ in range(2):
        try:
            time.sleep(60)
        except BaseException as error:
            log(path, type(error).__name__)


def exit_process(path: str) -> NoReturn:
    """End the process without any goodbye."""
    log(path, "ran")
    os._exit(3)


def exit_at_first(path: str) -> int:
    """End the process at the first attempt; return the number of a later one."""
    attempt = current_task().attempt
    log(path, attempt)
    if attempt == 1:
        os._exit(3)
    return attempt


def new_lock() -> Any:
    """Something that can't be pickled."""
    return threading.Lock()


class FailsOnLoad:
    """Can be pickled, and not be loaded."""

    def __reduce__(self) -> Any:
        return fail, (ValueError("not to be loaded"),)


class Shaped:
    """A task by its shape alone."""

    def run(self, environment: Environment) -> str:
        """See `offloop.Task.run`."""
        return "by shape"


class Remember(Task[None]):
    """Stores an entry in the environment."""

    def __init__(self, key: str, value: Any, **options: Any) -> None:
        self.key = key
        self.value = value
        self.options = options

    def run(self, environment: Environment) -> None:
        """See `offloop.Task.run`."""
        environment.set(self.key, self.value, **self.options)


class Recall(Task[Any]):
    """Reads an entry of the environment."""

    def __init__(self, key: str) -> None:
        self.key = key

    def run(self, environment: Environment) -> Any:
        """See `offloop.Task.run`."""
        return environment.get(self.key)


class Count(Task[int]):
    """Counts, in the environment, how many of its kind have run there."""

    def run(self, environment: Environment) -> int:
        """See `offloop.Task.run`."""
        environment["count"] = environment.get("count", 0) + 1
        return int(environment["count"])


class Log:
    """A callback that logs what it is called with."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, value: object) -> None:
        """Log it."""
        log(self.path, value)


class OwnEnvironment(LocalEnvironment):
    """A user's own environment."""

    def __init__(self) -> None:
        super().__init__()
        self["made"] = "by the user"


def prepare(environment: Environment) -> None:
    """A bootstrap."""
    environment["prepared"] = "sync"


async def aprepare(environment: Environment) -> None:
    """A bootstrap that is a coroutine function."""
    environment["prepared"] = await aecho("async")


def fail_to_prepare(environment: Environment) -> NoReturn:
    """A bootstrap that raises."""
    raise RuntimeError(f"not prepared: {environment!r}")
