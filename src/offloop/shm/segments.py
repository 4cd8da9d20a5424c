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
"""

from __future__ import annotations

import ctypes
import mmap
import os
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
    """Where a buffer lies: segment number, offset, size in bytes."""

    segment: int
    offset: int
    size: int


class Segment:
    """Memory that this side owns."""

    __slots__ = ("fd", "loans", "map", "number", "size", "used_at", "view")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.loans = 0
        self.used_at = 0.0
        self.fd = os.memfd_create("offloop-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            _seal(self.fd)
            self.map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise
        self.view = memoryview(self.map)

    def close(self) -> None:
        """Give the memory back, unless objects of this side still lie on it; then when they die."""
        os.close(self.fd)
        self.view.release()
        try:
            self.map.close()
        except BufferError:
            pass  # the last export closes it, as it dies


def _seal(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


class SegmentPool:
    """The segments that one side owns, lent to one peer.

    Args:
        keep: how many bytes of free segments to keep for reuse.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._segments: dict[int, Segment] = {}
        self._free: dict[int, Segment] = {}  # the longest unused first
        self._numbers = 0

    @property
    def bytes_held(self) -> int:
        """The size of all segments together."""
        return sum(segment.size for segment in self._segments.values())

    def obtain(self, size: int) -> Segment:
        """A segment without loans of at least ``size`` bytes, warm if possible.

        Raises:
            OSError: there is no memory for it, or it is forbidden.
        """
        fitting = [s for s in self._free.values() if size <= s.size <= max(4 * size, 1 << 20)]
        if fitting:
            segment = min(fitting, key=lambda s: s.size)
            del self._free[segment.number]
            return segment
        self._numbers += 1
        segment = Segment(self._numbers, _rounded(size))
        self._segments[segment.number] = segment
        return segment

    def lend(self, segment: Segment, sizes: Iterable[int]) -> list[Loan]:
        """Loans of consecutive buffers of these sizes; `space_for` says how much they need."""
        loans: list[Loan] = []
        offset = 0
        for size in sizes:
            loans.append(Loan(segment.number, offset, size))
            offset += -(-size // ALIGN) * ALIGN
        segment.loans += len(loans)
        return loans

    def returned(self, number: int) -> None:
        """One loan of this segment has ended."""
        segment = self._segments.get(number)
        if segment is None:
            return
        segment.loans -= 1
        if segment.loans <= 0:
            segment.loans = 0
            segment.used_at = monotonic()
            self._free[number] = segment

    def export(self, loan: Loan, ended: Callable[[], object]) -> memoryview:
        """This side's own view of a loan that came back in use; ``ended`` is called when it dies."""
        return export(self._segments[loan.segment].map, loan.offset, loan.size, ended)

    def trim(self, now: float) -> list[int]:
        """Close free segments that are too many or unused for long; returns their numbers."""
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


class Imports:
    """The peer's segments, mapped by this side.

    Args:
        returned: called with a segment's number when a loan of it has ended;
            on any thread, whenever the last object on it dies.
    """

    def __init__(self, returned: Callable[[int], object]) -> None:
        self._returned = returned
        self._maps: dict[int, tuple[mmap.mmap, int]] = {}
        self._exports: dict[int, tuple[Loan, ref[Any], finalize[Any, Any]]] = {}  # by address

    def add(self, number: int, fd: int, size: int) -> None:
        """Map a segment; the descriptor is closed."""
        try:
            mapped = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._maps[number] = (mapped, _address(mapped))

    def drop(self, number: int) -> None:
        """The peer closed this segment: unmap it, once nothing lies on it."""
        mapped = self._maps.pop(number, None)
        if mapped is not None:
            try:
                mapped[0].close()
            except BufferError:
                pass  # unmapped when the last export dies

    def borrow(self, loan: Loan) -> memoryview:
        """A writable view of a buffer; the loan is returned when the last object on it dies."""
        mapped, base = self._maps[loan.segment]
        address = base + loan.offset
        holder: list[finalize[Any, Any]] = []
        view, owner = _export(mapped, loan.offset, loan.size)
        holder.append(finalize(owner, self._ended, address, loan.segment))
        holder[0].atexit = False
        self._exports[address] = (loan, ref(owner), holder[0])
        return view

    def _ended(self, address: int, number: int) -> None:
        self._exports.pop(address, None)
        self._returned(number)

    def close(self) -> None:
        """Unmap everything that nothing lies on."""
        for number in list(self._maps):
            self.drop(number)


def export(mapped: mmap.mmap, offset: int, size: int, ended: Callable[[], object]) -> memoryview:
    """A writable view of part of a map; ``ended`` is called when the last object on it dies."""
    view, owner = _export(mapped, offset, size)
    finalize(owner, ended).atexit = False
    return view


def _export(mapped: mmap.mmap, offset: int, size: int) -> tuple[memoryview, Any]:
    # A ctypes array is an exporter of its own, whose death can be seen: every
    # memoryview, NumPy array or Arrow buffer made from it keeps it alive.
    owner = (ctypes.c_char * size).from_buffer(mapped, offset)
    return memoryview(owner).cast("B"), owner


def _address(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


def space_for(sizes: Iterable[int]) -> int:
    """How many bytes buffers of these sizes need in one segment."""
    return sum(-(-size // ALIGN) * ALIGN for size in sizes)


def _rounded(size: int) -> int:
    """The size of a new segment: up to an eighth more, so that near sizes share one."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
