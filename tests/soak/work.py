"""What the soak's workers are given to do; importable there, and light."""

from __future__ import annotations

import asyncio
import os
import time
from functools import cache
from typing import Any, NoReturn

from offloop import current_task


class Expected(Exception):
    """A failure that a task is asked for."""


def echo(value: Any) -> Any:
    """Give it back."""
    return value


def doze(seconds: float, value: Any) -> Any:
    """Hold the worker for a while."""
    time.sleep(seconds)
    return value


async def adoze(seconds: float, value: Any) -> Any:
    """Wait on the worker's event loop."""
    await asyncio.sleep(seconds)
    return value


def spin(seconds: float, value: Any) -> Any:
    """Use the processor for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return value


def fail(value: Any) -> NoReturn:
    """Raise, with the value in the exception."""
    raise Expected(value)


def invert(data: bytes) -> bytes:
    """Large data there, as large data back."""
    return data[::-1]


def recorded(path: str, number: int) -> int:
    """Note in a file when this begins and ends; each note is one atomic append."""
    note(path, f"start {number}")
    time.sleep(0.0005)
    note(path, f"end {number}")
    return number


def note(path: str, line: str) -> None:
    """Append a line."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def count_up(number: int) -> Any:
    """A stream."""
    yield from range(number)


def ask(number: int) -> int:
    """Ask the parent, report twice, and give its answer."""
    task = current_task()
    task.report(0, 1)
    task.channel.send(number)
    answer: int = task.channel.receive()
    task.report(1, 1)
    return answer


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def counted(path: str, number: int) -> int:
    """Note in a file, by one atomic append, that this task runs; the worker keeps the file open."""
    os.write(_opened(path), number.to_bytes(8, "little"))
    return number
