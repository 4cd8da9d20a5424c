"""What goes through the codec: plain data, references, buffers, and failures."""

from __future__ import annotations

import functools
import json
import os
import pickle
import sys
import threading
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_link import Link, Point, Slow, importable, make_point
from hypothesis import given, settings, strategies as st

from offloop.wire.codec import Decoder, Encoder, ReplyDecoder
from offloop.wire.definitions import Definitions


@pytest.fixture
def link() -> Link:
    return Link()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=100, deadline=None)
def test_builtin_data_comes_out_as_it_went_in(value: Any) -> None:
    link = Link()
    for _ in range(2):
        assert link.send(value) == value
        assert link.reply(value) == value
    assert not link.defined


def test_sharing_and_cycles_inside_one_message_are_kept_and_none_between_messages(link: Link) -> None:
    shared: list[Any] = ["x"]
    shared.append(shared)
    one, other, cls, again = link.send([shared, shared, Point, Point])
    assert one is other
    assert one[1] is one
    assert cls is again
    assert link.send([shared])[0] is not one


def test_a_message_may_be_a_memoryview(link: Link) -> None:
    assert link.decoder.decode(memoryview(link.encoder.encode([1, Point]))) == [1, Point]


def test_an_encoder_keeps_nothing_of_a_message_alive(link: Link) -> None:
    obj = Slow(1)
    before = sys.getrefcount(obj)
    link.encoder.encode([obj])
    assert sys.getrefcount(obj) == before


def test_a_function_with_a_name_is_defined_once_for_each_worker() -> None:
    one = Link()
    other = Link(one.definitions)
    numbers = {link.encoder.reference(json.dumps) for link in (one, other, one)}
    assert len(numbers) == 1
    assert one.defined == other.defined == list(numbers)
    assert one.decoder.resolve(numbers.pop()) is json.dumps


@pytest.mark.parametrize(
    "fn", [len, os.getpid, dict, OrderedDict, json.loads, type(None), types.FunctionType]
)
def test_what_has_a_name_resolves_to_itself(link: Link, fn: Any) -> None:
    assert link.function(fn) is fn
    assert link.send([fn]) == [fn]


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "fn", [[].append, "x".upper, functools.partial(print, 1), Unhashable(), Path("x").exists, object()]
)
def test_other_callables_have_no_number(link: Link, fn: Any) -> None:
    assert link.encoder.reference(fn) == 0


def test_an_object_equal_to_a_known_function_is_not_taken_for_it(link: Link) -> None:
    link.encoder.reference(json.dumps)
    assert link.encoder.reference(Unhashable()) == 0


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_an_encoder_is_usable_after_a_failure(link: Link, error: BaseException) -> None:
    for encoder, decoder in ((link.encoder, link.decoder), (link.reply_encoder, link.reply_decoder)):
        with pytest.raises(type(error)):
            encoder.encode([Point(1), Failing(error)])
        assert decoder.decode(encoder.encode([1, Point(2)]))[1].x == 2
    assert len(link.defined) == 1


def test_lists_nested_too_deep_raise_and_harm_nothing(link: Link) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for encoder in (link.encoder, link.reply_encoder):
        with pytest.raises(RecursionError):
            encoder.encode(deep)
        assert link.decoder.decode(encoder.encode([1])) == [1]
    while deep:
        deep = deep.pop()


def test_what_cannot_be_pickled_raises_as_pickle_does(link: Link) -> None:
    class Holder:
        generator = (n for n in "x")

    for value in (Holder.generator, sys._getframe(), threading.Lock()):
        with pytest.raises((TypeError, pickle.PicklingError)):
            link.encoder.encode([value])
    with pytest.raises(TypeError):
        link.encoder.reference(Holder)
    assert link.send([1]) == [1]


class Nested:
    """Pickles by encoding something else with the same encoder."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def __reduce__(self) -> Any:
        inner = self.encoder.encode([Point(5), lambda: 1])
        with pytest.raises(ValueError, match="inner"):
            self.encoder.encode([Failing(ValueError("inner"))])
        return bytes, (inner,)


def test_an_encoder_may_be_used_while_it_is_at_work(link: Link) -> None:
    for _ in range(2):
        first, inner, last = link.send([Point(1), Nested(link.encoder), Point(2)])
        assert (first.x, last.x) == (1, 2)
        assert link.decoder.decode(inner)[0].x == 5
    assert len(link.defined) == len(set(link.defined))


def test_loading_fails_at_the_use_and_is_tried_again() -> None:
    decoder = Decoder()
    decoder.define(1, pickle.dumps("unused", 5)[:-1])
    decoder.define(2, b"\x80\x05cnot_there_yet\nf\n.")
    with pytest.raises(ModuleNotFoundError):
        decoder.resolve(2)
    module = sys.modules["not_there_yet"] = types.ModuleType("not_there_yet")
    try:
        module.f = len  # type: ignore[attr-defined]
        assert decoder.resolve(2) is len
    finally:
        del sys.modules["not_there_yet"]
    with pytest.raises((EOFError, pickle.UnpicklingError)):
        decoder.resolve(1)
    with pytest.raises(pickle.UnpicklingError, match="definition 3"):
        decoder.resolve(3)


def test_a_failing_define_is_tried_again_with_the_next_message() -> None:
    calls: list[int] = []

    def define(number: int, payload: bytes) -> None:
        calls.append(number)
        if len(calls) == 1:
            raise OSError("full")

    encoder = Encoder(Definitions(importable), define, calls.append)
    with pytest.raises(OSError, match="full"):
        encoder.reference(json.dumps)
    assert encoder.reference(json.dumps) == calls[1] == calls[0]


def test_a_reply_that_refers_to_nothing_raises() -> None:
    link = Link()
    data = link.reply_encoder.encode([link.function(make_point)])
    with pytest.raises(pickle.UnpicklingError, match="no longer exists"):
        ReplyDecoder(Definitions(importable)).decode(data)


def test_buffers_go_out_of_band_where_asked_for_and_in_band_otherwise(link: Link) -> None:
    array = np.arange(1000)
    value = [Point(1), array, Point(2)]
    buffers: list[pickle.PickleBuffer] = []
    for encoder, decoder in ((link.encoder, link.decoder), (link.reply_encoder, link.reply_decoder)):
        buffers.clear()
        small = encoder.encode(value, buffers.append)
        assert len(small) < 1000
        assert len(buffers) == 1
        back = decoder.decode(small, [buffer.raw() for buffer in buffers])
        assert np.shares_memory(back[1], array)
        assert back[2].x == 2
        whole = encoder.encode(value)
        assert len(whole) > array.nbytes
        assert (decoder.decode(whole)[1] == array).all()
        assert len(buffers) == 1


def test_a_buffer_callback_decides_buffer_by_buffer(link: Link) -> None:
    arrays = [np.arange(n) for n in (1000, 2000, 3000)]
    kept: list[Any] = []

    def callback(buffer: pickle.PickleBuffer) -> bool:
        large = buffer.raw().nbytes > 10_000
        if large:
            kept.append(buffer)
        return not large

    data = link.encoder.encode(arrays, callback)
    assert len(kept) == 2
    assert [len(a) for a in link.decoder.decode(data, iter(kept))] == [1000, 2000, 3000]


def test_large_bytes_are_put_together_once(link: Link) -> None:
    value = [b"x" * 1_000_000, "y" * 200_000, Point(1), bytes(100_000)]
    assert link.send(value)[:2] == value[:2]
    assert link.send([1]) == [1]
