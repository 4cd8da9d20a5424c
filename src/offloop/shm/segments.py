"""Segments: shared memory for large buffers, written once and mapped without a copy.

A segment is anonymous memory (``memfd``) that one side owns.  The owner copies
buffers into it and says where they lie; the other side maps it, once, and
builds its objects right on top of the mapping.  Each buffer handed over is a
*loan*: when the last object on it dies, the borrower gives it back, and a
segment without loans is used again while its pages are warm.  Nothing has a
name, so nothing survives both sides; a side that dies takes no memory from
the other, whose mappings stay valid.

Why memory is never written under somebody's eyes: the owner writes into a
segment only while it has no loans, and a loan ends only when the borrower's
export of it has died, or the borrower itself has.  A borrower hands a loan
over (a result that is a view of an argument) only once its own export of it
has died, so that after it exactly one side can see the memory.

How the death of the last object is seen: a ctypes array is made on the mapping
for each loan.  Every memoryview, NumPy array or Arrow buffer made from it keeps
it alive, and a weak reference to it tells when they are all gone; on whatever
thread that happens, so what is noted there is noted in a deque.

A process that forks shares its mappings with the child, which must not see
them reused: a loan that was alive at a fork is *spent*, and its segment is
closed, not used again, once all its loans have ended.

A program may keep thousands of results, so neither side keeps a descriptor: the
owner gives its one away with the segment, and mappings do without.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable
from functools import cache
from time import monotonic
from typing import NamedTuple
from weakref import finalize

from offloop.cpus import cgroup_memory, physical_memory
from offloop.shm.free import FreeSegments
from offloop.shm.ledger import sealed_memory
from offloop.shm.mapping import Unmap, exported, has_room, mapped, sides, unmap_now

#: Buffers lie at multiples of this, in bytes: a cache line, and what NumPy and Arrow like.
ALIGN = 64
#: Free segments of more than this in all, in bytes, are closed, the longest unused first …
KEEP = 1 << 28
#: … but not the last one, if it is no larger than this share of the memory that this process may use:
#: arrays of 400 MB, one after the other, took four times as long when each had to get fresh pages.
LARGE = 1 / 16
#: Free segments unused for this long, in seconds, are closed.
IDLE = 10.0


class Loan(NamedTuple):
    """Where a buffer lies: segment number, offset and size in bytes."""

    segment: int
    offset: int
    size: int


class Segment:
    """Memory that this side owns."""

    __slots__ = ("_fd", "loans", "map", "number", "size", "spent", "used_at", "view")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.loans = 0
        self.used_at = 0.0
        self.spent = False  # to be closed rather than used again
        fd = sealed_memory("offloop-segment", size)
        self._fd: int | None = fd
        try:
            self.map = mapped(fd, size)
        except BaseException:
            os.close(fd)
            raise
        self.view = memoryview(self.map)

    def take_descriptor(self) -> int | None:
        """The descriptor, the first time: it is the caller's to close.  None from then on."""
        fd, self._fd = self._fd, None
        return fd

    def close(self, unmap: Unmap) -> None:
        """Give the memory back; where objects of this side lie on it, when they die."""
        fd = self.take_descriptor()
        if fd is not None:
            os.close(fd)
        self.view.release()
        unmap(self.map)


class SegmentPool:
    """The segments that one side owns, lent to one peer.

    Args:
        keep: how many bytes of free segments to keep for reuse.
        unmap: unmaps what is closed; by default at once.
    """

    def __init__(self, keep: int = KEEP, unmap: Unmap | None = None) -> None:
        self._keep = keep
        self._unmap = unmap or unmap_now
        self._segments: dict[int, Segment] = {}
        self._free = FreeSegments()
        self._spent: list[Segment] = []  # without loans, to be closed
        self._ended: deque[tuple[int, bool]] = deque()
        self._numbers = 0
        sides.add(self)

    @property
    def bytes_held(self) -> int:
        """The size of all segments together."""
        return sum(segment.size for segment in self._segments.values())

    def view(self, number: int) -> memoryview:
        """All of a segment's memory."""
        return self._segments[number].view

    def obtain(self, size: int) -> Segment | None:
        """A segment without loans of at least ``size`` bytes, warm if possible; None if there are too many.

        Raises:
            OSError: there is no memory for it, or it is forbidden.
        """
        self._collect()
        most = max(4 * size, 1 << 20)
        free = self._free.fitting(size, most)
        if free is not None:
            self._free.remove(free)
            return free
        if not has_room():
            return None
        segment = Segment(self._numbers + 1, rounded(size))
        self._numbers += 1
        self._segments[segment.number] = segment
        return segment

    def lend(self, segment: Segment, sizes: Iterable[int]) -> list[Loan]:
        """Lend consecutive buffers of these sizes; `space_for` says how much room they need."""
        loans: list[Loan] = []
        offset = 0
        for size in sizes:
            loans.append(Loan(segment.number, offset, size))
            offset += aligned(size)
        segment.loans += len(loans)
        return loans

    def returned(self, number: int, spent: bool = False) -> None:
        """One loan of this segment has ended.  May be called on any thread.

        Args:
            number: the segment's.
            spent: do not use the segment again.
        """
        self._ended.append((number, spent))

    def before_fork(self) -> None:
        """What objects of this side lie on will be the forked process's too."""
        for number, segment in list(self._segments.items()):
            segment.spent |= number not in self._free

    def take_back(self, number: int, offset: int, size: int) -> memoryview:
        """This side's own view of a loan that came back; it ends when the last object on it dies."""
        owner = exported(self._segments[number].map, offset, size)
        finalize(owner, self.returned, number).atexit = False
        return memoryview(owner).cast("B")

    def _collect(self) -> None:
        while self._ended:
            number, spent = self._ended.popleft()
            segment = self._segments.get(number)
            if segment is None:
                continue
            segment.spent |= spent
            segment.loans -= 1
            if not segment.loans:
                segment.used_at = monotonic()
                if segment.spent:
                    self._spent.append(segment)
                else:
                    self._free.add(segment)

    def trim(self, now: float) -> list[int]:
        """Close free segments that are too many, spent, or unused for long; returns their numbers."""
        self._collect()
        closing, self._spent = self._spent, []
        while self._free:
            oldest = next(iter(self._free))
            if now - oldest.used_at < IDLE and (self._free.bytes <= self._keep or self._may_stay(oldest)):
                break
            self._free.remove(oldest)
            closing.append(oldest)
        for segment in closing:
            del self._segments[segment.number]
            segment.close(self._unmap)
        return [segment.number for segment in closing]

    def _may_stay(self, oldest: Segment) -> bool:
        return len(self._free) == 1 and oldest.size <= LARGE * _memory()

    def close(self) -> None:
        """Close all: the peer is gone."""
        for segment in self._segments.values():
            segment.close(self._unmap)
        self._segments.clear()
        self._free = FreeSegments()
        self._spent.clear()
        self._ended.clear()


@cache
def _memory() -> int:
    """Bytes of memory that this process may use."""
    physical = physical_memory()
    return min(physical, cgroup_memory() or physical)


def aligned(size: int) -> int:
    """A size, rounded up to whole `ALIGN` bytes."""
    return -(-size // ALIGN) * ALIGN


def space_for(sizes: Iterable[int]) -> int:
    """How many bytes buffers of these sizes need in one segment."""
    return sum(map(aligned, sizes))


def rounded(size: int) -> int:
    """The size of a new segment: up to an eighth more, so that near sizes share one."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
