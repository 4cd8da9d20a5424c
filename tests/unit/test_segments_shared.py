"""Segments that can't be mapped, that go over to the other side, that a forked process sees."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import Any
from weakref import ref

import pytest
from segment_peers import SIZE, Peers, open_descriptors, peers

from offloop.shm import imports, mapping
from offloop.shm.imports import Borrowed
from offloop.shm.segments import Loan

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

__all__ = ["peers"]

# --- segments that can't be mapped -----------------------------------------------------------------


def test_borrowing_from_a_segment_whose_descriptor_was_lost_says_so(peers: Peers) -> None:
    peers.imports.add(1, None, SIZE)
    with pytest.raises(OSError, match="descriptor was refused"):
        peers.imports.borrow(1, 0, SIZE)
    peers.imports.decline(1)
    assert peers.told == [(1, True)], "and the owner is not to use it again"


def test_borrowing_from_a_segment_that_could_not_be_mapped_says_why(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = peers.pool.obtain(SIZE)
    before = open_descriptors()

    def refuse(fd: int, size: int) -> Any:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(imports, "mapped", refuse)
    fd = segment.take_descriptor()
    peers.imports.add(segment.number, fd, SIZE)
    with pytest.raises(OSError, match="Cannot allocate"):
        peers.imports.borrow(segment.number, 0, SIZE)
    assert open_descriptors() == before - 1


def test_a_descriptor_that_cannot_be_mapped_is_an_error() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError):  # noqa: PT011 - the number is the kernel's choice
            mapping.mapped(read, SIZE)
    finally:
        os.close(read)
        os.close(write)


# --- finding and handing over ----------------------------------------------------------------------


@pytest.mark.parametrize("flaw", ["not sealed", "too small", "no such memory"])
def test_memory_that_could_be_cut_off_is_not_mapped(flaw: str, peers: Peers) -> None:
    """Its owner would kill this process: to touch memory behind the end of its file is a SIGBUS."""
    if flaw == "no such memory":
        fd = os.open("/dev/zero", os.O_RDWR)
    else:
        fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(fd, SIZE // 2 if flaw == "too small" else SIZE)
        if flaw == "too small":
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    peers.imports.add(1, fd, SIZE)
    with pytest.raises(OSError, match="could not be mapped"):
        peers.imports.borrow(1, 0, SIZE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_buffer_in_a_loan_is_found_with_its_place(peers: Peers) -> None:
    number, (first, second) = peers.lend(SIZE, SIZE)
    found = peers.imports.find(second[100:200])
    assert found is not None
    assert (found[0].loan, found[1]) == ((number, SIZE, SIZE), 100)
    del first


def test_other_buffers_are_not_found(peers: Peers) -> None:
    _, (view,) = peers.lend(SIZE)
    assert peers.imports.find(memoryview(bytearray(10))) is None
    assert peers.imports.find(view.toreadonly()) is None
    assert peers.imports.find(view[:0]) is None


def test_a_buffer_in_a_loan_where_smaller_ones_have_ended_is_found(peers: Peers) -> None:
    smaller = peers.lend(SIZE, SIZE, SIZE)
    number = smaller[0]
    smaller[1].clear()
    again, (view,) = peers.lend(3 * SIZE)
    assert again == number
    for _ in range(2):
        found = peers.imports.find(view[2 * SIZE + 100 :])
        assert found is not None
        assert (found[0].loan, found[1]) == ((number, 0, 3 * SIZE), 2 * SIZE + 100)


def test_no_buffer_is_found_in_a_loan_that_it_is_longer_than(peers: Peers) -> None:
    segment = peers.pool.obtain(2 * SIZE)
    peers.imports.add(segment.number, segment.take_descriptor(), segment.size)
    whole = peers.imports.borrow(segment.number, 0, 2 * SIZE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    peers.imports._loans[at].loan = Loan(segment.number, 0, SIZE)
    assert peers.imports.find(whole) is None
    assert peers.imports.find(whole[100 : SIZE + 1]) is None
    assert peers.imports.find(whole[SIZE:]) is None
    assert peers.imports.find(whole[100:SIZE]) is not None


def test_to_find_a_buffer_few_of_the_loans_are_looked_at(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, looks = vars(Borrowed)["address"], []

    def look(borrowed: Borrowed) -> int:
        looks.append(borrowed)
        return int(slot.__get__(borrowed))

    _, views = peers.lend(*[SIZE] * 200)
    monkeypatch.setattr(Borrowed, "address", property(look, slot.__set__))
    for view in views:
        assert peers.imports.find(view) is not None
        assert peers.imports.find(view[100:]) is not None
    assert len(looks) <= 4 * len(views)


def test_addresses_of_loans_that_have_ended_are_not_kept_for_ever(peers: Peers) -> None:
    segment = peers.pool.obtain(1000 * SIZE)
    peers.imports.add(segment.number, segment.take_descriptor(), segment.size)
    for offset in range(0, 1000 * SIZE, SIZE):
        peers.imports.borrow(segment.number, offset, SIZE)
    assert len(peers.told) == 1000
    assert len(peers.imports._addresses) < 100


def test_a_loan_that_nobody_sees_goes_over_and_is_not_returned(peers: Peers) -> None:
    number, (view,) = peers.lend(SIZE)
    view[:4] = b"mine"
    found = peers.imports.find(view)
    assert found is not None
    found[0].begin_hand_over()
    del view
    assert found[0].end_hand_over() is None
    peers.imports.forget(found[0])
    assert peers.told == []
    back = peers.pool.take_back(number, 0, SIZE)
    assert bytes(back[:4]) == b"mine"
    del back
    assert peers.lend(SIZE)[0] == number


def test_a_loan_that_somebody_sees_stays_and_is_returned_once(peers: Peers) -> None:
    number, (view,) = peers.lend(SIZE)
    found = peers.imports.find(view)
    assert found is not None
    found[0].begin_hand_over()
    held = found[0].end_hand_over()
    assert held is not None
    del view
    assert peers.told == [], "the view that was returned holds it"
    del held
    assert peers.told == [(number, False)]


def test_a_loan_whose_last_object_dies_during_the_check_is_returned_once(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, views = peers.lend(SIZE)
    found = peers.imports.find(views[0])
    assert found is not None
    borrowed = found[0]
    borrowed.begin_hand_over()

    def look_and_let_go(borrowed: Borrowed) -> Any:  # as if another thread ran just there
        owner = ref.__call__(borrowed)
        views.clear()
        return owner

    monkeypatch.setattr(Borrowed, "__call__", look_and_let_go)
    held = borrowed.end_hand_over()
    assert held is not None
    assert peers.told == []
    del held
    assert peers.told == [(number, False)]


def test_part_of_a_loan_that_was_handed_over_keeps_the_segment(peers: Peers) -> None:
    number, (view,) = peers.lend(SIZE)
    found = peers.imports.find(view)
    assert found is not None
    found[0].begin_hand_over()
    del view
    assert found[0].end_hand_over() is None
    part = peers.pool.take_back(number, 64, 128)
    assert len(part) == 128
    assert peers.lend(SIZE)[0] != number


# --- forks -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("side", ["pool", "imports"])
def test_a_forked_process_never_sees_its_memory_used_again(peers: Peers, side: str) -> None:
    number, (view,) = peers.lend(SIZE)
    if side == "pool":
        found = peers.imports.find(view)
        assert found is not None
        found[0].begin_hand_over()
        del view
        assert found[0].end_hand_over() is None
        view = peers.pool.take_back(number, 0, SIZE)
    view[:] = b"x" * SIZE
    reused, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reused, 1)
        os._exit(0 if bytes(view) == b"x" * SIZE else 1)
    del view
    again, views = peers.lend(SIZE)
    views[0][:] = b"y" * SIZE
    os.write(tell, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert again != number
    assert peers.trim(0.0) == [number]
    os.close(reused)
    os.close(tell)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_free_segments_outlast_a_fork(peers: Peers) -> None:
    number, views = peers.lend(SIZE)
    views.clear()
    peers.pool.trim(0.0)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert peers.lend(SIZE)[0] == number
