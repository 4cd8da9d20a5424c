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
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple
from weakref import finalize, ref

#: Buffers lie at multiples of this, in bytes: a cache line, and what NumPy and Arrow like.
ALIGN = 64
#: Free segments of more than this in all, in bytes, are closed, the longest unused first.
KEEP = 1 << 28
#: Free segments unused for this long, in seconds, are closed.
IDLE = 10.0


class Loan(NamedTuple):
    """Where a buffer lies: segment number, offset and size in bytes."""

    segment: int
    offset: int
    size: int


class Segment:
    """Memory that this side owns."""

    __slots__ = ("fd", "loans", "map", "number", "size", "used_at", "view")

    def __init__(self, number: int, size: int) -> None:
        import fcntl

        self.number = number
        self.size = size
        self.loans = 0
        self.used_at = 0.0
        self.fd = os.memfd_create("offloop-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.truncate(self.fd, size)  # pages are claimed as they are written
            fcntl.fcntl(
                self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            )
            self.map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise
        self.view = memoryview(self.map)

    def close(self) -> None:
        """Give the memory back; where objects of this side lie on it, when they die."""
        os.close(self.fd)
        self.view.release()
        _unmap(self.map)


def _unmap(mapped: mmap.mmap) -> None:
    try:
        mapped.close()
    except BufferError:
        pass  # something lies on it: unmapped when that dies


class SegmentPool:
    """The segments that one side owns, lent to one peer.

    Args:
        keep: how many bytes of free segments to keep for reuse.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._segments: dict[int, Segment] = {}
        self._free: dict[int, Segment] = {}  # the longest unused first
        self._ended: deque[int] = deque()
        self._numbers = 0

    @property
    def bytes_held(self) -> int:
        """The size of all segments together."""
        return sum(segment.size for segment in self._segments.values())

    def view(self, number: int) -> memoryview:
        """All of a segment's memory."""
        return self._segments[number].view

    def obtain(self, size: int) -> Segment:
        """A segment without loans of at least ``size`` bytes, warm if possible.

        Raises:
            OSError: there is no memory for it, or it is forbidden.
        """
        self._collect()
        fitting = [s for s in self._free.values() if size <= s.size <= max(4 * size, 1 << 20)]
        if fitting:
            segment = min(fitting, key=lambda s: s.size)
            del self._free[segment.number]
            return segment
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

    def returned(self, number: int) -> None:
        """One loan of this segment has ended.  May be called on any thread."""
        self._ended.append(number)

    def take_back(self, number: int, offset: int, size: int) -> memoryview:
        """This side's own view of a loan that was handed over to it; it ends when the last object on it dies."""
        owner = _owner(self._segments[number].map, offset, size)
        finalize(owner, self.returned, number).atexit = False
        return memoryview(owner).cast("B")

    def _collect(self) -> None:
        while self._ended:
            segment = self._segments.get(self._ended.popleft())
            if segment is None:
                continue
            segment.loans -= 1
            if not segment.loans:
                segment.used_at = monotonic()
                self._free[segment.number] = segment

    def trim(self, now: float) -> list[int]:
        """Close free segments that are too many, or unused for long; returns their numbers."""
        self._collect()
        closed: list[int] = []
        total = sum(segment.size for segment in self._free.values())
        for number, segment in list(self._free.items()):
            if total <= self._keep and now - segment.used_at < IDLE:
                break
            total -= segment.size
            del self._free[number], self._segments[number]
            segment.close()
            closed.append(number)
        return closed

    def close(self) -> None:
        """Close all: the peer is gone."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._free.clear()


class Borrowed:
    """A loan of the peer's, as its borrower sees it."""

    def __init__(self, imports: Imports, mapped: mmap.mmap, loan: Loan, address: int) -> None:
        owner = _owner(mapped, loan.offset, loan.size)
        self.loan = loan
        self.address = address
        self.view = memoryview(owner).cast("B")
        self._map = mapped
        self._owner = ref(owner)
        self._handing_over = False
        self._imports = imports
        finalize(owner, self._ended).atexit = False

    def _ended(self) -> None:
        if not self._handing_over:
            self._imports.ended(self)

    def begin_hand_over(self) -> None:
        """From now on the loan's end is not reported: it may go back as it is."""
        self._handing_over = True

    def end_hand_over(self) -> bool:
        """Whether nobody here sees the memory any more, so that the loan goes over; else it stays as it was."""
        if self._owner() is None:
            self._imports.forget(self)
            return True
        self._handing_over = False
        if self._owner() is None:  # it died just now, unreported
            self._imports.ended(self)
        return False

    def memory(self, offset: int, size: int) -> memoryview:
        """Part of the loan's memory, which is still mapped."""
        start = self.loan.offset + offset
        return memoryview(self._map)[start : start + size]


class Imports:
    """The peer's segments, mapped by this side.

    Args:
        returned: called with a segment's number when a loan of it has ended;
            on any thread, whenever the last object on it dies.
    """

    def __init__(self, returned: Callable[[int], object]) -> None:
        self._returned = returned
        self._maps: dict[int, tuple[mmap.mmap, int]] = {}
        self._loans: dict[int, Borrowed] = {}  # by address

    def add(self, number: int, fd: int, size: int) -> None:
        """Map a segment; the descriptor is closed."""
        try:
            mapped = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._maps[number] = (mapped, ctypes.addressof(ctypes.c_char.from_buffer(mapped)))

    def drop(self, number: int) -> None:
        """The peer closed this segment: unmap it."""
        mapped = self._maps.pop(number, None)
        if mapped is not None:
            _unmap(mapped[0])

    def borrow(self, number: int, offset: int, size: int) -> memoryview:
        """A writable view of a buffer; the loan ends when the last object on it dies."""
        mapped, base = self._maps[number]
        address = base + offset
        borrowed = self._loans[address] = Borrowed(self, mapped, Loan(number, offset, size), address)
        view = borrowed.view
        del borrowed.view  # the borrower's alone
        return view

    def find(self, buffer: memoryview) -> tuple[Borrowed, int] | None:
        """The loan in whose memory a buffer lies, and where; None if in none."""
        if buffer.readonly or not buffer.nbytes:
            return None
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        for borrowed in list(self._loans.values()):
            offset = address - borrowed.address
            if offset >= 0 and offset + buffer.nbytes <= borrowed.loan.size:
                return borrowed, offset
        return None

    def ended(self, borrowed: Borrowed) -> None:
        """The last object on a loan has died."""
        self.forget(borrowed)
        self._returned(borrowed.loan.segment)

    def forget(self, borrowed: Borrowed) -> None:
        """The loan went over to the other side, or has ended."""
        if self._loans.get(borrowed.address) is borrowed:
            del self._loans[borrowed.address]

    def close(self) -> None:
        """Unmap everything that nothing lies on."""
        for number in list(self._maps):
            self.drop(number)


def _owner(mapped: mmap.mmap, offset: int, size: int) -> Any:
    return (ctypes.c_char * size).from_buffer(mapped, offset)


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
