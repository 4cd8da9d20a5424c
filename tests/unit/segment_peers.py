"""The owner of segments and their borrower, in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from offloop.shm import segments
from offloop.shm.imports import Imports
from offloop.shm.segments import SegmentPool, space_for

SIZE = 1 << 16


class Peers:
    """An owner and a borrower in one process."""

    def __init__(self, keep: int = segments.KEEP) -> None:
        self.pool = SegmentPool(keep)
        self.told: list[tuple[int, bool]] = []
        self.imports = Imports(self._returned)

    def _returned(self, number: int, spent: bool) -> None:
        self.told.append((number, spent))
        self.pool.returned(number, spent)

    def lend(self, *sizes: int) -> tuple[int, list[memoryview]]:
        """The number of the segment used, and the borrower's views."""
        segment = self.pool.obtain(space_for(sizes))
        fd = segment.take_descriptor()
        if fd is not None:
            self.imports.add(segment.number, fd, segment.size)
        return segment.number, [self.imports.borrow(*loan) for loan in self.pool.lend(segment, sizes)]

    def trim(self, now: float) -> list[int]:
        closed = self.pool.trim(now)
        for number in closed:
            self.imports.drop(number)
        return closed

    def close(self) -> None:
        self.pool.close()
        self.imports.close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
