"""Unpickling, with no garbage collection in the midst of a long pickle."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from offloop.wire.loading import LONG, load


class Calls:
    """Loads as what a function returns."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


def throw(error: BaseException) -> None:
    raise error


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


@pytest.mark.parametrize(("size", "is_on"), [(1, True), (LONG, False)])
def test_the_collector_is_off_while_a_long_pickle_is_loaded(size: int, is_on: bool) -> None:
    data = pickle.dumps(("x" * size, Calls(gc.isenabled)))
    assert load(data, ())[1] is is_on
    assert gc.isenabled()


@pytest.mark.parametrize("error", [OSError(), KeyboardInterrupt()])
def test_the_collector_is_on_again_after_a_failure(error: BaseException) -> None:
    with pytest.raises(type(error)):
        load(pickle.dumps(("x" * LONG, Calls(throw, error))), ())
    assert gc.isenabled()


def test_a_program_without_collector_stays_without_it() -> None:
    gc.disable()
    assert load(pickle.dumps("x" * LONG), ()) == "x" * LONG
    assert not gc.isenabled()


def test_buffers_are_handed_on() -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(
        ["x" * LONG, pickle.PickleBuffer(bytearray(b"out"))], 5, buffer_callback=buffers.append
    )
    assert bytes(load(data, tuple(buffers))[1]) == b"out"
