"""What the questions have run in workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STATE: dict[str, int] = {}


def answer() -> int:
    return 42


async def answer_later() -> int:
    await asyncio.sleep(0.01)
    return 42


async def in_coroutine(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


async def double_async(number: int) -> int:
    return number * 2


def double(number: int) -> int:
    return number * 2


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note_and_sleep(path: str, seconds: float) -> int:
    """Write the process id to a file, sleep; write another file on the way out, however that comes."""
    try:  # who sees the file may cancel this at once
        part = Path(path + ".part")
        part.write_text(str(os.getpid()))
        part.rename(path)
        time.sleep(seconds)
    finally:
        Path(path + ".tidied").touch()
    return 42


def numbers() -> Iterator[int]:
    yield from range(3)


def log() -> int:
    logging.getLogger("comparison").warning("from a worker")
    return 42


def initialize(*_: Any) -> None:
    STATE["value"] = 42


def state() -> int:
    return STATE["value"]


def is_shared(array: Any) -> bool:
    """Whether the memory of an array is a mapping of a file, which other processes can share."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, _, _, inode, *_ = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= address < end:
            return mode[3] == "s" or inode != "0"
    return False
