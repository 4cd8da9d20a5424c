"""Two exchanges in one process, and what passes between them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from offloop.child.exchange import Exchange
from offloop.child.layout import THRESHOLD, Copy, LargeBuffers, Part, WithDescriptor
from offloop.wire.frames import (
    BUFFERS,
    HEADER,
    LENT,
    LOANS,
    MAGIC,
    RESULT,
    SEGMENT,
    UNSEGMENT,
    FrameDecoder,
    Record,
    split_buffers,
)

LaidOut = tuple[int, int, list[Part]]


class End:
    """One end of a conversation, and what its peer would do with what it writes."""

    def __init__(self) -> None:
        self.wakes = 0
        self.exchange = Exchange(self._wake)
        self.frames = FrameDecoder(1 << 30)
        self.peer: End
        self.kinds: list[int] = []  # of the frames received that are about segments

    def _wake(self) -> None:
        self.wakes += 1

    def write(self, parts: Sequence[Part]) -> list[Record]:
        """Write parts in order; returns the records that the peer is left with."""
        left: list[Record] = []
        for part in parts:
            if isinstance(part, Copy):
                part.advance(len(part.source))
                continue
            if isinstance(part, WithDescriptor):
                self.peer.exchange.receive_descriptors([os.dup(part.fd)])
                part.close()
            data = part.data if isinstance(part, WithDescriptor) else bytes(part)
            for record in self.peer.frames.feed(data):
                if record[0] in (SEGMENT, UNSEGMENT, LOANS):
                    self.peer.kinds.append(record[0])
                    assert self.peer.exchange.note(record)
                else:
                    left.append(record)
        return left

    def send(self, laid_out: LaidOut, kind: int = RESULT) -> Record:
        """Write a payload that was laid out; returns its record, as the peer receives it."""
        flags, size, parts = laid_out
        head = HEADER.pack(MAGIC, kind, flags, 0, 1, size, 0.0, 0.0)
        (record,) = self.write([*self.exchange.take_before(), head, *parts])
        return record

    def send_object(self, obj: Any, kind: int = RESULT) -> Record:
        return self.send(self.exchange.lay_out(*pickled(obj)), kind)

    def load(self, record: Record) -> Any:
        _, flags, _, _, _, _, payload = record
        if flags & LENT:
            data, buffers = self.exchange.open(payload)
        elif flags & BUFFERS:
            data, buffers = split_buffers(payload)
        else:
            return pickle.loads(payload)
        return pickle.loads(data, buffers=buffers)

    def settle(self) -> None:
        """Say what there is to say."""
        assert self.write(self.exchange.settle()) == []


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    """A parent and a worker."""
    parent, worker = End(), End()
    parent.peer, worker.peer = worker, parent
    yield parent, worker
    parent.exchange.close()
    worker.exchange.close()


def pickled(obj: Any) -> tuple[bytes, list[memoryview]]:
    buffers = LargeBuffers()
    return pickle.dumps(obj, 5, buffer_callback=buffers.take), buffers


def array(size: int = THRESHOLD, start: int = 0) -> Any:
    """An array of that many bytes, no two neighbours equal."""
    return (np.arange(start, start + size) % 251).astype(np.uint8)


def address(value: Any) -> int:
    return int(value.__array_interface__["data"][0])


def held(end: End) -> int:
    return end.exchange.bytes_held


def lent_segments(end: End) -> int:
    """How many segments have loans out, as far as their owner knows."""
    pool = end.exchange._pool
    assert pool is not None
    pool.trim(0.0)
    return len(pool._segments) - len(pool._free)


def give_back(worker: End, value: Any, *, keep: bool = False) -> tuple[LaidOut, int]:
    """What a worker does with a result; with ``keep``, somebody else sees it all the time."""
    held_on_to = value if keep else None
    at = address(value[0] if isinstance(value, list) else value)
    data, buffers = pickled(value)
    finish = worker.exchange.hand_over(data, buffers)
    assert finish is not None
    del value
    laid_out = finish()
    del held_on_to
    return laid_out, at


def borrow(parent: End, worker: End, *sent: Any) -> list[Any]:
    """Arrays as a worker's arguments."""
    return list(worker.load(parent.send_object(list(sent))))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
