"""Functions for the tests of maps."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from support.signals import append_line, identity, tell

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refill:
    """Returns the same list each time, with other content."""

    def __init__(self) -> None:
        self.filled: list[int] = []

    def __call__(self, item: int) -> list[int]:
        self.filled[:] = [item]
        return self.filled


def catch(paths: tuple[str, str]) -> None:
    """Arrive at a gate, wait, and catch whatever ends that."""
    gate, log = paths
    try:
        tell(f"{gate}.arrivals", identity())
        for _ in range(2_000):  # a thread is interrupted between two of them
            time.sleep(0.01)
    except BaseException:
        append_line(log, "caught")


async def acatch(paths: tuple[str, str]) -> None:
    """The same as a coroutine function."""
    gate, log = paths
    try:
        tell(f"{gate}.arrivals", identity())
        await asyncio.sleep(20)
    except BaseException:
        append_line(log, "caught")


def catch_in_generator(paths: tuple[str, str]) -> Iterator[None]:
    """The same as a generator function."""
    catch(paths)
    yield
