"""Which results nobody can change any more."""

from __future__ import annotations

import array
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import gc
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from sys import getrefcount
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

from offloop.child import plain, settled
from offloop.child.settled import ALONE, is_flat, is_settled

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


class Meta(type):
    """Its classes can't be hashed."""

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Meta):
    """Of such a class."""


class Text(str):
    """May have attributes."""


def are_settled(*functions: Callable[[], Any]) -> list[bool]:
    """Of what each returns, whether it is settled, asked as a chunk asks."""
    found = []
    for value in map(lambda function: function(), functions):  # noqa: C417 - nothing else is to refer to it
        held = getrefcount(value)
        found.append(is_settled(value, held <= ALONE))
    return found


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, 2.0, 3j, "text", b"bytes", range(3), (), (1, ("a", (2.0, None)))),
        *(NOW, NOW.date(), NOW.time(), NOW - NOW, decimal.Decimal(1), fractions.Fraction(1, 2), uuid.uuid4()),
        *(Path("a"), PurePosixPath("b")),
        *(np.float64(1), np.int8(2), np.bool_(True), np.datetime64("2026"), (np.float32(1), None)),
    ],
    ids=repr,
)
def test_what_never_changes_is_settled_whoever_refers_to_it(value: Any) -> None:
    assert is_settled(value, False)


@pytest.mark.parametrize(
    "value",
    [
        *([], {}, set(), bytearray(1), (1, []), (((((1,),),),),), (*range(99), [])),
        *(Odd(), Text("a"), np.zeros(1), np.zeros((), "V4")[()], object()),
    ],
    ids=repr,
)
def test_what_may_change_is_not_settled_while_others_refer_to_it(value: Any) -> None:
    assert not is_settled(value, False)


def test_what_a_function_made_and_gave_away_is_settled() -> None:
    made: list[Callable[[], Any]] = [
        lambda: [1, "a"],
        lambda: {"a": [1], 1: {2, 3}},
        lambda: (1, [2]),
        lambda: [[[1]]],
        lambda: np.zeros(3),
        lambda: [np.zeros(3), {"a": np.zeros(3)}],
    ]
    assert all(are_settled(*made))


def test_what_a_function_keeps_is_not_settled_however_it_is_wrapped() -> None:
    kept = [1]
    table = {"a": kept}
    both = (kept, 1)
    array = np.zeros(10)
    of_objects = np.array([kept, None], dtype=object)
    shared: list[Callable[[], Any]] = [
        lambda: kept,
        lambda: [kept],
        lambda: (1, kept),
        lambda: {"a": kept},
        lambda: {"a": [(kept,)]},
        lambda: table,
        lambda: both,
        lambda: [both],
        lambda: array,
        lambda: array[:5],
        lambda: [array[::2]],
        of_objects.copy,
        lambda: {Text("a"): 1},
    ]
    assert not any(are_settled(*shared))


def test_what_is_referred_to_weakly_or_owns_less_than_it_seems_is_not_settled() -> None:
    weak: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def known(made: Any) -> Any:
        weak[len(weak)] = made
        return made

    zone = Zone()
    kind = np.dtype([("a", "i8")])
    memory = bytearray(16)
    shared: list[Callable[[], Any]] = [
        lambda: known(np.zeros(3)),
        lambda: [known(set())],
        lambda: np.zeros(1, np.dtype("i8", metadata={"a": [1]})),
        lambda: np.zeros(1, kind),
        lambda: np.rec.array(np.zeros(1, kind))[0],
        lambda: [np.zeros(1, kind)[0]],
        lambda: np.frombuffer(memory),
        lambda: NOW.replace(tzinfo=zone),
        lambda: NOW.replace(tzinfo=zone).timetz(),
    ]
    assert not any(are_settled(*shared))
    assert all(are_settled(lambda: frozenset({1}), lambda: bytearray(3), lambda: NOW.replace(tzinfo=None)))


class Zone(datetime.tzinfo):
    """A time zone that may change its mind."""


def test_a_tuple_that_others_refer_to_leads_them_to_its_parts() -> None:
    pair = ([1], 2)
    assert not any(are_settled(lambda: pair, lambda: [pair]))


def test_long_containers_and_deep_ones_are_not_looked_through() -> None:
    many = settled.MOST_ATOMS
    assert are_settled(lambda: [[]] * 2, lambda: [*range(99), "a", None, b"", 1.0, True]) == [False, True]
    assert are_settled(lambda: [*range(99), ()], lambda: dict.fromkeys(range(many))) == [False, True]
    assert not any(are_settled(lambda: [*range(many + 1)], lambda: dict.fromkeys(range(many + 1))))
    assert [is_flat((0,) * count, tuple, is_ours=True) for count in (many, many + 1)] == [True, False]
    assert are_settled(lambda: [[[[0]]]], lambda: [[[[[0]]]]]) == [True, False]


@dataclass
class Point:
    """An object with attributes."""

    x: Any
    y: Any = 0


@dataclass(slots=True)
class Slotted:
    """One without."""

    x: Any
    y: Any = 0


@dataclass(slots=True, frozen=True)
class Frozen:
    """One that `dataclasses` gives methods for pickling."""

    x: Any


class Pair(NamedTuple):
    """A named tuple."""

    x: Any
    y: Any = 0


class Derived(Point):
    """Inherits all that it has."""


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"
    LIST: ClassVar = enum.member([1])


class Number(enum.IntEnum):
    """One whose members are numbers."""

    ONE = 1


class Odder(enum.Enum):
    """One with a member that can't be found by its value, once that is another object."""

    NAN = float("nan")


OBJECTS: list[Callable[..., Any]] = [Point, Derived, Slotted, Frozen, Pair]


@pytest.mark.parametrize("make", OBJECTS)
def test_an_object_that_a_function_made_and_gave_away_is_settled(make: Callable[..., Any]) -> None:
    assert all(are_settled(lambda: make(1), lambda: make("a"), lambda: make(NOW), lambda: make((1, (2.0,)))))
    assert not any(are_settled(lambda: make(Pair(1)), lambda: make(object()), lambda: [make(1)]))


@pytest.mark.parametrize("make", OBJECTS)
def test_an_object_that_a_function_keeps_is_not_settled(make: Callable[..., Any]) -> None:
    one, kept = make(1), [1]
    assert are_settled(lambda: one, lambda: make(kept)) == [make is Pair, False]


def test_an_object_may_be_known_by_its_attributes_alone_or_weakly() -> None:
    known: list[Any] = []
    weak: weakref.WeakSet[Any] = weakref.WeakSet()

    def tell(value: Any, of: Callable[[Any], object]) -> Any:
        of(value)
        return value

    assert not any(
        are_settled(
            lambda: tell(Point(1), lambda it: known.append(it.__dict__)),
            lambda: tell(Point(1), lambda it: known.append(it.__init__)),
            lambda: tell(Point(1), lambda it: setattr(it, "x", it)),
        )
    )

    class Weak(Point):
        __hash__ = object.__hash__

    assert are_settled(lambda: tell(Weak(1), weak.add), lambda: Weak(1)) == [False, True]


def test_members_of_enumerations_are_settled_unless_their_values_may_change() -> None:
    assert is_settled(Colour.RED, False)
    assert is_settled(Number.ONE, False)
    assert not is_settled(Colour.LIST, False)
    assert not is_settled(Odder.NAN, False)
    assert not is_settled((Colour.RED,), False)


@pytest.mark.parametrize("hook", sorted(plain.HOOKS | {"__await__"}))
@pytest.mark.parametrize("slots", [(), ("x",)], ids=["dict", "slots"])
def test_a_class_that_has_a_say_in_its_pickles_is_not_looked_into(hook: str, slots: tuple[str, ...]) -> None:
    def define(**own: Any) -> type:
        base = type("Base", (), {"__slots__": slots, **own} if slots else own)
        return type("Kind", (base,), {"__slots__": ()} if slots else {})

    def fill(kind: type) -> Any:
        value = object.__new__(kind)
        object.__setattr__(value, "x", 1)
        return value

    usual, unusual = define(), define(**{hook: lambda *_: None})
    assert are_settled(lambda: fill(usual), lambda: fill(unusual)) == [True, False]


class Items(list[int]):
    """A container of the user's."""


class Registered:
    """Is pickled in another way."""


copyreg.pickle(Registered, lambda _: (list, ()))


class Guarded:
    """Sees how its slots are set."""

    __slots__ = ("x",)

    def __init__(self) -> None:
        object.__setattr__(self, "x", 1)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError


class Computed(Point):
    """Has attributes that are none."""

    @property  # type: ignore[misc]
    def __dict__(self) -> Any:
        return {}


class Base:
    """Has a slot."""

    __slots__ = ("x",)


class Overridden(Base):
    """A property is in the way of it."""

    __slots__ = ()
    x = property(lambda self: 1)  # type: ignore[assignment]


class Both:
    """Has a slot beside its attributes."""

    __slots__ = ("__dict__", "x")


class Attributes(dict[str, Any]):
    """What a class's attributes may be, too."""


class Longer(Pair):
    """More than a named tuple."""


def with_attributes(attributes: Any) -> Any:
    value = Point(1)
    value.__dict__ = attributes
    return value


def test_what_is_made_of_more_than_its_attributes_is_not_settled() -> None:
    made: list[Callable[[], Any]] = [
        *(Items, Registered, Guarded, Overridden, Both, Exception, collections.deque, collections.Counter),
        *(lambda: Computed(1), lambda: Slotted.__new__(Slotted), lambda: Longer(1), lambda: array.array("i")),
        *(lambda: with_attributes(Attributes(x=1)), lambda: with_attributes({Text("x"): 1})),
    ]
    assert not any(are_settled(*made))
    assert are_settled(lambda: with_attributes({"x": 1})) == [True]


def test_a_frozenset_that_is_known_weakly_leads_to_its_parts() -> None:
    sets: list[weakref.ref[Any]] = []

    def make(*, tell: bool) -> frozenset[Any]:
        made = frozenset({bytes_of(1)})
        if tell:
            sets.append(weakref.ref(made))
        return made

    def bytes_of(size: int) -> Any:
        return np.zeros(size).view(Hashed)

    class Hashed(np.ndarray[Any, Any]):
        __hash__ = object.__hash__  # type: ignore[assignment]

    assert not any(are_settled(lambda: make(tell=True), lambda: make(tell=False)))


def test_what_was_found_out_of_a_class_is_forgotten_with_each_chunk() -> None:
    class Changed:
        pass

    assert are_settled(Changed) == [True]
    Changed.__getstate__ = lambda self: None  # type: ignore[method-assign]
    settled.forget_classes()
    assert are_settled(Changed) == [False]
    gone = weakref.ref(Changed)
    del Changed
    settled.forget_classes()
    gc.collect()
    assert gone() is None


def test_few_classes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "_tests", settled._BUILT_IN.copy())
    for number in range(3 * settled.MOST_KINDS):
        assert is_settled(type(f"Kind{number}", (), {})(), True)
        assert is_settled((1, (2,)), False)
    assert len(settled._tests) <= settled.MOST_KINDS


@pytest.mark.parametrize("part", [[], bytearray(), np.zeros(1), (1,), object()], ids=repr)
@pytest.mark.parametrize("other", ["text", 7])
def test_a_dictionary_with_anything_else_than_atoms_is_not_flat(part: Any, other: Any) -> None:
    assert is_flat({other: 1, "b": "text"}, dict, is_ours=True)
    assert not is_flat({other: 1, "b": part}, dict, is_ours=True)
    if not isinstance(part, (list, bytearray, np.ndarray)):
        assert not is_flat({other: 1, part: 1}, dict, is_ours=True)
