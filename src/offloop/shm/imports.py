"""The borrower's part: the peer's segments, mapped here, and the loans that objects of this side lie on."""

from __future__ import annotations

import ctypes
import mmap
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any
from weakref import ref

from offloop.shm.mapping import Unmap, check_sealed, exported, has_room, mapped, sides, unmap_now
from offloop.shm.segments import Loan

#: How many addresses of loans that have ended may be kept, beside as many as there are loans.
_STALE = 64


class Borrowed(ref[Any]):
    """A loan of the peer's, as its borrower sees it: a weak reference to what all objects on it keep alive.

    Attributes:
        loan: where it lies in the peer's segment.
        address: where it lies here.
        spent: whether its segment is not to be used again.
        is_going_over: whether its end is not to be reported.
    """

    __slots__ = ("address", "is_going_over", "loan", "spent")

    address: int
    is_going_over: bool
    loan: Loan
    spent: bool

    def begin_hand_over(self) -> None:
        """From now on the loan's end is not reported: it may go back as it is."""
        self.is_going_over = True

    def end_hand_over(self) -> memoryview | None:
        """None if nobody here sees the memory any more: it may go over, or be borrowed again.

        Else the loan stays as it was, at least for as long as what is returned
        lives: a view of its memory.
        """
        owner = self()
        if owner is None:
            return None
        self.is_going_over = False  # its end can't have been missed: it is held here
        return memoryview(owner).cast("B")


class Imports:
    """The peer's segments, mapped by this side.

    Args:
        returned: called when a loan has ended, with its segment's number and
            whether that is spent; on any thread, whenever the last object on it dies.
        unmap: unmaps what the peer closed; by default at once.
    """

    def __init__(self, returned: Callable[[int, bool], object], unmap: Unmap | None = None) -> None:
        self._returned = returned
        self._unmap = unmap or unmap_now
        self._maps: dict[int, tuple[mmap.mmap, int]] = {}
        self._files: dict[int, int] = {}  # segments that are not mapped, as there are too many: descriptors
        self._missing: dict[int, str] = {}  # segments that could not be mapped: why
        self._loans: dict[int, Borrowed] = {}  # by address
        # Those addresses, ascending, and some of loans that have ended.  A loan may end at any moment and
        # on any thread, in which no list can be searched and changed in one step: so that takes none away.
        self._addresses: list[int] = []
        sides.add(self)

    def add(self, number: int, fd: int | None, size: int) -> None:
        """Map a segment, or keep the descriptor where too many are mapped; it is this side's now.

        If neither can be, borrowing from it fails.
        """
        if fd is None:
            self._missing[number] = "its descriptor was refused: too many open files?"
            return
        try:
            check_sealed(fd, size)
            if not has_room():
                self._files[number], fd = fd, None
                return
            memory = mapped(fd, size)
        except (OSError, ValueError, MemoryError) as error:
            self._missing[number] = str(error)
        else:
            self._maps[number] = (memory, ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        finally:
            if fd is not None:
                os.close(fd)

    def drop(self, number: int) -> None:
        """The peer closed this segment: unmap it."""
        self._missing.pop(number, None)
        fd = self._files.pop(number, None)
        if fd is not None:
            os.close(fd)
        known = self._maps.pop(number, None)
        if known is not None:
            self._unmap(known[0])

    def borrow(self, number: int, offset: int, size: int) -> memoryview:
        """A writable view of a buffer; the loan ends when the last object on it dies.

        Raises:
            OSError: the segment could not be mapped.
        """
        if number in self._files:
            return self._copied(number, offset, size)
        if number not in self._maps:
            raise OSError(f"shared memory could not be mapped: {self._missing.get(number, 'it is unknown')}")
        memory, base = self._maps[number]
        owner, address = exported(memory, offset, size), base + offset
        borrowed = self._loans[address] = Borrowed(owner, self._ended)
        borrowed.address, borrowed.loan = address, Loan(number, offset, size)
        borrowed.is_going_over = borrowed.spent = False
        self._note_address(address)
        return memoryview(owner).cast("B")

    def _copied(self, number: int, offset: int, size: int) -> memoryview:
        """A copy of a buffer, whose loan ends at once: slower, but there is no limit to how many are kept."""
        copy = memoryview(bytearray(size))
        at = 0
        while at < size:
            read = os.preadv(self._files[number], [copy[at:]], offset + at)
            if not read:
                raise OSError("a buffer reaches beyond its segment")
            at += read
        self._returned(number, False)
        return copy

    def _note_address(self, address: int) -> None:
        addresses = self._addresses
        at = bisect_left(addresses, address)
        if at == len(addresses) or addresses[at] != address:
            addresses.insert(at, address)
            if len(addresses) > 2 * len(self._loans) + _STALE:
                self._addresses = sorted(self._loans)

    def decline(self, number: int) -> None:
        """End a loan that was not borrowed."""
        self._returned(number, number not in self._maps and number not in self._files)

    def before_fork(self) -> None:
        """What objects of this side lie on will be the forked process's too."""
        for borrowed in list(self._loans.values()):
            borrowed.spent = True

    def find(self, buffer: memoryview) -> tuple[Borrowed, int] | None:
        """The loan in whose memory a buffer lies, and where; None if in none."""
        if buffer.readonly or not buffer.nbytes:
            return None
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        borrowed = self._loans.get(address) or self._last_before(address)
        offset = address - borrowed.address if borrowed is not None else 0
        if borrowed is None or offset + buffer.nbytes > borrowed.loan.size:
            return None
        return borrowed, offset

    def _last_before(self, address: int) -> Borrowed | None:
        """Of the loans that begin before an address, which do not overlap, the last."""
        addresses = self._addresses
        at = bisect_right(addresses, address)
        while at:
            at -= 1
            borrowed = self._loans.get(addresses[at])
            if borrowed is not None:
                return borrowed
            del addresses[at]
        return None

    def _ended(self, borrowed: Borrowed) -> None:
        """The last object on a loan has died."""
        if not borrowed.is_going_over:
            self.forget(borrowed)
            self._returned(borrowed.loan.segment, borrowed.spent)

    def forget(self, borrowed: Borrowed) -> None:
        """The loan went over to the other side, or has ended."""
        if self._loans.get(borrowed.address) is borrowed:
            del self._loans[borrowed.address]

    def close(self) -> None:
        """Unmap everything that nothing lies on."""
        for number in (*self._maps, *self._files):
            self.drop(number)
