"""Which results nobody can change any more."""

from __future__ import annotations

import datetime
import decimal
import fractions
import uuid
import weakref
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np
import pytest

from offloop.child import settled
from offloop.child.settled import ALONE, is_settled

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
    assert are_settled(lambda: [[]] * 2, lambda: [*range(999), "a", None, b"", 1.0, True]) == [False, True]
    assert are_settled(lambda: [*range(999), ()], lambda: dict.fromkeys(range(99))) == [False, True]
    assert are_settled(lambda: [[[[0]]]], lambda: [[[[[0]]]]]) == [True, False]


def test_few_classes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "_kinds", {})
    for number in range(3 * settled.MOST_KINDS):
        assert not is_settled(type(f"Kind{number}", (), {})(), True)
    assert len(settled._kinds) <= settled.MOST_KINDS
