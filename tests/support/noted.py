"""Tasks that note in a file when they begin and end, one for each thing that a conversation is about.

`soak.load.check_history` reads the file.  Importable in workers, and light.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pickle import PickleBuffer
from typing import Any

from soak.work import note

from offloop import current_task

#: Bytes that go by segment.
LARGE = 200_000


class Block:
    """Memory that travels without a copy, and lies where it arrived."""

    def __init__(self, memory: Any) -> None:
        self.memory = memoryview(memory)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (PickleBuffer(self.memory),)


def plain(path: str, number: int) -> int:
    """Do next to nothing."""
    note(path, f"start {number}")
    note(path, f"end {number}")
    return number


def failing(path: str, number: int) -> None:
    """Raise."""
    plain(path, number)
    raise ValueError(number)


def large(path: str, number: int) -> bytes:
    """Make much."""
    return number.to_bytes(1, "little") * LARGE if plain(path, number) else b""


def changed(path: str, number: int, block: Block) -> Block:
    """Give the argument back, which lies in the parent's memory."""
    block.memory[0] = plain(path, number)
    return block


def looked_through(path: str, number: int, block: Block) -> int:
    """Take much, and give little back."""
    return plain(path, number) + len(block.memory) - LARGE


def counted(path: str, number: int) -> Iterator[int]:
    """Yield one by one, and report each."""
    note(path, f"start {number}")
    for count in range(4):
        current_task().report(count)
        yield count
    note(path, f"end {number}")


async def later(path: str, number: int) -> int:
    """Come back after a turn of the event loop."""
    import asyncio

    note(path, f"start {number}")
    await asyncio.sleep(0)
    note(path, f"end {number}")
    return number


def waiting(path: str, number: int) -> None:
    """Wait until cancelled."""
    note(path, f"start {number}")
    time.sleep(60)


def importing(path: str, number: int) -> int:
    """Need a module that nobody else needs."""
    import colorsys

    return plain(path, number) if colorsys else 0
