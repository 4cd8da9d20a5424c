"""Frames: what is refused, before anything is allocated for it, and the payloads' own layouts."""

from __future__ import annotations

import mmap
import pickle
import re
import tracemalloc
from errno import ENOMEM
from pathlib import Path
from struct import pack

import pytest
from hypothesis import example, given, strategies as st

from offloop.wire import frames
from offloop.wire.frames import (
    ALIGNMENT,
    BUFFERS,
    CALL,
    HEADER,
    HEADER_SIZE,
    LARGE,
    MAGIC,
    RESULT,
    STREAMED,
    FrameDecoder,
    ProtocolError,
    frame,
    layout_buffers,
    pack_numbers,
    split_buffers,
    unpack_numbers,
)

LIMIT = 1 << 20
NUMBERS = st.integers(0, (1 << 64) - 1)


def claim(length: int, magic: int = MAGIC) -> bytes:
    """The header of a frame that says it has so long a payload."""
    return HEADER.pack(magic, RESULT, 0, 0, 1, length, 0.0, 0.0)


class TestOneFrame:
    @given(
        kind=st.integers(0, 255),
        flags=st.integers(0, 255),
        ref=st.integers(0, (1 << 32) - 1),
        id=NUMBERS,
        start=st.floats(allow_nan=False),
        end=st.floats(allow_nan=False),
        payload=st.binary(max_size=100),
    )
    def test_every_field_comes_out_as_it_went_in(
        self, kind: int, flags: int, ref: int, id: int, start: float, end: float, payload: bytes
    ) -> None:
        data = frame(kind, payload, id=id, ref=ref, flags=flags, start=start, end=end)
        assert FrameDecoder(LIMIT).feed(data) == [(kind, flags, ref, id, start, end, payload)]

    @pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, LIMIT])
    def test_any_part_of_it_yields_nothing_and_says_that_more_must_come(self, size: int) -> None:
        data = frame(CALL, bytes(size))
        for cut in {1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + size // 2, len(data) - 1}:
            if cut < len(data):
                decoder = FrameDecoder(LIMIT)
                assert decoder.feed(data[:cut]) == []
                assert decoder.mid_frame
                (record,) = decoder.feed(data[cut:])
                assert record[6] == bytes(size)
                assert not decoder.mid_frame

    def test_nothing_fed_is_nothing_got(self) -> None:
        decoder = FrameDecoder(LIMIT)
        assert decoder.feed(b"") == []
        assert not decoder.mid_frame
        assert decoder.wanted is None


class TestHowMuchToAskFor:
    """What a frame lacks is asked for at once, and what comes behind it: they tend to be of one size."""

    def test_as_usual_between_frames_and_in_small_ones(self) -> None:
        decoder = FrameDecoder(LIMIT)
        assert decoder.ask(1000) == 1000
        data = frame(RESULT, bytes(60))
        decoder.feed(data + data[: HEADER_SIZE + 10])
        assert decoder.ask(1000) == 1000
        decoder.feed(data[HEADER_SIZE + 10 :])
        assert decoder.ask(1000) == 1000

    @given(size=st.integers(1, LARGE - 1), part=st.floats(0, 1, exclude_max=True))
    def test_for_a_frame_under_way_all_that_it_lacks_but_never_very_much(
        self, size: int, part: float
    ) -> None:
        decoder = FrameDecoder(LIMIT)
        come = int(size * part)
        assert decoder.feed(frame(RESULT, bytes(size))[: HEADER_SIZE + come]) == []
        assert max(1000, size - come) <= decoder.ask(1000) <= LARGE
        decoder.feed(bytes(size - come))
        assert decoder.ask(1000) == 1000

    def test_a_large_one_is_received_into_memory_of_its_own(self) -> None:
        decoder = FrameDecoder(LIMIT)
        decoder.feed(frame(RESULT, bytes(LARGE))[:HEADER_SIZE])
        assert decoder.wanted is not None
        assert decoder.ask(1000) == 1000


class TestGarbage:
    @pytest.mark.parametrize(
        "garbage", [bytes(HEADER_SIZE), b"\xff" * 100, b"Traceback (most recent call last):\n"]
    )
    def test_what_is_no_frame_is_refused(self, garbage: bytes) -> None:
        data = garbage.ljust(HEADER_SIZE, b"?")
        with pytest.raises(ProtocolError):
            FrameDecoder(LIMIT).feed(data)

    @given(st.binary(min_size=HEADER_SIZE, max_size=200))
    @example(claim(LIMIT + 1))
    @example(claim((1 << 64) - 1))
    def test_noise_is_refused_or_framed_but_breaks_nothing_else(self, noise: bytes) -> None:
        try:
            records = FrameDecoder(LIMIT).feed(noise)
        except ProtocolError:
            return
        assert noise.startswith(MAGIC.to_bytes(2, "little"))
        assert sum(HEADER_SIZE + len(record[6]) for record in records) <= len(noise)

    def test_garbage_behind_a_good_frame_is_noticed(self) -> None:
        decoder = FrameDecoder(LIMIT)
        with pytest.raises(ProtocolError):
            decoder.feed(frame(RESULT, b"good") + b"print output of some library, longer than a header")

    def test_garbage_behind_a_large_frame_is_noticed(self) -> None:
        decoder = FrameDecoder(LIMIT)
        data = frame(RESULT, bytes(LARGE))
        decoder.feed(data[:HEADER_SIZE])
        with pytest.raises(ProtocolError):
            decoder.feed(data[HEADER_SIZE:] + b"x" * HEADER_SIZE)

    @pytest.mark.parametrize("length", [LIMIT + 1, 1 << 40, (1 << 64) - 1])
    def test_a_length_above_the_limit_is_refused_before_anything_is_allocated(
        self, length: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mmap, "mmap", lambda *_: pytest.fail("memory was mapped"))
        data = claim(length)
        decoder = FrameDecoder(LIMIT)
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match=str(length)):
                decoder.feed(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100_000

    def test_the_longest_payload_allowed_is_accepted(self) -> None:
        decoder = FrameDecoder(LIMIT)
        assert decoder.feed(claim(LIMIT)) == []
        assert decoder.wanted is not None
        assert len(decoder.wanted) == LIMIT


class TestLargePayloads:
    def test_they_are_received_where_they_stay(self) -> None:
        decoder = FrameDecoder(LIMIT)
        assert decoder.feed(claim(LARGE)) == []
        target = decoder.wanted
        assert target is not None
        target[:] = b"x" * LARGE
        (record,) = decoder.filled(LARGE)
        payload = record[6]
        assert payload == b"x" * LARGE
        assert isinstance(payload, memoryview)
        target[0] = ord("y")
        assert payload[0] == ord("y"), "the same memory"
        assert decoder.wanted is None

    def test_the_next_payload_gets_other_memory(self) -> None:
        decoder = FrameDecoder(LIMIT)
        payloads = []
        for letter in (b"a", b"b"):
            data = frame(RESULT, letter * LARGE)
            decoder.feed(data[:HEADER_SIZE])
            payloads += [record[6] for record in decoder.feed(data[HEADER_SIZE:])]
        assert [bytes(payload[:1]) for payload in payloads] == [b"a", b"b"]


class TestNoRoom:
    """A payload that no memory is to be had for is passed over, and loading what stands for it says so."""

    @pytest.fixture(autouse=True)
    def no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: int) -> mmap.mmap:
            raise OSError(ENOMEM, "Cannot allocate memory")

        monkeypatch.setattr(mmap, "mmap", refuse)

    @pytest.mark.parametrize("size", [1, 1000, 1 << 30])
    def test_what_follows_comes_as_it_was_sent(self, size: int) -> None:
        lost = frame(CALL, bytes(LARGE), id=1, ref=7, flags=BUFFERS | STREAMED, end=2.0)
        data = lost + frame(CALL, b"small", id=2)
        # The second part begins within the payload: all at once, it would take no memory of its own.
        parts = [data[:100], *(data[at : at + size] for at in range(100, len(data), size))]
        decoder = FrameDecoder(LIMIT)
        records = []
        for part in parts:
            records += decoder.feed(part)
            assert decoder.wanted is None
        assert [record[:6] for record in records] == [
            (CALL, STREAMED, 7, 1, 0.0, 2.0),
            (CALL, 0, 0, 2, 0.0, 0.0),
        ]
        assert records[1][6] == b"small"
        assert decoder.taken == len(data)
        assert not decoder.mid_frame
        with pytest.raises(MemoryError, match=f"no room for its {LARGE} bytes"):
            pickle.loads(records[0][6])

    def test_until_it_has_passed_more_must_come(self) -> None:
        decoder = FrameDecoder(LIMIT)
        data = frame(RESULT, bytes(LARGE), ref=3)
        assert decoder.feed(data[:-1]) == []
        assert decoder.mid_frame
        (record,) = decoder.feed(data[-1:])
        assert record[2] == 0, "no name of a type stands behind it"


class TestNumbers:
    @given(st.lists(NUMBERS))
    def test_they_come_out_as_they_went_in(self, numbers: list[int]) -> None:
        assert unpack_numbers(pack_numbers(numbers)) == numbers
        assert unpack_numbers(memoryview(pack_numbers(numbers))) == numbers

    @given(st.binary(min_size=1, max_size=50).filter(lambda data: len(data) % 8))
    def test_a_payload_cut_short_is_refused(self, data: bytes) -> None:
        with pytest.raises(ProtocolError):
            unpack_numbers(data)


class TestBuffers:
    @given(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=5))
    def test_they_come_out_as_they_went_in(self, pickled: bytes, buffers: list[bytes]) -> None:
        payload = b"".join(layout_buffers(pickled, [memoryview(buffer) for buffer in buffers]))
        (record,) = FrameDecoder(LIMIT).feed(frame(RESULT, payload, flags=BUFFERS))
        found, parts = split_buffers(record[6])
        assert found == pickled
        assert [bytes(part) for part in parts] == buffers

    def test_they_are_laid_out_and_split_without_copying(self) -> None:
        buffer = bytearray(b"buffer")
        payload = bytearray().join(layout_buffers(b"pickle", [memoryview(buffer)]))
        assert layout_buffers(b"pickle", [memoryview(buffer)])[4].obj is buffer  # type: ignore[union-attr]
        pickled, (part,) = split_buffers(memoryview(payload))
        payload[-1:] = b"R"
        assert part == b"buffeR"
        assert pickled.obj is payload

    @given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
    def test_each_begins_where_an_array_may(self, buffers: list[bytes]) -> None:
        payload = b"".join(layout_buffers(b"pickle", [memoryview(buffer) for buffer in buffers]))
        received = memoryview(bytearray(payload))
        parts = split_buffers(received)[1]
        received[:] = bytes(len(received))
        for part in parts:
            part[:] = b"\1" * len(part)
        begun = [at for at in range(1, len(received)) if received[at] == 1 and received[at - 1] != 1]
        assert all(at % ALIGNMENT == 0 for at in begun)

    def test_what_lies_on_them_can_be_written_to_however_they_came(self) -> None:
        payload = b"".join(layout_buffers(b"pickle", [memoryview(b"buffer")]))
        for received in (payload, memoryview(bytearray(payload))):
            _, (part,) = split_buffers(received)
            part[:] = b"BUFFER"
            assert part == b"BUFFER"

    def test_each_single_lie_about_a_length_is_refused(self) -> None:
        payload = b"".join(layout_buffers(b"pickle", [memoryview(b"one"), memoryview(b"")]))
        split_buffers(payload)
        for lie in (ALIGNMENT, 1 << 32, 1 << 63):
            for field in range(3):
                bad = bytearray(payload)
                at = 4 + 8 * field
                size = int.from_bytes(bad[at : at + 8], "little") + lie
                bad[at : at + 8] = size.to_bytes(8, "little")
                with pytest.raises(ProtocolError):
                    split_buffers(bytes(bad))

    @pytest.mark.parametrize(
        "payload",
        [b"", b"\1\0\0", pack("<I", 0), pack("<I", 1), pack("<I", 0xFFFFFFFF) + bytes(64), pack("<IQ", 1, 1)],
        ids=["empty", "no count", "no pickle", "no length", "huge count", "cut short"],
    )
    def test_bad_counts_are_refused(self, payload: bytes) -> None:
        with pytest.raises(ProtocolError):
            split_buffers(payload)

    @given(st.binary(max_size=80))
    def test_noise_is_refused_or_split_within_its_bounds(self, noise: bytes) -> None:
        try:
            pickled, buffers = split_buffers(noise)
        except ProtocolError:
            return
        assert sum(map(len, layout_buffers(bytes(pickled), buffers))) == len(noise)

    @pytest.mark.parametrize("cut", range(30))
    def test_what_is_cut_short_is_refused(self, cut: int) -> None:
        payload = b"".join(layout_buffers(b"pickle", [memoryview(b"buffer")]))
        assert cut < len(payload)
        with pytest.raises(ProtocolError):
            split_buffers(payload[:cut])


def test_no_two_kinds_have_the_same_number() -> None:
    source = Path(frames.__file__).read_text()
    kinds = re.findall(r"^([A-Z]+(?:_[A-Z]+)?) = (\d+)  #: ", source, re.MULTILINE)
    numbers = [number for name, number in kinds if name not in ("BUFFERS", "LENT", "STREAMED", "LARGE")]
    assert len(numbers) > 25
    assert len(set(numbers)) == len(numbers)


def test_a_record_has_nothing_but_what_it_is_given() -> None:
    (record,) = FrameDecoder(LARGE).feed(frame(CALL))
    assert record[:6] == (CALL, 0, 0, 0, 0.0, 0.0)
    assert bytes(record[6]) == b""


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"\0" * 3, "without a count"),
        (b"\0" * 4, "a bad count"),
        (pack("<I", 2) + b"\0" * 15, "a bad count"),
        (pack("<IQ", 1, 2) + b"x", "do not add up"),
        (pack("<IQ", 1, 0) + b"x", "do not add up"),
    ],
)
def test_buffers_that_are_not_what_they_say_are_refused_with_the_reason(payload: bytes, problem: str) -> None:
    with pytest.raises(ProtocolError, match=f"^a payload of buffers .*{problem}$"):
        split_buffers(payload)


def test_numbers_that_are_cut_short_are_refused_with_the_reason() -> None:
    with pytest.raises(ProtocolError, match=r"^a payload of numbers that is cut short$"):
        unpack_numbers(b"1234567")
