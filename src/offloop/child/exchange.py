"""How large payloads cross between a parent and a worker: through segments, as loans.

Both ends have one of these.  Each lends the other the segments that it owns, and
borrows the other's; what must be said about that is said by three kinds of
frame on the data socket, in order with everything else: `SEGMENT` (a new one,
its descriptor comes along), `UNSEGMENT` (it was closed), `LOANS` (these loans
have ended).
"""

from __future__ import annotations

import os
from _warnings import warn  # loading `warnings` itself would take a descriptor, and there may be none
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from offloop.child import layout
from offloop.child.layout import (
    HERE,
    MINE,
    YOURS,
    Copy,
    Part,
    WithDescriptor,
    lay_out_table,
    unpack_table,
)
from offloop.wire.frames import (
    BUFFERS,
    LENT,
    LOANS,
    SEGMENT,
    UNSEGMENT,
    Record,
    frame,
    layout_buffers,
    pack_numbers,
    unpack_numbers,
)

TYPE_CHECKING = False

if TYPE_CHECKING:
    from offloop.shm.imports import Imports
    from offloop.shm.mapping import Unmap
    from offloop.shm.segments import Loan, SegmentPool


#: What has a smaller part of a loan than one in so many is copied, rather than handed over with all of it.
LEAST_PART = 4


class Exchange:
    """One end's segments, and its share in the other's.

    Args:
        wake: called, on any thread, when loans wait to be returned; `settle` says so to the peer.
        unmap: unmaps segments that are closed; by default at once.
    """

    def __init__(self, wake: Callable[[], object], unmap: Unmap | None = None) -> None:
        self._wake = wake
        self._unmap = unmap
        self._pool: SegmentPool | None = None
        self._imports: Imports | None = None
        self._ended: deque[int] = deque()  # loans of the peer's that have ended: segment * 2 + spent
        self._before: list[Part] = []
        self._nudged = False  # the peer gave something back: perhaps there is something to close
        self.descriptors: deque[int] = deque()  # received, not asked for yet
        #: Whether this end may lend: not where the peer is on another machine.
        self.lends = True

    # -- out --------------------------------------------------------------------

    def lay_out(self, pickled: bytes, buffers: Sequence[memoryview]) -> tuple[int, int, list[Part]]:
        """Lay out a payload: large parts through a segment, if there is one to be had.

        Returns:
            The frame's flags; the payload's size in bytes; and the parts to write
            before it (new segments, copies), behind which comes its header: then the payload.
        """
        parts = [memoryview(pickled), *buffers]
        threshold = layout.THRESHOLD
        lent = [part for part in parts if part.nbytes >= threshold]
        loans = self._place(lent) if lent else None
        if loans is None:
            if not buffers:
                return 0, len(pickled), [pickled]
            inline = layout_buffers(pickled, buffers)
            return BUFFERS, sum(len(part) for part in inline), [*inline]
        waiting = iter(loans)
        table: list[tuple[int, int, int, int]] = []
        for part in parts:
            segment, offset, size = next(waiting) if part.nbytes >= threshold else (0, 0, part.nbytes)
            table.append((MINE if segment else HERE, segment, offset, size))
        here = [part for part in parts if part.nbytes < threshold]
        return LENT, *lay_out_table(table, here)

    def take_before(self) -> list[Part]:
        """What is to be written before the frame that was just laid out: new segments, copies."""
        before, self._before = self._before, []
        return before

    def _place(self, lent: Sequence[memoryview]) -> list[Loan] | None:
        """Have these buffers copied into a segment; None if there is no memory for it."""
        if not self.lends:
            return None
        sizes = [part.nbytes for part in lent]
        try:
            from offloop.shm.segments import space_for

            pool = self._own
            self._before += self._closed(pool.trim(monotonic()))
            segment = pool.obtain(space_for(sizes))
        except (OSError, AttributeError, ImportError, MemoryError) as error:
            _warn_of_refusal(error)
            return None
        if segment is None:
            return None
        loans = pool.lend(segment, sizes)
        fd = segment.take_descriptor()
        if fd is not None:  # the peer has not seen this segment yet
            inode = pack_numbers([os.fstat(fd).st_ino])
            self._before.append(
                WithDescriptor(frame(SEGMENT, inode, ref=segment.number, id=segment.size), fd)
            )
        for loan, part in zip(loans, lent, strict=True):
            target = segment.view[loan.offset : loan.offset + loan.size]
            self._before.append(Copy(target, part.cast("B")))
        return loans

    @property
    def _own(self) -> SegmentPool:
        if self._pool is None:
            from offloop.shm.segments import SegmentPool

            self._pool = SegmentPool(unmap=self._unmap)
        return self._pool

    def _closed(self, numbers: Iterable[int]) -> list[bytes]:
        return [frame(UNSEGMENT, ref=number) for number in numbers]

    @property
    def has_news(self) -> bool:
        """Whether `settle` has something to say."""
        return self._nudged or bool(self._ended)

    def receive_descriptors(self, fds: Iterable[int]) -> None:
        """Take in descriptors that came along; the frames that they belong to follow in this order."""
        self.descriptors.extend(fds)

    @property
    def bytes_held(self) -> int:
        """The size of this side's segments together."""
        return self._pool.bytes_held if self._pool is not None else 0

    def settle(self, *, nudge: bool = False) -> list[bytes]:
        """What to tell the peer: loans that have ended, segments closed since.

        Args:
            nudge: say something at any rate, so that the peer looks at its segments too.
        """
        self._nudged = False
        told: list[bytes] = []
        if self._ended or nudge:
            numbers = [self._ended.popleft() for _ in range(len(self._ended))]
            told.append(frame(LOANS, pack_numbers(numbers)))
        if self._pool is not None:
            told += self._closed(self._pool.trim(monotonic()))
        return told

    # -- in ---------------------------------------------------------------------

    def note(self, record: Record) -> bool:
        """Take in a record about segments, or a task that will not be loaded.

        Returns:
            Whether it was one of these.
        """
        kind, flags, ref, id, _, _, payload = record
        if kind == SEGMENT:
            self._add(ref, self._claim(payload), id)
        elif kind == UNSEGMENT:
            if self._imports is not None:
                self._imports.drop(ref)
        elif kind == LOANS:
            self._nudged = True
            for number in unpack_numbers(payload):
                self._own.returned(number >> 1, bool(number & 1))
        elif flags & LENT:
            self._decline(unpack_table(memoryview(payload))[0])
        else:
            return False
        return True

    def _add(self, number: int, fd: int | None, size: int) -> None:
        """Map a segment of the peer's.  One that is not known here is the error of whoever needs it."""
        try:
            theirs = self._theirs
        except (OSError, ImportError):  # where no descriptor is left, nothing can be loaded either
            if fd is not None:
                os.close(fd)
        else:
            theirs.add(number, fd, size)

    def _claim(self, payload: bytes | memoryview) -> int | None:
        """The descriptor of the segment that a frame is about; None if it did not come.

        The kernel drops descriptors that a process has no room for, and says
        nothing of which: so each is known by its inode.
        """
        (inode,) = unpack_numbers(payload)
        if self.descriptors and os.fstat(self.descriptors[0]).st_ino == inode:
            return self.descriptors.popleft()
        return None

    @property
    def _theirs(self) -> Imports:
        if self._imports is None:
            from offloop.shm.imports import Imports

            self._imports = Imports(self._loan_ended, self._unmap)
        return self._imports

    def _loan_ended(self, number: int, spent: bool) -> None:
        self._ended.append(number << 1 | spent)
        self._wake()

    def open(self, payload: bytes | memoryview) -> tuple[memoryview, list[memoryview]]:
        """The pickle and the buffers of a payload that came by segment.

        Raises:
            OSError: the segment could not be mapped; all its loans have ended.
        """
        view = memoryview(payload)
        table, position = unpack_table(view)
        parts: list[memoryview] = []
        try:
            for where, segment, offset, size in table:
                if where == HERE:
                    parts.append(view[position : position + size])
                    position += size
                elif where == MINE:
                    parts.append(self._theirs.borrow(segment, offset, size))
                else:
                    parts.append(self._own.take_back(segment, offset, size))
        except BaseException:
            self._decline(table[len(parts) :])
            parts.clear()  # which the traceback holds
            raise
        return parts[0], parts[1:]

    def _decline(self, table: Iterable[tuple[int, int, int, int]]) -> None:
        """End loans that were not taken up."""
        for where, segment, _, _ in table:
            if where == MINE:
                if self._imports is not None:
                    self._imports.decline(segment)
                else:
                    self._loan_ended(segment, True)
            elif where == YOURS:
                self._own.returned(segment)

    # -- giving a loan back as a result -------------------------------------------

    def hand_over(
        self, pickled: bytes, buffers: list[memoryview]
    ) -> Callable[[], tuple[int, int, list[Part]]] | None:
        """Prepare a payload whose buffers lie in segments of the peer's.

        Args:
            pickled: the pickle.
            buffers: its out-of-band buffers; emptied, where they are taken over.

        Returns:
            None unless all of them lie there.  Else a function like `lay_out`, to
            be called when the caller has let go of every object that it knows of:
            a loan that has thereby ended goes back as it is, and what somebody
            else still sees is copied.
        """
        imports = self._imports
        if imports is None or not buffers or len(pickled) >= layout.THRESHOLD:
            return None
        found = [(imports.find(buffer), buffer.nbytes) for buffer in buffers]
        placed = [(where[0], where[1], size) for where, size in found if where is not None]
        if len(placed) < len(buffers) or len({id(loan) for loan, _, _ in placed}) < len(placed):
            return None
        if any(loan.spent or size * LEAST_PART < loan.loan.size for loan, _, size in placed):
            return None  # a forked process sees it; or the peer would keep much memory for little
        for loan, _, _ in placed:
            loan.begin_hand_over()
        buffers.clear()

        def finish() -> tuple[int, int, list[Part]]:
            seen = [loan.end_hand_over() for loan, _, _ in placed]
            if all(view is None for view in seen):
                for loan, _, _ in placed:
                    imports.forget(loan)
                table = [(YOURS, b.loan.segment, b.loan.offset + offset, size) for b, offset, size in placed]
                return LENT, *lay_out_table([(HERE, 0, 0, len(pickled)), *table], [pickled])
            # Each view holds its loan until it was copied.
            views = [
                imports.borrow(*b.loan) if v is None else v for v, (b, _, _) in zip(seen, placed, strict=True)
            ]
            return self.lay_out(
                pickled, [v[at : at + size] for v, (_, at, size) in zip(views, placed, strict=True)]
            )

        return finish

    def close(self) -> None:
        """The peer is gone: let go of everything that nothing lies on."""
        self._before.clear()
        while self.descriptors:
            os.close(self.descriptors.popleft())
        if self._imports is not None:
            self._imports.close()
        if self._pool is not None:
            self._pool.close()


_warned = False


def _warn_of_refusal(error: BaseException) -> None:
    """Say once that large payloads are slow."""
    global _warned
    if _warned:
        return
    _warned = True
    warn(
        f"no shared memory for large arguments and results ({error}); they go by the socket, slowly",
        RuntimeWarning,
        stacklevel=2,
    )
