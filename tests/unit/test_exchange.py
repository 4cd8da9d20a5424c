"""The exchange: payloads that go by segment arrive whole, and every loan ends exactly once."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exchange_ends import (
    End,
    array,
    borrow,
    descriptors,
    ends,
    give_back,
    held,
    lent_segments,
    pickled,
)

from offloop.child.layout import (
    THRESHOLD,
    Copy,
    WithDescriptor,
    shared,
    shared_call,
    unpack_table,
)
from offloop.shm import segments
from offloop.wire.frames import (
    CALL_ARGS,
    LENT,
    LOANS,
    SEGMENT,
    UNSEGMENT,
    ProtocolError,
    frame,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

__all__ = ["ends"]

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


def test_large_bytes_that_are_given_twice_are_one_object_there_too(ends: tuple[End, End]) -> None:
    parent, worker = ends
    data = bytes(array())
    marked = shared_call((data, 1, data), {"a": data, "b": 2, "c": bytearray(array())})
    assert len(pickled(marked)[1]) == 2
    args, kwargs = worker.load(parent.send_object(marked))
    assert args == (data, 1, data)
    assert kwargs == {"a": data, "b": 2, "c": bytearray(array())}
    assert args[0] is args[2] is kwargs["a"]


def test_of_large_bytes_only_what_a_container_has_as_well_is_not_taken_out() -> None:
    held, alone = bytearray(THRESHOLD), bytearray(THRESHOLD)
    for other in ([held], {1: [None, (held,)]}):
        given = shared((held, other, alone))
        assert given[0] is held
        assert given[2] is not alone


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
    lost = [
        frame(SEGMENT, b"\1" + bytes(7), ref=1, id=1 << 20) if isinstance(p, WithDescriptor) else p
        for p in before
    ]
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
    parts = parent.exchange.take_before()
    first, second = (part for part in parts if isinstance(part, WithDescriptor))
    first.close()
    worker.exchange.receive_descriptors([os.dup(second.fd)])
    assert parent.write([part.data if isinstance(part, WithDescriptor) else part for part in parts]) == []
    lost, good = (parent.send(laid_out) for laid_out in both)
    with pytest.raises(OSError, match="could not be mapped"):
        worker.load(lost)
    assert (worker.load(good) == array(start=2)).all()


@pytest.mark.parametrize("payload", [b"", b"\1\0\0", b"\0\0\0\0", b"\2\0\0\0" + bytes(24)])
def test_a_table_that_is_cut_short_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_table(memoryview(payload))


# --- closing ---------------------------------------------------------------------------------------


def test_nothing_stays_open_whatever_was_not_asked_for(ends: tuple[End, End]) -> None:
    parent, worker = ends
    before = descriptors()
    parent.exchange.lay_out(*pickled(array()))  # never written
    worker.exchange.receive_descriptors([os.dup(0)])  # never claimed
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
