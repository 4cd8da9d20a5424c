"""Frames: the one message format between a parent and its workers.

A frame is a fixed header and a payload of ``length`` bytes.  Bytes go in,
records come out; nothing here reads, writes or waits (the h11 shape).  A
record is a plain tuple, because a hundred thousand of them pass a second:
``(kind, flags, ref, id, start, end, payload)``.

==========  =====================================================================
field       meaning
==========  =====================================================================
magic       two fixed bytes: garbage on the descriptor is noticed at once
kind        one of the constants below
flags       how the payload is laid out (`BUFFERS`), or what a kind says of it
ref         a function's number in the worker's table, or 0
id          the task's number
length      payload bytes; checked against the limit before anything is allocated
start, end  in results, monotonic seconds: when the task started and ended; in
            tasks, ``start`` is the number of the attempt, and ``end`` how many seconds
            it is expected to take; in an `ITEM`, its index in the stream, and its
            size in bytes where that is not the payload's
==========  =====================================================================
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from struct import Struct

from offloop.wire import cpickle

#: ``(kind, flags, ref, id, start, end, payload)``
Record = tuple[int, int, int, int, float, float, "bytes | memoryview"]

HEADER = Struct("<HBBIQQdd")
HEADER_SIZE = HEADER.size
MAGIC = 0x0FF1
_LENGTHS = Struct("<I")

# parent to worker, on the data socket
SETUP = 1  #: environment, bootstrap and options; the first frame
CALL = 2  #: run the function ``ref`` with the pickled ``(args, kwargs)``
CALL_ARGS = 8  #: the same, where there are no keywords: the payload is ``args`` alone
RUN = 3  #: run a pickled task
DEFINE = 4  #: a function or class that later frames refer to by ``ref``
FORGET = 5  #: drop ``ref`` from the table
PATH = 6  #: the parent's ``sys.path`` changed
STOP = 7  #: finish what was sent before this, then exit
CONTEXT = 9  #: the context variables of the tasks behind this one, until the next such frame
VERBOSITY = 10  #: levels of loggers and filters of warnings changed in the parent

#: The kinds that are tasks; each task has its place in their order.
TASKS = frozenset({CALL, CALL_ARGS, RUN})

# parent to worker, on the control socket
CANCEL = 16  #: cancel these tasks: drop what has not started, interrupt what runs
RECALL = 17  #: give back these tasks, where not started; both name tasks by (place, id)
REPORTED = 18  #: what task ``id`` reported has been taken in; it may send more
CREDIT = 19  #: so many more items and bytes of the stream ``id`` may come

# worker to parent, on the data socket
READY = 32  #: set up; the worker takes tasks
REFUSED = 33  #: could not be set up; the payload is a failure
RESULT = 34  #: the pickled result of task ``id``
FAILED = 35  #: the failure of task ``id``
CANCELLED = 36  #: task ``id`` ended because it was cancelled while running
UNLOADABLE = 38  #: task ``id`` could not be loaded; the payload is a failure
BYE = 37  #: the last frame of a worker that ends in good order
RETIRE = 39  #: the worker keeps too much memory: bytes it keeps, bytes it had before its first task
MODULES = 40  #: names of modules that the worker imported and others may need, with spaces between
ITEM = 41  #: an item of the stream ``id``, pickled as a result is

# worker to parent, on the control socket
RETURNED = 48  #: the tasks whose ids are in the payload will not run here
REPORT = 49  #: how far task ``id`` has come: a pickled list of reports
OPENED = 50  #: task ``id`` uses its channel: it may be sent messages
LOG = 52  #: a pickled log record, as a dictionary of its fields
WARNING = 53  #: a pickled warning that is to be shown

# parent to template
SPAWN = 64  #: fork a worker; ``id`` names the request, descriptors come along
PRELOAD = 68  #: import these modules (names with spaces between), for the workers to come
KILL = 69  #: kill the worker with process id ``ref``, which the parent may not signal

# template to parent
SPAWNED = 65  #: ``ref`` is the process id of request ``id``; a pidfd may come along
NOT_SPAWNED = 66  #: request ``id`` failed with errno ``ref``
EXITED = 67  #: process ``ref`` ended with wait status ``id``; ``start`` is its peak RSS in bytes

# both ways, on the control socket
MESSAGE = 96  #: a pickled message to or from task ``id``
RECEIVED = 97  #: one message of task ``id``'s channel was received
STACK = 98  #: where task ``id`` is now: asked, and answered with a text

#: What is said about one running task beside its outcome.
LIVE = frozenset({REPORTED, CREDIT, REPORT, OPENED, MESSAGE, RECEIVED, STACK})

#: flag: the payload is a count, that many lengths, and, each aligned, the pickle and its buffers
BUFFERS = 1

#: flag: the payload is a table that says where the pickle and its buffers lie; see `child.layout`
LENT = 2

#: flag of a task: send what it yields item by item
STREAMED = 4

#: flag of a result beside `LENT`: it is `bytes` or, with a ``ref``, a `bytearray`, all in one buffer
RAW = 8

# both ways, on the data socket
SEGMENT = 80  #: a new segment ``ref`` of ``id`` bytes; its descriptor comes along
UNSEGMENT = 81  #: segment ``ref`` was closed
LOANS = 82  #: one loan of each of these segments, which are the receiver's, has ended

#: Buffers begin at multiples of this within a payload, in bytes: what lies on them may have to.
ALIGNMENT = 64
#: From this size on a payload gets memory of its own, filled without a second copy.
LARGE = 1 << 16
#: So many times what a frame lacks is asked for: those behind it will be as large.
AHEAD = 8


class ProtocolError(Exception):
    """The peer sent what is no frame, or one larger than the limit.

    Attributes:
        records: what came before it in the same bytes.
    """

    def __init__(self, text: str, records: Sequence[Record] = ()) -> None:
        super().__init__(text)
        self.records = list(records)


def frame(
    kind: int,
    payload: bytes | memoryview = b"",
    *,
    id: int = 0,
    ref: int = 0,
    flags: int = 0,
    start: float = 0.0,
    end: float = 0.0,
) -> bytes:
    """One whole frame as bytes (copies the payload: for small ones)."""
    return HEADER.pack(MAGIC, kind, flags, ref, id, len(payload), start, end) + payload


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Numbers (task ids, places in a worker's order) as a payload."""
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def unpack_numbers(payload: bytes | memoryview) -> list[int]:
    """The numbers of a payload made by `pack_numbers`.

    Raises:
        ProtocolError: the payload is no row of numbers.
    """
    if len(payload) % 8:
        raise ProtocolError("a payload of numbers that is cut short")
    return [int.from_bytes(payload[at : at + 8], "little") for at in range(0, len(payload), 8)]


def layout_buffers(pickled: bytes, buffers: Sequence[memoryview]) -> list[bytes | memoryview]:
    """The parts of a `BUFFERS` payload, to be written one after the other without copying."""
    sizes = [len(pickled), *(buffer.nbytes for buffer in buffers)]
    head = _LENGTHS.pack(len(sizes)) + b"".join(size.to_bytes(8, "little") for size in sizes)
    end = len(head)
    parts: list[bytes | memoryview] = [pickled, *buffers]
    laid_out: list[bytes | memoryview] = [head]
    for part, size in zip(parts, sizes, strict=True):
        gap = -end % ALIGNMENT
        laid_out.append(bytes(gap))
        laid_out.append(part)
        end += gap + size
    return laid_out


def split_buffers(payload: bytes | memoryview) -> tuple[memoryview, list[memoryview]]:
    """The pickle and the out-of-band buffers of a `BUFFERS` payload, as views of it, or of a copy of bytes.

    So what lies on them can be written to.

    Raises:
        ProtocolError: the lengths do not add up.
    """
    view = memoryview(bytearray(payload) if isinstance(payload, bytes) else payload)
    if len(view) < _LENGTHS.size:
        raise ProtocolError("a payload of buffers without a count")
    (count,) = _LENGTHS.unpack_from(view)
    position = _LENGTHS.size + 8 * count
    if count < 1 or position > len(view):
        raise ProtocolError("a payload of buffers with a bad count")
    parts: list[memoryview] = []
    for index in range(count):
        at = _LENGTHS.size + 8 * index
        size = int.from_bytes(view[at : at + 8], "little")
        position += -position % ALIGNMENT
        parts.append(view[position : position + size])
        position += size
    if position != len(view):
        raise ProtocolError("a payload of buffers whose lengths do not add up")
    return parts[0], parts[1:]


class NoRoom:
    """What stands, pickled, in place of a payload that there was no room for: to load it is an error.

    So whoever was to get the payload is told, and the conversation goes on.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return _refuse, (self._length,)


def _refuse(length: int) -> None:
    raise MemoryError(f"there was no room for its {length} bytes")


class FrameDecoder:
    """Turns a stream of bytes into records.

    Feed it what was received; or, while `wanted` is not None, receive straight
    into that view and say how much with `filled`: a large payload then lands
    where it stays.  Where no memory is to be had for one, `NoRoom` takes its place.

    Args:
        limit: the largest payload accepted, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: bytes = b""
        self._head: tuple[int, int, int, int, float, float] | None = None
        self._body = memoryview(b"")
        self._got = 0
        self._lost = 0  # bytes still to come of a payload that there is no room for
        #: How many bytes it was given.
        self.taken = 0
        self._missing = 0  # bytes of the frame whose first ones have come, unless it is a large one

    @property
    def wanted(self) -> memoryview | None:
        """Where the next bytes belong, while a large payload is under way."""
        return self._body[self._got :] if self._head is not None and not self._lost else None

    @property
    def mid_frame(self) -> bool:
        """Whether part of a frame has come and the rest has not."""
        return bool(self._rest) or self._head is not None

    def ask(self, usual: int) -> int:
        """How many bytes to receive: the usual number, or what a frame lacks and some that follow."""
        return min(max(usual, AHEAD * self._missing), LARGE)

    def filled(self, count: int) -> list[Record]:
        """Note that ``count`` bytes were received into `wanted`; returns what that completed."""
        self.taken += count
        self._got += count
        if self._head is None or self._got < len(self._body):
            return []
        record = (*self._head, self._body)
        self._head, self._body, self._got = None, memoryview(b""), 0
        return [record]

    def feed(self, data: bytes) -> list[Record]:
        """Take received bytes; returns the records that they complete.

        Raises:
            ProtocolError: bad magic, or a length above the limit; each time from then on.
        """
        if self._head is not None:
            return self._feed_large(data)
        self.taken += len(data)
        if self._rest:
            data = self._rest + data
        self._missing = 0
        records: list[Record] = []
        append = records.append
        unpack = HEADER.unpack_from
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            magic, kind, flags, ref, id, length, start, stop = unpack(data, position)
            if magic != MAGIC or length > self._limit:
                self._rest = data[position : position + HEADER_SIZE]  # so that nothing behind it is believed
                raise ProtocolError(f"bad frame: magic {magic:#x}, length {length}", records)
            if not length:  # as for what returns None: such frames come in a row, which takes half the time
                whole = (end - position) // HEADER_SIZE * HEADER_SIZE
                for head in HEADER.iter_unpack(memoryview(data)[position : position + whole]):
                    magic, kind, flags, ref, id, length, start, stop = head
                    if length or magic != MAGIC:
                        break
                    append((kind, flags, ref, id, start, stop, b""))
                    position += HEADER_SIZE
                continue
            body = position + HEADER_SIZE
            position = body + length
            if position > end:
                if length >= LARGE:
                    self._begin_large((kind, flags, ref, id, start, stop), length, data[body:])
                    position = end
                else:
                    self._missing = position - end
                    position = body - HEADER_SIZE
                break
            append((kind, flags, ref, id, start, stop, data[body:position]))
        self._rest = data[position:]
        return records

    def _begin_large(self, head: tuple[int, int, int, int, float, float], length: int, got: bytes) -> None:
        try:
            # An anonymous map commits its pages as they are written, so a large
            # claim by a peer that then sends nothing costs nothing.
            body = memoryview(mmap.mmap(-1, length))
        except (OSError, MemoryError):
            kind, flags, ref, id, start, end = head
            ref = 0 if kind in (RESULT, ITEM) else ref  # there it tells of the payload, as these flags do
            self._head = (kind, flags & ~(BUFFERS | LENT | RAW), ref, id, start, end)
            self._body = memoryview(cpickle.dumps(NoRoom(length)))
            self._got, self._lost = len(self._body), length - len(got)
            return
        self._head, self._body, self._got = head, body, len(got)
        body[: len(got)] = got

    def _feed_large(self, data: bytes) -> list[Record]:
        if self._lost:
            return self._feed_lost(data)
        wanted = self._body[self._got :]
        taken = min(len(wanted), len(data))
        wanted[:taken] = data[:taken]
        records = self.filled(taken)
        if taken < len(data):
            records += self.feed(data[taken:])
        return records

    def _feed_lost(self, data: bytes) -> list[Record]:
        taken = min(self._lost, len(data))
        self._lost -= taken
        self.taken += taken
        records = self.filled(0) if not self._lost else []
        return records + self.feed(data[taken:]) if taken < len(data) else records
