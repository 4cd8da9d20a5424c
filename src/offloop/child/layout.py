"""How a message with large parts is laid out.

What is large is pickled apart, and a table says where each part lies.  Both
ends of a conversation use this; `child.exchange` has the segments.
"""

from __future__ import annotations

import os
from _pickle import PickleBuffer
from collections.abc import Sequence
from itertools import islice
from struct import Struct

from offloop.child.lowlevel import MSG_NOSIGNAL, sockets, with_descriptors
from offloop.shm import FRESH
from offloop.wire.frames import ProtocolError

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

#: Buffers and pickles from this size on, in bytes, go by segment.  Measured: see docs/design.md.
THRESHOLD = 48 << 10
#: Parts up to this size, in bytes, are copied into one message; larger ones go out as they are.
JOIN = 1 << 14
#: A copy of up to so many bytes takes no longer than one more message would.
QUICK = 1 << 18
#: Larger bytes the parent copies in slices, so that its event loop has its turns.
LONG = 1 << 21

#: What pickle copies, unless it is marked.
BYTES = frozenset({bytes, bytearray})
#: What may hold such an argument once more, and how many parts are looked at, at some 20 ns each.
CONTAINERS, MOST_PARTS = frozenset({list, tuple, dict}), 1000

#: Where a part lies: behind this table, in a segment of the sender's, or in one of the receiver's.
HERE, MINE, YOURS = range(3)
_ENTRY = Struct("<BxxxIQQ")
_COUNT = Struct("<I")


class Copy:
    """Bytes to be copied into a segment before what is written behind this may be sent."""

    __slots__ = ("source", "target")

    def __init__(self, target: memoryview, source: memoryview) -> None:
        self.target = target
        self.source = source

    def advance(self, size: int) -> bool:
        """Copy up to ``size`` bytes; False once all is copied."""
        self.target[:size] = self.source[:size]
        self.target, self.source = self.target[size:], self.source[size:]
        return bool(self.source)


class WithDescriptor:
    """A frame that a descriptor, which it owns, travels with."""

    __slots__ = ("data", "fd")

    def __init__(self, data: bytes, fd: int) -> None:
        self.data = data
        self.fd = fd

    def send(self, sock: sockets.socket) -> None:
        """Send both on a blocking socket, and close the descriptor."""
        sock.sendmsg([self.data], with_descriptors([self.fd]), MSG_NOSIGNAL)
        self.close()

    def close(self) -> None:
        """Close the descriptor: it was sent, or never will be."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


Part = bytes | memoryview | Copy | WithDescriptor


class _Shared:
    """Bytes whose memory is to go out of band, which pickle does for arrays but not for them."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        kind, buffer = type(self._data), PickleBuffer(self._data)
        if len(self._data) < FRESH:
            return kind, (buffer,)
        try:
            from offloop.shm.mapping import copied
        except (ImportError, OSError):  # a worker without descriptors
            return kind, (buffer,)
        return copied, (kind, buffer)


def shared(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values, large bytes among them marked to go out of band.

    But for those that another one, a container, holds as well: what is given twice is one object
    there, too, which of marked ones only those are that are given by themselves.

    Args:
        values: a task's arguments.
    """
    types = {*map(type, values)}
    if bytes not in types and bytearray not in types:
        return values
    large = {id(value): value for value in values if type(value) in BYTES and len(value) >= THRESHOLD}
    if large and not types <= BYTES:
        _leave_out_held(values, large)
    if not large:
        return values
    marked = {key: _Shared(value) for key, value in large.items()}
    return tuple(marked.get(id(value), value) for value in values)


def shared_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same for positional and for keyword arguments."""
    values = shared((*args, *kwargs.values()))
    return values[: len(args)], dict(zip(kwargs, values[len(args) :], strict=True))


def _leave_out_held(values: Sequence[Any], large: dict[int, Any]) -> None:
    """Leave out what a container, or one within it, has, as far as `MOST_PARTS` parts tell."""
    left = MOST_PARTS
    containers = [value for value in values if type(value) in CONTAINERS]
    while containers and left > 0:
        container = containers.pop()
        parts = [*islice(container.values() if hasattr(container, "values") else container, left)]
        left -= len(parts)
        kinds = {*map(type, parts)}
        if not kinds.isdisjoint(BYTES):
            for held in large.keys() & {*map(id, parts)}:
                del large[held]
        if not kinds.isdisjoint(CONTAINERS):
            containers.extend(part for part in parts if type(part) in CONTAINERS)


class LargeBuffers(list[memoryview]):
    """The buffers of at least `THRESHOLD` bytes that were left out of a pickle, in order."""

    __slots__ = ()

    def take(self, buffer: PickleBuffer) -> bool:
        """A ``buffer_callback``: leave this buffer out if it is large."""
        raw = buffer.raw()
        if raw.nbytes < THRESHOLD:
            return True
        self.append(raw)
        return False


def lay_out_table(
    table: list[tuple[int, int, int, int]], here: Sequence[bytes | memoryview]
) -> tuple[int, list[Part]]:
    """A payload of a table and the parts that lie behind it: its size and its pieces."""
    head = _COUNT.pack(len(table)) + b"".join(_ENTRY.pack(*entry) for entry in table)
    return len(head) + sum(len(part) for part in here), [head, *here]


def unpack_table(view: memoryview) -> tuple[list[tuple[int, int, int, int]], int]:
    """Where each part lies, and where the table ends.

    Raises:
        ProtocolError: it is cut short, or has no parts.
    """
    if len(view) < _COUNT.size:
        raise ProtocolError("a payload of segments without a table")
    (count,) = _COUNT.unpack_from(view)
    end = _COUNT.size + count * _ENTRY.size
    if count < 1 or end > len(view):
        raise ProtocolError("a payload of segments with a bad table")
    return [_ENTRY.unpack_from(view, _COUNT.size + at * _ENTRY.size) for at in range(count)], end
