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

import ctypes
import mmap
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple
from weakref import WeakSet, finalize, ref

#: Buffers lie at multiples of this, in bytes: a cache line, and what NumPy and Arrow like.
ALIGN = 64
#: Free segments of more than this in all, in bytes, are closed, the longest unused first.
KEEP = 1 << 28
#: Free segments unused for this long, in seconds, are closed.
IDLE = 10.0
#: The same on Linux and macOS; `mmap` does not name it.
_MAP_FIXED = 0x10


class Loan(NamedTuple):
    """Where a buffer lies: segment number, offset and size in bytes."""

    segment: int
    offset: int
    size: int


class Segment:
    """Memory that this side owns."""

    __slots__ = ("_fd", "loans", "map", "number", "size", "spent", "used_at", "view")

    def __init__(self, number: int, size: int) -> None:
        import fcntl

        self.number = number
        self.size = size
        self.loans = 0
        self.used_at = 0.0
        self.spent = False  # to be closed rather than used again
        fd = os.memfd_create("offloop-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._fd: int | None = fd
        try:
            os.truncate(fd, size)  # pages are claimed as they are written
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.map = _mapped(fd, size)
        except BaseException:
            os.close(fd)
            raise
        self.view = memoryview(self.map)

    def take_descriptor(self) -> int | None:
        """The descriptor, the first time: it is the caller's to close.  None from then on."""
        fd, self._fd = self._fd, None
        return fd

    def close(self) -> None:
        """Give the memory back; where objects of this side lie on it, when they die."""
        fd = self.take_descriptor()
        if fd is not None:
            os.close(fd)
        self.view.release()
        _unmap(self.map)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
)


def _mapped(fd: int, size: int) -> mmap.mmap:
    """A mapping that keeps no descriptor; `mmap.mmap` keeps a duplicate unless told otherwise."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, trackfd=False)
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # What was reserved there is replaced, and unmapped in its place.
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    if _libc.mmap(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return mapped


def _check_sealed(fd: int, size: int) -> None:
    """Refuse memory that its owner could cut off: to touch what is gone would kill this process (SIGBUS).

    Raises:
        OSError: it is not sealed, no such memory at all, or smaller than it was said to be.
    """
    import fcntl

    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK or os.fstat(fd).st_size < size:
        raise OSError("it is not sealed against shrinking")


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
        self._ended: deque[tuple[int, bool]] = deque()
        self._numbers = 0
        _forkable.add(self)

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
        most = max(4 * size, 1 << 20)
        fitting = [s for s in self._free.values() if size <= s.size <= most and not s.spent]
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
        owner = _owner(self._segments[number].map, offset, size)
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
                self._free[segment.number] = segment

    def trim(self, now: float) -> list[int]:
        """Close free segments that are too many, spent, or unused for long; returns their numbers."""
        self._collect()
        closed: list[int] = []
        total = sum(segment.size for segment in self._free.values())
        for number, segment in list(self._free.items()):
            if total <= self._keep and now - segment.used_at < IDLE and not segment.spent:
                continue
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
        self._ended.clear()


class Borrowed:
    """A loan of the peer's, as its borrower sees it."""

    def __init__(self, imports: Imports, owner: Any, loan: Loan, address: int) -> None:
        self.loan = loan
        self.address = address
        self.spent = False
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

    def end_hand_over(self) -> memoryview | None:
        """None if nobody here sees the memory any more: it may go over, or be borrowed again.

        Else the loan stays as it was, at least for as long as what is returned
        lives: a view of its memory.
        """
        owner = self._owner()
        if owner is None:
            return None
        self._handing_over = False  # its end can't have been missed: it is held here
        return memoryview(owner).cast("B")


class Imports:
    """The peer's segments, mapped by this side.

    Args:
        returned: called when a loan has ended, with its segment's number and
            whether that is spent; on any thread, whenever the last object on it dies.
    """

    def __init__(self, returned: Callable[[int, bool], object]) -> None:
        self._returned = returned
        self._maps: dict[int, tuple[mmap.mmap, int]] = {}
        self._missing: dict[int, str] = {}  # segments that could not be mapped: why
        self._loans: dict[int, Borrowed] = {}  # by address
        _forkable.add(self)

    def add(self, number: int, fd: int | None, size: int) -> None:
        """Map a segment; the descriptor is closed.  If that fails, so does borrowing from it."""
        if fd is None:
            self._missing[number] = "its descriptor was refused: too many open files?"
            return
        try:
            _check_sealed(fd, size)
            mapped = _mapped(fd, size)
        except (OSError, ValueError, MemoryError) as error:
            self._missing[number] = str(error)
        else:
            self._maps[number] = (mapped, ctypes.addressof(ctypes.c_char.from_buffer(mapped)))
        finally:
            os.close(fd)

    def drop(self, number: int) -> None:
        """The peer closed this segment: unmap it."""
        self._missing.pop(number, None)
        mapped = self._maps.pop(number, None)
        if mapped is not None:
            _unmap(mapped[0])

    def borrow(self, number: int, offset: int, size: int) -> memoryview:
        """A writable view of a buffer; the loan ends when the last object on it dies.

        Raises:
            OSError: the segment could not be mapped.
        """
        if number not in self._maps:
            raise OSError(f"shared memory could not be mapped: {self._missing.get(number, 'it is unknown')}")
        mapped, base = self._maps[number]
        owner, address = _owner(mapped, offset, size), base + offset
        self._loans[address] = Borrowed(self, owner, Loan(number, offset, size), address)
        return memoryview(owner).cast("B")

    def decline(self, number: int) -> None:
        """End a loan that was not borrowed."""
        self._returned(number, number not in self._maps)

    def before_fork(self) -> None:
        """What objects of this side lie on will be the forked process's too."""
        for borrowed in list(self._loans.values()):
            borrowed.spent = True

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
        self._returned(borrowed.loan.segment, borrowed.spent)

    def forget(self, borrowed: Borrowed) -> None:
        """The loan went over to the other side, or has ended."""
        if self._loans.get(borrowed.address) is borrowed:
            del self._loans[borrowed.address]

    def close(self) -> None:
        """Unmap everything that nothing lies on."""
        for number in list(self._maps):
            self.drop(number)


_forkable: WeakSet[SegmentPool | Imports] = WeakSet()


def _before_fork() -> None:
    for side in list(_forkable):
        side.before_fork()


os.register_at_fork(before=_before_fork)


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
