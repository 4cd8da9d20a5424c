"""Results that lie in the memory of arguments, and payloads without shared memory."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

import numpy as np
import pytest
from exchange_ends import (
    End,
    address,
    array,
    borrow,
    ends,
    give_back,
    held,
    lent_segments,
    pickled,
)

from offloop.child import exchange as module
from offloop.child.layout import THRESHOLD
from offloop.shm import mapping, segments
from offloop.wire.frames import (
    SEGMENT,
    UNSEGMENT,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

__all__ = ["ends"]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """While its item is an errno, there is no shared memory; every such process warns anew."""
    create, number = os.memfd_create, [errno.EMFILE]

    def memfd_create(*args: Any) -> int:
        if number[0]:
            raise OSError(number[0], os.strerror(number[0]))
        return create(*args)

    monkeypatch.setattr(module, "_warned", False)
    monkeypatch.setattr(os, "memfd_create", memfd_create)
    return number


# --- and back --------------------------------------------------------------------------------------


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


def test_a_small_part_of_an_argument_is_copied_rather_than_keep_all_of_it(ends: tuple[End, End]) -> None:
    parent, worker = ends
    (argument,) = borrow(parent, worker, array(8 * THRESHOLD))
    assert worker.exchange.hand_over(*pickled(argument[:THRESHOLD])) is None
    assert worker.exchange.hand_over(*pickled(argument[: 4 * THRESHOLD])) is not None


def test_a_read_only_view_of_an_argument_is_copied(ends: tuple[End, End]) -> None:
    parent, worker = ends
    (argument,) = borrow(parent, worker, array())
    view = argument.view()
    view.flags.writeable = False
    assert worker.exchange.hand_over(*pickled(view)) is None


def test_an_argument_that_a_forked_process_sees_is_copied(ends: tuple[End, End]) -> None:
    parent, worker = ends
    arguments = borrow(parent, worker, array())
    mapping._before_fork()
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


# --- no shared memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS, errno.ENOMEM])
def test_without_shared_memory_payloads_go_in_band_with_one_warning(
    ends: tuple[End, End], refused: list[Any], number: int
) -> None:
    parent, worker = ends
    refused[0] = number
    with pytest.warns(RuntimeWarning, match="slowly") as caught:
        got = [worker.load(parent.send_object(array(start=n))) for n in range(3)]
    assert len(caught) == 1
    back = parent.load(worker.send_object(got))
    assert all((value == array(start=n)).all() for n, value in enumerate(back))
    assert all(value.flags.writeable for value in back)
    assert worker.kinds == parent.kinds == []


def test_shared_memory_is_used_as_soon_as_there_is_some_again(
    ends: tuple[End, End], refused: list[Any]
) -> None:
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
