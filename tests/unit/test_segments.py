"""Segments: memory is never written while somebody sees it, and is given back when nobody does."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from segment_peers import SIZE, Peers, open_descriptors, peers

from offloop.shm import segments
from offloop.shm.segments import ALIGN, IDLE, SegmentPool, rounded, space_for

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

__all__ = ["peers"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, in its only item, to be moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(segments, "monotonic", lambda: now[0])
    return now


# --- lending ---------------------------------------------------------------------------------------


def test_the_borrower_sees_what_the_owner_wrote_and_may_write_itself(peers: Peers) -> None:
    number, (view,) = peers.lend(SIZE)
    peers.pool.view(number)[:5] = b"owner"
    assert bytes(view[:5]) == b"owner"
    view[:5] = b"peer!"
    assert bytes(peers.pool.view(number)[:5]) == b"peer!"


def test_buffers_of_one_segment_lie_apart_and_aligned(peers: Peers) -> None:
    sizes = [1, ALIGN, ALIGN + 1, 1000, 3]
    loans = peers.pool.lend(segment := peers.pool.obtain(space_for(sizes)), sizes)
    ends = [0, *(loan.offset + loan.size for loan in loans)]
    assert all(loan.offset % ALIGN == 0 for loan in loans)
    assert all(loan.offset >= end for loan, end in zip(loans, ends, strict=False))
    assert ends[-1] <= segment.size


@pytest.mark.parametrize("size", [1, 4096, 4097, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 10**8])
def test_a_new_segment_is_at_most_an_eighth_larger_than_asked_for(size: int) -> None:
    assert size <= rounded(size) <= max(size * 9 // 8, size + 4096)


def test_a_loan_ends_with_the_last_object_on_it_whatever_that_is(peers: Peers) -> None:
    number, (view,) = peers.lend(SIZE)
    array = np.frombuffer(view, np.int64)
    part = array[10:20]
    again = memoryview(part)
    del view, array, part
    assert peers.told == []
    del again
    assert peers.told == [(number, False)]


def test_a_loan_that_ends_on_another_thread_has_ended(peers: Peers) -> None:
    number, views = peers.lend(SIZE)
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert peers.told == [(number, False)]
    assert peers.lend(SIZE)[0] == number


def test_a_loan_in_a_reference_cycle_ends_with_the_collection(peers: Peers) -> None:
    number, views = peers.lend(SIZE)
    cycle: list[Any] = [views.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert peers.told == [(number, False)]


def test_a_segment_is_used_again_only_when_all_its_loans_have_ended(peers: Peers) -> None:
    number, (first, second) = peers.lend(SIZE, SIZE)
    del first
    other, others = peers.lend(SIZE, SIZE)
    assert other != number
    del second
    assert peers.lend(SIZE, SIZE)[0] == number
    del others


def test_the_smallest_free_segment_that_fits_is_used(peers: Peers) -> None:
    held = [peers.lend(size) for size in (8 << 20, 2 << 20, 4 << 20)]
    numbers = [number for number, _ in held]
    held.clear()
    assert peers.lend(3 << 20)[0] == numbers[2]


def test_a_segment_far_too_large_is_left_alone(peers: Peers) -> None:
    number, views = peers.lend(32 << 20)
    views.clear()
    assert peers.lend(2 << 20)[0] != number


def test_neither_side_keeps_a_descriptor(peers: Peers) -> None:
    before = open_descriptors()
    kept = [peers.lend(SIZE) for _ in range(50)]
    assert open_descriptors() == before
    assert len({number for number, _ in kept}) == 50


def test_a_segment_that_is_never_given_away_closes_its_descriptor() -> None:
    before = open_descriptors()
    pool = SegmentPool()
    pool.obtain(SIZE)
    pool.close()
    assert open_descriptors() == before


@given(
    st.lists(
        st.one_of(
            st.lists(st.integers(1, 3 * ALIGN), min_size=1, max_size=3),
            st.integers(0, 100),
            st.just("trim"),
        ),
        max_size=30,
    )
)
def test_no_two_live_buffers_ever_share_memory(steps: list[Any]) -> None:
    peers = Peers(keep=0)
    live: list[tuple[memoryview, int]] = []
    try:
        for mark, step in enumerate(steps):
            if step == "trim":
                peers.trim(0.0)
            elif isinstance(step, int):
                if live:
                    live.pop(step % len(live))
            else:
                for view in peers.lend(*step)[1]:
                    view[:] = bytes([mark]) * len(view)
                    live.append((view, mark))
                del view
            assert all(bytes(view) == bytes([mark]) * len(view) for view, mark in live)
    finally:
        live.clear()
        peers.close()


# --- giving memory back ----------------------------------------------------------------------------


def test_a_free_segment_is_closed_once_it_was_idle_for_long(peers: Peers, clock: list[float]) -> None:
    number, views = peers.lend(SIZE)
    assert peers.trim(clock[0] + 10 * IDLE) == [], "it is lent"
    views.clear()
    assert peers.trim(clock[0] + IDLE / 2) == []
    assert peers.trim(clock[0] + IDLE) == [number]
    assert peers.pool.bytes_held == 0


def test_too_many_free_segments_are_closed_the_longest_unused_first(clock: list[float]) -> None:
    peers = Peers(keep=2 * SIZE)
    held = [peers.lend(SIZE) for _ in range(4)]
    numbers = [number for number, _ in held]
    for at in (2, 0, 3, 1):
        held[at][1].clear()
    assert peers.trim(clock[0]) == [numbers[2], numbers[0]]
    assert peers.pool.bytes_held == 2 * SIZE
    peers.close()


@pytest.mark.parametrize("memory", [1 << 40, 4 * SIZE])
def test_the_last_free_segment_stays_though_it_is_large_where_there_is_memory(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(segments, "_memory", lambda: memory)
    peers = Peers(keep=SIZE)
    held = [peers.lend(4 * SIZE) for _ in range(2)]
    first, second = [number for number, _ in held]
    while held:
        del held[0]
    at_once, later = peers.trim(clock[0]), peers.trim(clock[0] + IDLE)
    left = peers.pool.bytes_held
    peers.close()
    assert (at_once, later) == (([first], [second]) if memory > 64 * SIZE else ([first, second], []))
    assert left == 0


def test_a_spent_segment_is_closed_instead_of_used_again(peers: Peers) -> None:
    segment = peers.pool.obtain(2 * SIZE)
    loans = peers.pool.lend(segment, [SIZE, SIZE])
    peers.pool.returned(loans[0].segment, True)
    assert peers.trim(0.0) == [], "one loan is left"
    peers.pool.returned(loans[1].segment)
    assert peers.pool.obtain(2 * SIZE) is not segment
    assert peers.trim(0.0) == [segment.number]


@pytest.mark.parametrize("side", ["pool", "imports"])
def test_what_lies_on_a_closed_segment_stays_as_it_is(side: str) -> None:
    peers = Peers()
    number, (view,) = peers.lend(SIZE)
    if side == "pool":
        del view
        view = peers.pool.take_back(number, 0, SIZE)
    view[:] = b"x" * SIZE
    peers.close()
    gc.collect()
    assert bytes(view) == b"x" * SIZE
    view[:4] = b"more"


def test_mappings_go_away_when_the_last_object_does() -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("offloop-segment" in line for line in maps)

    before = mapped()
    peers = Peers()
    _, (view,) = peers.lend(SIZE)
    assert mapped() == before + 2
    peers.close()
    assert mapped() == before + 1
    del view
    assert mapped() == before
