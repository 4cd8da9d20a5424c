"""The exchange: payloads that go by segment arrive whole, and every loan ends exactly once."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from offloop.child import exchange as module
from offloop.child.exchange import (
    THRESHOLD,
    Copy,
    Exchange,
    Part,
    WithDescriptor,
    shared,
    shared_values,
    unpack_table,
)
from offloop.contexts import lending as lending_module, outbox as outbox_module
from offloop.contexts.lending import Lending
from offloop.contexts.outbox import Outbox
from offloop.shm import segments
from offloop.wire.frames import (
    BUFFERS,
    CALL_ARGS,
    HEADER,
    LENT,
    LOANS,
    MAGIC,
    RESULT,
    SEGMENT,
    UNSEGMENT,
    FrameDecoder,
    ProtocolError,
    Record,
    frame,
    split_buffers,
)

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

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
                self.peer.exchange.receive_descriptors(os.dup(part.fd).to_bytes(4, "little"))
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


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """While its item is an errno, there is no shared memory; every such process warns anew."""
    create, number = os.memfd_create, [errno.EMFILE]

    def memfd_create(*args: Any) -> int:
        if number[0]:
            raise OSError(number[0], os.strerror(number[0]))
        return create(*args)

    monkeypatch.setattr(module, "_warned", False)
    monkeypatch.setattr(os, "memfd_create", memfd_create)
    yield number


def pickled(obj: Any) -> tuple[bytes, list[memoryview]]:
    buffers: list[memoryview] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes >= THRESHOLD:
            buffers.append(raw)
        return raw.nbytes < THRESHOLD

    return pickle.dumps(obj, 5, buffer_callback=take), buffers


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


# --- there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 3 * THRESHOLD])
@pytest.mark.parametrize("wrap", [np.array, bytes, bytearray, pickle.PickleBuffer], ids=str)
def test_whatever_its_size_a_payload_arrives_whole(
    ends: tuple[End, End], size: int, wrap: Callable[[Any], Any]
) -> None:
    parent, worker = ends
    sent = wrap(array(size))
    assert bytes(worker.load(parent.send_object(sent))) == bytes(array(size))


@pytest.mark.parametrize(("size", "flag"), [(THRESHOLD - 1, 0), (THRESHOLD, LENT), (THRESHOLD + 1, LENT)])
def test_pickles_from_the_threshold_on_go_by_segment(ends: tuple[End, End], size: int, flag: int) -> None:
    parent, _ = ends
    flags, written, parts = parent.exchange.lay_out(bytes(size), [])
    assert flags == flag
    assert written == sum(map(len, parts))  # type: ignore[arg-type]
    assert (written < 100) is bool(flag)


def test_what_arrives_is_writable_and_the_receivers_own(ends: tuple[End, End]) -> None:
    parent, worker = ends
    sent = array()
    got = worker.load(parent.send_object(sent))
    got[:] = 7
    assert (sent == array()).all()
    sent[:] = 9
    assert (got == 7).all()


def test_a_read_only_array_arrives_read_only(ends: tuple[End, End]) -> None:
    parent, worker = ends
    sent = array()
    sent.flags.writeable = False
    got = worker.load(parent.send_object(sent))
    assert (got == sent).all()
    assert not got.flags.writeable


def test_a_large_pickle_and_many_buffers_share_one_segment(ends: tuple[End, End]) -> None:
    parent, worker = ends
    sent = ["x" * THRESHOLD, *(array(THRESHOLD + n, n) for n in range(20)), array(10)]
    got = worker.load(parent.send_object(sent))
    assert got[0] == sent[0]
    assert all((a == b).all() for a, b in zip(got[1:], sent[1:], strict=True))
    assert worker.kinds == [SEGMENT]


def test_a_segment_is_announced_once_and_used_again(ends: tuple[End, End]) -> None:
    parent, worker = ends
    for start in range(5):
        got = worker.load(parent.send_object(array(start=start)))
        assert (got == array(start=start)).all()
        del got
        worker.settle()
    assert worker.kinds == [SEGMENT]
    assert parent.kinds == [LOANS] * 5


def test_a_segment_is_not_used_again_before_its_loans_were_returned(ends: tuple[End, End]) -> None:
    parent, worker = ends
    first = worker.load(parent.send_object(array(start=1)))
    second = worker.load(parent.send_object(array(start=2)))
    assert worker.kinds == [SEGMENT] * 2
    assert (first == array(start=1)).all()
    assert (second == array(start=2)).all()


def test_the_end_of_a_loan_wakes_whoever_is_to_say_so(ends: tuple[End, End]) -> None:
    parent, worker = ends
    got = worker.load(parent.send_object(array()))
    assert not worker.wakes
    del got
    assert worker.wakes == 1
    assert worker.exchange.has_news
    worker.settle()
    assert not worker.exchange.has_news
    assert lent_segments(parent) == 0


def test_a_copy_in_slices_is_a_copy() -> None:
    source, target = array(1000).tobytes(), bytearray(1000)
    copy, turns = Copy(memoryview(target), memoryview(source)), 1
    while copy.advance(300):
        turns += 1
    assert (bytes(target), turns) == (source, 4)


def test_large_bytes_among_arguments_are_marked_and_come_out_as_they_were(ends: tuple[End, End]) -> None:
    parent, worker = ends
    args = (bytes(array()), bytearray(array()), b"small", [1])
    marked = shared(args)
    assert marked[2:] == args[2:]
    data, buffers = pickled(marked)
    assert len(data) < THRESHOLD
    assert len(buffers) == 2
    assert worker.load(parent.send_object(marked)) == args


def test_large_bytes_among_keywords_are_marked_too(ends: tuple[End, End]) -> None:
    parent, worker = ends
    given = {"a": bytes(array()), "b": 1}
    assert len(pickled(shared_values(given))[1]) == 1
    assert worker.load(parent.send_object(shared_values(given))) == given


# --- and back --------------------------------------------------------------------------------------


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


def test_an_argument_that_comes_back_is_not_copied(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array())
    arguments[0][0] = 99
    laid_out, _ = give_back(worker, arguments.pop())
    got = parent.load(worker.send(laid_out))
    assert got[0] == 99
    assert held(worker) == 0
    assert parent.exchange._pool is not None
    memory = parent.exchange._pool.view(1)
    assert address(got) == ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_memory_that_came_back_is_not_written_while_the_result_lives(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array(start=1))
    got = parent.load(worker.send(give_back(worker, arguments.pop())[0]))
    other = borrow(parent, worker, array(start=2))
    assert (got == array(start=1)).all()
    del got, other
    worker.settle()
    assert lent_segments(parent) == 0


def test_a_view_of_an_argument_comes_back_without_a_copy(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array(4 * THRESHOLD))
    laid_out, _ = give_back(worker, arguments.pop()[THRESHOLD : 3 * THRESHOLD])
    got = parent.load(worker.send(laid_out))
    assert held(worker) == 0
    assert (got == array(4 * THRESHOLD)[THRESHOLD : 3 * THRESHOLD]).all()
    del got
    assert lent_segments(parent) == 0


def test_an_argument_that_is_kept_comes_back_as_a_copy(ends: tuple[End, End]) -> None:
    parent, worker = ends
    (argument,) = borrow(parent, worker, array())
    laid_out, _ = give_back(worker, argument, keep=True)
    got = parent.load(worker.send(laid_out))
    argument[:] = 1
    assert (got == array()).all()
    got[:] = 2
    assert (argument == 1).all()
    del argument
    worker.settle()
    assert lent_segments(parent) == 0


def test_of_two_arguments_one_is_kept_and_both_come_back_whole(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array(start=1), array(start=2))
    kept = arguments[1]
    data, buffers = pickled(arguments)
    finish = worker.exchange.hand_over(data, buffers)
    assert finish is not None
    arguments.clear()
    laid_out = finish()
    # Until the copy was made, the parent must not hear that any of this memory is free.
    assert not worker.exchange.has_news
    assert lent_segments(parent) == 1
    got = parent.load(worker.send(laid_out))
    del laid_out
    assert (got[0] == array(start=1)).all()
    assert (got[1] == array(start=2)).all()
    kept[:] = 0
    assert (got[1] == array(start=2)).all()
    del kept
    worker.settle()
    assert lent_segments(parent) == 0


def test_a_kept_argument_dropped_while_it_is_copied_is_returned_after_that(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array(start=1))
    laid_out, _ = give_back(worker, arguments[0], keep=True)
    arguments.clear()  # another thread, or a collection
    assert not worker.exchange.has_news
    got = parent.load(worker.send(laid_out))
    del laid_out
    assert worker.exchange.has_news
    assert (got == array(start=1)).all()


def test_results_that_are_partly_new_are_copied_at_once(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array())
    assert worker.exchange.hand_over(*pickled([arguments[0], array()])) is None


def test_two_views_of_one_argument_are_copied_at_once(ends: tuple[End, End]) -> None:
    parent, worker = ends
    (argument,) = borrow(parent, worker, array(4 * THRESHOLD))
    halves = [argument[: 2 * THRESHOLD], argument[2 * THRESHOLD :]]
    assert worker.exchange.hand_over(*pickled(halves)) is None
    got = parent.load(worker.send_object(halves))
    assert (np.concatenate(got) == argument).all()


def test_a_read_only_view_of_an_argument_is_copied(ends: tuple[End, End]) -> None:
    parent, worker = ends
    (argument,) = borrow(parent, worker, array())
    view = argument.view()
    view.flags.writeable = False
    assert worker.exchange.hand_over(*pickled(view)) is None


def test_an_argument_that_a_forked_process_sees_is_copied(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array())
    segments._before_fork()
    assert worker.exchange.hand_over(*pickled(arguments)) is None
    arguments.clear()
    worker.settle()
    assert lent_segments(parent) == 0
    parent.settle()
    assert held(parent) == 0


def test_an_argument_can_go_there_and_back_again_and_again(ends: tuple[End, End]) -> None:
    parent, worker = ends
    value = array()
    for turn in range(4):
        arguments = borrow(parent, worker, value)
        arguments[0][0] = turn
        value = parent.load(worker.send(give_back(worker, arguments.pop())[0]))
        assert value[0] == turn
    del value
    worker.settle()
    assert lent_segments(parent) == 0


# --- loans that nobody takes up --------------------------------------------------------------------


def test_a_task_that_is_never_loaded_gives_its_loans_back(ends: tuple[End, End]) -> None:
    parent, worker = ends
    record = parent.send_object([array(), array()], CALL_ARGS)
    assert lent_segments(parent) == 1
    assert worker.exchange.note(record)
    worker.settle()
    assert lent_segments(parent) == 0


def test_a_task_that_is_never_loaded_gives_back_what_was_handed_over(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array())
    record = worker.send(give_back(worker, arguments.pop())[0])
    assert parent.exchange.note(record)
    assert lent_segments(parent) == 0


def test_other_records_are_not_taken_in(ends: tuple[End, End]) -> None:
    parent, worker = ends
    assert not worker.exchange.note(parent.send_object([1], CALL_ARGS))


def test_a_payload_whose_segment_did_not_come_fails_and_its_segment_is_closed(ends: tuple[End, End]) -> None:
    parent, worker = ends
    laid_out = parent.exchange.lay_out(*pickled([array(), array()]))
    before = parent.exchange.take_before()
    lost = [frame(SEGMENT, b"\1" + bytes(7), ref=1, id=1 << 20) if isinstance(p, WithDescriptor) else p for p in before]
    assert parent.write(lost) == []
    del before
    record = parent.send(laid_out)
    with pytest.raises(OSError, match="shared memory could not be mapped"):
        worker.load(record)
    worker.settle()
    assert (worker.load(parent.send_object(array())) == array()).all()
    assert worker.kinds == [SEGMENT, UNSEGMENT, SEGMENT]


def test_a_lost_descriptor_costs_only_its_own_segment(ends: tuple[End, End]) -> None:
    parent, worker = ends
    both = [parent.exchange.lay_out(*pickled(array(start=n))) for n in (1, 2)]
    for part in parent.exchange.take_before():
        if isinstance(part, WithDescriptor) and not worker.kinds:
            part.close()
            assert parent.write([part.data]) == []
        else:
            assert parent.write([part]) == []
    lost, good = (parent.send(laid_out) for laid_out in both)
    with pytest.raises(OSError, match="could not be mapped"):
        worker.load(lost)
    assert (worker.load(good) == array(start=2)).all()


@pytest.mark.parametrize("payload", [b"", b"\1\0\0", b"\0\0\0\0", b"\2\0\0\0" + bytes(24)])
def test_a_table_that_is_cut_short_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_table(memoryview(payload))


# --- no shared memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS, errno.ENOMEM])
def test_without_shared_memory_payloads_go_in_band_with_one_warning(
    ends: tuple[End, End], refused: list[Any], number: int
) -> None:
    parent, worker = ends
    refused[0] = number
    with pytest.warns(RuntimeWarning, match="slowly") as caught:
        got = [worker.load(parent.send_object(array(start=n))) for n in range(3)]
        back = parent.load(worker.send_object(got))
    assert len(caught) == 1
    assert all((value == array(start=n)).all() for n, value in enumerate(back))
    assert all(value.flags.writeable for value in back)
    assert worker.kinds == parent.kinds == []


def test_shared_memory_is_used_as_soon_as_there_is_some_again(ends: tuple[End, End], refused: list[Any]) -> None:
    parent, worker = ends
    with pytest.warns(RuntimeWarning):
        parent.send_object(array())
    refused[0] = 0
    assert (worker.load(parent.send_object(array())) == array()).all()
    assert worker.kinds == [SEGMENT]


def test_a_refusal_loses_nothing_that_was_to_be_said(
    ends: tuple[End, End], refused: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, worker = ends
    refused[0] = 0
    assert worker.load(parent.send_object(array())) is not None
    worker.settle()
    refused[0] = errno.EMFILE
    monkeypatch.setattr(segments, "IDLE", -1.0)
    with pytest.warns(RuntimeWarning):
        parent.send_object(array())
    assert worker.kinds == [SEGMENT, UNSEGMENT]


def test_a_kept_argument_comes_back_whole_without_shared_memory(
    ends: tuple[End, End], refused: list[Any]
) -> None:
    parent, worker = ends
    refused[0] = 0
    (argument,) = borrow(parent, worker, array())
    refused[0] = errno.EMFILE
    with pytest.warns(RuntimeWarning):
        laid_out, _ = give_back(worker, argument, keep=True)
    del argument
    assert not worker.exchange.has_news
    assert (parent.load(worker.send(laid_out)) == array()).all()


# --- closing ---------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_stays_open_whatever_was_not_asked_for(ends: tuple[End, End]) -> None:
    parent, worker = ends
    before = descriptors()
    parent.exchange.lay_out(*pickled(array()))  # never written
    worker.exchange.receive_descriptors(os.dup(0).to_bytes(4, "little"))  # never claimed
    assert descriptors() == before + 2
    parent.exchange.take_before()
    worker.exchange.close()
    assert descriptors() == before


def test_what_was_received_outlives_both_ends(ends: tuple[End, End]) -> None:
    parent, worker = ends
    there = borrow(parent, worker, array(start=1))[0]
    back = parent.load(worker.send(give_back(worker, borrow(parent, worker, array(start=2)).pop())[0]))
    parent.exchange.close()
    worker.exchange.close()
    gc.collect()
    assert (there == array(start=1)).all()
    assert (back == array(start=2)).all()
    there[:] = back


def test_a_nudge_has_the_peer_close_what_it_does_not_use(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, worker = ends
    parent.load(worker.send_object(array()))
    parent.settle()
    worker.settle()
    assert held(worker) > 0
    monkeypatch.setattr(segments, "IDLE", -1.0)
    assert parent.write(parent.exchange.settle(nudge=True)) == []
    assert worker.exchange.has_news
    worker.settle()
    assert held(worker) == 0
    assert parent.kinds[-1] == UNSEGMENT


# --- the parent's event loop -----------------------------------------------------------------------


class Pipe:
    """An outbox, and whatever came out of it."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.outbox = Outbox(asyncio.get_running_loop(), self.near)

    async def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += await asyncio.get_running_loop().sock_recv(self.far, 1 << 16)
        return got

    def close(self) -> None:
        self.outbox.close()
        self.near.close()
        self.far.close()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice of 1,000 bytes uses the budget up."""
    monkeypatch.setattr(outbox_module, "BUDGET", -1.0)
    monkeypatch.setattr(outbox_module, "SLICE", 1000)


async def count_turns(done: Callable[[], bool]) -> int:
    """How many turns the event loop has until something is done."""
    turns = 0
    while not done():
        await asyncio.sleep(0)
        turns += 1
    return turns


@pytest.mark.usefixtures("small_slices")
async def test_other_callbacks_run_between_the_slices_of_a_copy() -> None:
    pipe = Pipe()
    source, target = bytes(range(250)) * 80, bytearray(20_000)
    pipe.outbox.write([Copy(memoryview(target), memoryview(source)), b"behind"])
    turns = await count_turns(lambda: bytes(target) == source)
    assert 18 <= turns <= 21
    assert await pipe.read(6) == b"behind"
    pipe.close()


@pytest.mark.usefixtures("small_slices")
async def test_a_frame_never_overtakes_the_copies_before_it() -> None:
    pipe = Pipe()
    sources = [bytes([number]) * 5_000 for number in b"123"]
    targets = [bytearray(5_000) for _ in sources]
    for source, target in zip(sources, targets, strict=True):
        pipe.outbox.write([Copy(memoryview(target), memoryview(source)), source[:1]])
    for number, source in enumerate(sources):
        assert await pipe.read(1) == source[:1]
        assert targets[: number + 1] == sources[: number + 1]
    pipe.close()


@pytest.mark.usefixtures("small_slices")
async def test_closing_during_a_copy_lets_go_of_everything() -> None:
    pipe = Pipe()
    before = descriptors()
    source, target = bytearray(50_000), bytearray(50_000)
    pipe.outbox.write(
        [Copy(memoryview(target), memoryview(source)), WithDescriptor(b"x", os.dup(0)), b"never sent"]
    )
    await asyncio.sleep(0)
    pipe.outbox.close()
    await asyncio.sleep(0)
    source.clear()  # which is refused while anything holds its memory
    target.clear()
    assert descriptors() == before
    pipe.close()


async def test_a_lot_to_write_goes_on_when_the_socket_takes_more() -> None:
    pipe = Pipe()
    target = bytearray(10)
    large = bytes(range(256)) * 8_000
    pipe.outbox.write([large, Copy(memoryview(target), memoryview(b"0123456789")), b"end"])
    assert bytes(target) == bytes(10), "the copy waits for its turn"
    assert await pipe.read(len(large) + 3) == large + b"end"
    assert bytes(target) == b"0123456789"
    pipe.close()


def lending(written: list[Part], monkeypatch: pytest.MonkeyPatch) -> tuple[Lending, list[Any]]:
    """A parent's share, and the timers that it sets: to be called by hand."""
    timers: list[Any] = []
    loop = asyncio.get_running_loop()

    def call_later(delay: float, callback: Callable[[], object], *args: Any) -> asyncio.TimerHandle:
        assert delay == lending_module.TIDY_AFTER > segments.IDLE
        timers.append(callback)
        return asyncio.TimerHandle(0.0, callback, args, loop)

    monkeypatch.setattr(loop, "call_later", call_later)
    return Lending(loop, written.extend), timers


async def test_disuse_is_looked_for_after_the_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Part] = []
    share, timers = lending(written, monkeypatch)
    share.used()
    share.used()
    assert len(timers) == 1
    timers.pop()()
    assert written == [frame(LOANS)], "the worker is nudged"
    assert len(timers) == 1, "the second use was not long enough ago"
    timers.pop()()
    assert (len(written), timers) == (2, [])
    share.close()


async def test_disuse_is_looked_for_again_while_memory_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    share, timers = lending([], monkeypatch)
    share.exchange.lay_out(*pickled(array()))
    before = share.exchange.take_before()
    share.used()
    timers.pop()()
    assert len(timers) == 1
    del before
    share.close()


async def test_the_end_of_a_loan_is_told_at_once_and_followed_by_a_look(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, worker = ends
    written: list[Part] = []
    share, timers = lending(written, monkeypatch)
    worker.peer.exchange = share.exchange
    got = worker.peer.load(worker.send_object(array()))
    del got
    assert written == []
    await asyncio.sleep(0)
    assert [bytes(part)[:3] for part in written if isinstance(part, bytes)] == [frame(LOANS)[:3]]
    assert len(timers) == 1
    share.close()


def test_a_loan_that_ends_after_its_event_loop_is_no_error(ends: tuple[End, End]) -> None:
    _, worker = ends
    loop = asyncio.new_event_loop()
    share = Lending(loop, lambda parts: None)
    worker.peer.exchange = share.exchange
    got = worker.peer.load(worker.send_object(array()))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del got
    share.close()
