"""The frame decoder against a plain list of frames: cut anywhere, received either way, all come out."""

from __future__ import annotations

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from profiles import CHOSEN, lift_time_bound

from offloop.wire import frames
from offloop.wire.frames import (
    BUFFERS,
    HEADER_SIZE,
    LARGE,
    FrameDecoder,
    Record,
    frame,
    layout_buffers,
    split_buffers,
)

KINDS = st.sampled_from(
    [
        frames.SETUP,
        frames.CALL,
        frames.RUN,
        frames.DEFINE,
        frames.STOP,
        frames.RESULT,
        frames.FAILED,
        frames.BYE,
    ]
)
SIZES = st.one_of(
    st.integers(0, 3 * HEADER_SIZE),
    st.sampled_from([HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1, LARGE - 1, LARGE, LARGE + 1, 200_000]),
    st.integers(0, 200_000),
)
LIMIT = 1 << 20


class DecoderMachine(RuleBasedStateMachine):
    """Frames go in at one end of a stream and come out at the other."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = FrameDecoder(LIMIT)
        self.stream = bytearray()
        self.expected: list[tuple[int, ...]] = []
        self.payloads: list[bytes] = []
        self.sent_bytes = self.fed_bytes = self.last_end = 0
        self.ends: list[int] = []  # where each frame that has not come out ends in the stream
        self.number = 0

    def send(self, kind: int, payload: bytes, flags: int = 0) -> None:
        self.number += 1
        data = frame(kind, payload, id=self.number, ref=self.number % 7, flags=flags)
        self.stream += data
        self.sent_bytes += len(data)
        self.ends.append(self.sent_bytes)
        self.expected.append((kind, flags, self.number % 7, self.number))
        self.payloads.append(payload)

    def receive(self, records: list[Record], count: int) -> None:
        """Check what ``count`` more bytes completed: exactly the frames that end within them."""
        self.fed_bytes += count
        complete = sum(end <= self.fed_bytes for end in self.ends)
        assert len(records) == complete
        for record in records:
            assert record[:4] == self.expected.pop(0)
            payload = self.payloads.pop(0)
            assert record[6] == payload
            if record[1] & BUFFERS:
                pickled, buffers = split_buffers(record[6])
                assert b"".join(layout_buffers(bytes(pickled), buffers)) == payload
        if complete:
            self.last_end = self.ends[complete - 1]
            del self.ends[:complete]
        assert self.decoder.mid_frame == (self.fed_bytes > self.last_end)

    def take(self, count: int) -> bytes:
        data = bytes(self.stream[:count])
        del self.stream[:count]
        return data

    @rule(kind=KINDS, size=SIZES, fill=st.integers(0, 255))
    def send_frame(self, kind: int, size: int, fill: int) -> None:
        self.send(kind, bytes((fill + n) & 255 for n in range(min(size, 300))) + bytes([fill]) * (size - 300))

    @rule(sizes=st.lists(st.sampled_from([0, 1, 1000, 50_000, 70_000]), min_size=1, max_size=3))
    def send_buffers(self, sizes: list[int]) -> None:
        buffers = [memoryview(bytes([n]) * size) for n, size in enumerate(sizes)]
        self.send(frames.RESULT, b"".join(layout_buffers(b"pickle", buffers)), BUFFERS)

    @rule(count=st.integers(2, 30))
    def send_empty_ones(self, count: int) -> None:
        for _ in range(count):
            self.send(frames.CALL, b"")

    @precondition(lambda self: self.stream)
    @rule(count=st.one_of(st.integers(1, 2 * HEADER_SIZE), SIZES.filter(bool)))
    def feed(self, count: int) -> None:
        data = self.take(count)
        self.receive(self.decoder.feed(data), len(data))

    @precondition(lambda self: 0 < len(self.stream) <= 2000)
    @rule()
    def feed_byte_by_byte(self) -> None:
        while self.stream:
            self.receive(self.decoder.feed(self.take(1)), 1)

    @precondition(lambda self: self.stream and self.decoder.wanted is not None)
    @rule(count=SIZES.filter(bool))
    def fill(self, count: int) -> None:
        wanted = self.decoder.wanted
        assert wanted is not None
        data = self.take(min(count, len(wanted)))
        wanted[: len(data)] = data
        self.receive(self.decoder.filled(len(data)), len(data))

    def teardown(self) -> None:
        while self.stream:
            self.feed(1 << 16)
        assert not self.payloads, "every frame has come out"
        assert not self.decoder.mid_frame


class TestDecoderInEveryCut(DecoderMachine.TestCase):
    settings = settings(CHOSEN, stateful_step_count=30)

    def setUp(self) -> None:
        lift_time_bound()
