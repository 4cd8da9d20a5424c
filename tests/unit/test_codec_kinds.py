"""All the other kinds of objects that can travel."""

from __future__ import annotations

import copyreg
import enum
import functools
import json
import math
import multiprocessing
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from importlib.util import _LazyModule  # type: ignore[attr-defined]  # what its LazyLoader makes
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pytest
from codec_link import Color, Link, Point, Slow, function, limit, make_point

from offloop.wire import byvalue
from offloop.wire.byvalue import cloudpickle


@pytest.fixture
def link() -> Link:
    return Link()


T = TypeVar("T")


def generic() -> Any:
    class Box(Generic[T]):
        def __init__(self, item: Any) -> None:
            self.item = item

        def __eq__(self, other: object) -> bool:
            return type(self) is type(other) and vars(self) == vars(other)

    return Box(1)


@pytest.mark.parametrize(
    "value",
    [
        {"k": 1}.keys(),
        {"k": 1}.items(),
        OrderedDict(k=1).keys(),
        types.MappingProxyType({"k": 1}),
        range(3),
        slice(1, 2),
        list[int],
        dict[str, Any],
        int | None,
        json,
        os.path,
        T,
        Color.RED,
        Exception("x").args,
        types.MethodType,
        type(...),
        str.upper,
        generic(),
    ],
    ids=repr,
)
def test_special_objects_travel_both_ways(link: Link, value: Any) -> None:
    assert link.send([value]) == [value]
    assert link.reply([value]) == [value]


def test_a_memoryview_arrives_as_bytes(link: Link) -> None:
    assert link.send([memoryview(b"abc")]) == [b"abc"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(4.0),
        np.zeros((2, 3), order="F"),
        np.array(5, dtype=">i2"),
        np.zeros(0),
        np.zeros(2, dtype=[("a", "i4"), ("b", "U3")]),
        np.array([None, "text", (1,)], dtype=object),
        np.array(["2026-11-28"], dtype="M8[D]"),
        np.arange(20)[::-3],
    ],
    ids=str,
)
def test_small_arrays_arrive_the_same_and_writable(link: Link, array: Any) -> None:
    for there in (link.send([array, array, array[...]]), link.reply([array, array, array[...]])):
        for got in there:
            assert got.dtype == array.dtype
            assert got.shape == array.shape
            assert got.tolist() == array.tolist()
            assert got.flags.f_contiguous == array.flags.f_contiguous or not array.flags.forc
            assert got.flags.writeable
        assert there[0] is there[1]
        assert not np.shares_memory(there[0], there[2])


def test_small_arrays_come_without_buffers_and_large_ones_with(link: Link) -> None:
    link.send(np.arange(4))  # NumPy is loaded: now it is known
    buffers: list[Any] = []
    link.encoder.encode([np.arange(4), np.arange(5), np.arange(1000)], buffers.append)
    assert [buffer.raw().nbytes for buffer in buffers] == [8000]


def test_a_small_array_that_is_not_to_be_written_to_arrives_so(link: Link) -> None:
    array = np.arange(4)
    array.flags.writeable = False
    assert not link.send([np.arange(3), array])[1].flags.writeable


def test_how_the_user_has_arrays_pickled_counts_for_small_ones(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.send(np.arange(4))
    monkeypatch.setitem(copyreg.dispatch_table, np.ndarray, lambda array: (str, (repr(array),)))
    assert byvalue.dispatch_table is copyreg.dispatch_table
    assert link.send([np.arange(2)]) == ["array([0, 1])"]


def test_an_end_of_a_pipe_is_refused_rather_than_sent_as_a_number(link: Link) -> None:
    ends = multiprocessing.Pipe()
    for end in ends:
        with end, pytest.raises(TypeError, match=r"use Execution\.channel"):
            link.send({"end": end})


def test_a_member_whose_value_is_not_equal_to_itself_goes_by_its_name(link: Link) -> None:
    class Odd(enum.Enum):
        NAN = float("nan")

    there = link.send(Odd.NAN)
    assert (there.name, math.isnan(there.value)) == ("NAN", True)


class Unwrapping(enum.EnumMeta):
    def __getattribute__(cls, name: str) -> Any:
        found = super().__getattribute__(name)
        return found.value if isinstance(found, cls) else found


class Setting(enum.Enum, metaclass=Unwrapping):
    """Members whose attributes give values."""

    COLORS = ("red", "green")


def test_a_member_arrives_as_one_whatever_its_attribute_gives(link: Link) -> None:
    assert link.send(Setting["COLORS"]) is Setting["COLORS"]


def test_a_member_whose_value_can_be_called_arrives_as_one(link: Link) -> None:
    class Operation(enum.Enum):
        ADD = enum.member(lambda a, b: a + b)

        def apply(self, *args: int) -> int:
            return int(self.value(*args))

    there = link.send(Operation.ADD)
    assert (there.name, there.apply(1, 2), len(type(there))) == ("ADD", 3, 1)


def test_a_reducer_of_the_users_holds_for_ends_of_pipes_too(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = multiprocessing.Pipe()
    monkeypatch.setitem(copyreg.dispatch_table, type(ends[0]), lambda _: (str, ("an end",)))
    for end in ends:
        with end:
            assert link.send(end) == "an end"


def test_what_only_looks_like_a_member_is_pickled_as_what_it_is(link: Link) -> None:
    class Meta(type):
        pass

    class Fake(metaclass=Meta):
        _member_map_: ClassVar[dict[str, Any]] = {}

    assert type(link.send(Fake())).__name__ == "Fake"


@pytest.mark.parametrize("blocks", [lambda: None, lambda: SimpleNamespace(ndarray=[])])
def test_a_module_that_is_blocked_or_replaced_is_no_hindrance(
    monkeypatch: pytest.MonkeyPatch, blocks: Callable[[], Any]
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", blocks())
    assert byvalue.learn_types()


def test_a_module_that_is_loaded_when_it_is_used_is_not_loaded_by_a_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lazy = _LazyModule("numpy")
    monkeypatch.setitem(sys.modules, "numpy", lazy)
    assert byvalue.learn_types()
    assert type(lazy) is _LazyModule


def test_types_of_a_module_that_another_thread_loads_are_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = types.ModuleType("numpy")
    half.__spec__ = SimpleNamespace(_initializing=True)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "numpy", half)
    assert not byvalue.learn_types()
    monkeypatch.undo()
    assert byvalue.learn_types()


def test_bound_methods_travel_with_their_objects(link: Link) -> None:
    scaled, derive = link.send([Point(3).scaled, classmethod_of().make])
    assert scaled() == 3 * limit
    assert derive() == "made"


def classmethod_of() -> Any:
    class Maker:
        @classmethod
        def make(cls) -> str:
            return "made"

    return Maker


def test_a_method_not_found_under_its_name_travels_too(link: Link) -> None:
    class Hidden:
        def __secret(self) -> int:
            return 4

        def get(self) -> Any:
            return self.__secret

    assert link.send([Hidden().get()])[0]() == 4


def test_lambdas_partials_and_closures_in_arguments(link: Link) -> None:
    offset = 5
    values = {"f": functools.partial(lambda a, b: a + b + offset, 1), "g": [lambda: offset]}
    back = link.send(values)
    assert back["f"](2) == 8
    assert back["g"][0]() == 5


def test_an_object_may_hold_a_lambda_that_holds_the_object(link: Link) -> None:
    slow = Slow(3)
    slow.get = lambda: slow.value  # type: ignore[attr-defined]
    back = link.send(slow)
    back.value = 4
    assert back.get() == 4


MADE_BY_HAND = """
import json
SELF = None
def f(x): return g(x) + json.loads("1")
def g(x): return x * 2
class C: pass
"""


@pytest.fixture
def made_by_hand() -> Any:
    module = types.ModuleType("made_by_hand")
    exec(MADE_BY_HAND, vars(module))
    module.SELF = module  # type: ignore[attr-defined]
    sys.modules["made_by_hand"] = module
    yield module
    del sys.modules["made_by_hand"]


def test_a_module_made_by_hand_goes_by_value(link: Link, made_by_hand: Any) -> None:
    assert link.function(made_by_hand.f)(2) == 5
    assert link.send([made_by_hand.f])[0](2) == 5
    copy = link.send([made_by_hand])[0]
    assert copy is not made_by_hand
    assert copy.SELF is copy
    assert copy.f(2) == 5


def test_a_function_that_uses_a_module_made_by_hand_takes_it_along(link: Link, made_by_hand: Any) -> None:
    f = function("def f(x): return module.f(x)", module=made_by_hand)
    assert link.encoder.reference(f) == 0
    assert link.send([f])[0](2) == 5
    assert link.send([made_by_hand.C()])[0].__class__ is made_by_hand.C


def test_a_module_that_the_user_registered_goes_by_value(link: Link) -> None:
    import textwrap as module

    cloudpickle().register_pickle_by_value(module)
    try:
        assert link.function(module.dedent) is not module.dedent
    finally:
        cloudpickle().unregister_pickle_by_value(module)


def test_replies_take_home_what_the_worker_made(link: Link) -> None:
    class Local:
        pass

    offset = 1
    fn, obj = link.reply([lambda: offset, Local()])
    assert fn() == 1
    assert type(obj) is Local


def test_a_function_that_came_as_a_definition_goes_back_as_the_original(link: Link) -> None:
    copy = link.function(make_point)
    assert copy is not make_point
    assert link.reply([copy]) == [make_point]
