"""What the pools are given to do: importable by name, and light to import in a worker."""

from __future__ import annotations

import os
import sys
import time
from types import FunctionType

TYPE_CHECKING = False

if TYPE_CHECKING:  # `typing` would take 5 ms and 0.8 MB of each worker
    from typing import Any


def noop() -> None:
    """Nothing."""


async def noop_coro() -> None:
    """Nothing, as a coroutine function."""


def echo(value: Any) -> Any:
    """The argument itself."""
    return value


async def echo_coro(value: Any) -> Any:
    """The argument itself, as a coroutine function."""
    return value


#: For peers that run coroutine functions only.
AS_COROUTINE = {"noop": noop_coro, "echo": echo_coro}


def by_value(function: Any) -> Any:
    """The same function as if it had been defined in ``__main__``, which no worker can import."""
    main = sys.modules["__main__"]
    made = FunctionType(function.__code__, vars(main), function.__name__)
    made.__module__ = "__main__"
    made.__qualname__ = function.__name__
    setattr(main, function.__name__, made)  # so that whoever pickles by name finds it here
    return made


def stay(seconds: float) -> tuple[int, float]:
    """Keep a worker to oneself for a while; its process id, and when it began on the system's clock."""
    began = time.monotonic()
    time.sleep(seconds)
    return os.getpid(), began


def wait_for_lock(path: str) -> None:
    """Keep a worker busy until nobody holds the file locked exclusively."""
    import fcntl

    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def burn(seconds: float) -> float:
    """Use so much CPU time of this thread; the wall time it took.

    CPU time, so that a worker which is preempted still does all of its work.
    """
    began = time.perf_counter()
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return time.perf_counter() - began


def pause(seconds: float) -> float:
    """Sleep; how long it really took."""
    began = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - began


def make_array(count: int) -> Any:
    """A new array of so many float64, each written once."""
    import numpy

    return numpy.ones(count)


def make_list(count: int) -> list[int]:
    """A new list of so many numbers."""
    return list(range(count))


def length(value: Any) -> int:
    """The number of items: a task that takes much and returns little."""
    return len(value)


def negative(array: Any) -> Any:
    """Another array of the same size."""
    return -array


def fail(value: Any) -> None:
    """Raise."""
    raise ValueError(value)


def echo_touched(array: Any) -> Any:
    """The array, after reading one item of each 4 KiB page of it."""
    read_pages(array)
    return array


def read_pages(array: Any) -> float:
    """The sum of one item of each 4 KiB page of a float64 array."""
    return float(array[::512].sum())
