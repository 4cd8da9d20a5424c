"""A chunk against pickling each result as it returns: programs that keep, and change, what they gave.

Each call of a program makes an object, and keeps hold of some of it in some way.  The next call changes
all that it still can get at.  A chunk puts off pickling what nobody can change any more: were it wrong
about that, a result would show a later change, or a weak reference would live too long.
"""

from __future__ import annotations

import enum
import functools
import pickle
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import field, make_dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import numpy as np
from hypothesis import given, note, settings, strategies as st
from pickling import PicklingTask
from profiles import CHOSEN, lift_time_bound

from offloop.child.chunk import run_chunk

#: How to make an object: its kind, how to keep hold of it, and what it is made of; or a constant's number.
Plan: TypeAlias = "tuple[str, str, list[Plan]] | int"


def row_class(name: str, **options: Any) -> type[Any]:
    """A dataclass of this module."""
    fields = [(each, object, field(default=0)) for each in "xy"]
    made = globals()[name] = make_dataclass(name, fields, namespace={"__module__": __name__}, **options)
    return made


class Cached:
    """Has a property that is kept among its attributes."""

    def __init__(self, x: Any = 0, y: Any = 0) -> None:
        self.x, self.y = x, y
        self.listed.append(y)

    @functools.cached_property
    def listed(self) -> list[Any]:
        return [self.x]

    def __hash__(self) -> int:
        return 1  # so that sets of these are in the same order every time

    def __repr__(self) -> str:
        return f"Cached({vars(self)})"


class Pair(NamedTuple):
    x: Any = 0
    y: Any = 0


class Colour(enum.Enum):
    RED = 1
    DEEP = (1, 2)


ROWS: list[type[Any]] = [
    *(Cached, Pair, row_class("Row"), row_class("FrozenRow", frozen=True), row_class("Slotted", slots=True)),
    row_class("Referable", slots=True, weakref_slot=True),
    row_class("FrozenReferable", slots=True, weakref_slot=True, frozen=True),
]
CONSTANTS = [
    *(0, None, "text", 2.5, b"bytes", 3j, range(3), (), Colour.RED, Colour.DEEP, Path("a"), np.float64(1)),
    *(Decimal(1), Fraction(1, 2), datetime(2026, 1, 2), UUID(int=1)),
]


def hashable(parts: list[Any]) -> Iterator[Any]:
    for part in parts:
        with suppress(TypeError):
            hash(part)
            yield part


#: What makes an object of some kind of its parts.
MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda parts: [*parts],
    "tuple": lambda parts: (*parts,),
    "dict": lambda parts: dict(enumerate(parts)),
    "dict of hashables": lambda parts: dict.fromkeys(hashable(parts)),
    "set": lambda parts: set(hashable(parts)),
    "frozenset": lambda parts: frozenset(hashable(parts)),
    "bytearray": lambda parts: bytearray(1 + len(parts)),
    "long list": lambda parts: [*parts, *range(40)],
    "list of the same": lambda parts: parts[:1] * 2,
    "deque": deque,
    "array": lambda parts: np.full([3, 5000][len(parts) % 2], 1),
    "view": lambda parts: np.full(6, 1)[::2],
    "array of objects": lambda parts: np.fromiter(parts, object, len(parts)),
    **{row.__name__: functools.partial(lambda row, parts: row(*parts[:2]), row) for row in ROWS},
}


def strongly(value: Any) -> Callable[[], Any]:
    return lambda: value


def weakly(value: Any) -> Callable[[], Any]:
    if isinstance(value, frozenset):
        raise TypeError("it never changes, and may live on")
    return weakref.ref(value)


#: What keeps hold of an object, or of part of it: gives what gets it again, or fails if it can't be done.
KEEPERS: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "closure": strongly,
    "cache": lambda value: functools.partial(functools.cache(lambda _: value), 0),
    "iterator": lambda value: repeat(value).__next__,
    "generator": lambda value: (value for _ in repeat(None)).__next__,
    "method": lambda value: functools.partial(getattr, value.__repr__, "__self__"),
    "weakly": weakly,
    "attributes": lambda value: strongly(value.__dict__),
    "part": lambda value: strongly(parts_of(value)[0]),
    "memory": lambda value: functools.partial(np.asarray, memoryview(value)),
}


def parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [*value]
    if isinstance(value, np.ndarray):
        return [*value] if value.dtype.hasobject else [value.base]
    return [getattr(value, name) for name in ("x", "y", "listed") if hasattr(value, name)]


def change(value: Any, mark: int, depth: int = 5) -> None:
    """Change an object, and what it is made of, as far as that can be done."""
    for part in parts_of(value) if depth else ():
        change(part, mark, depth - 1)
    if isinstance(value, list | deque):
        value.append(mark)
    elif isinstance(value, dict):
        value["x"] = mark
    elif isinstance(value, set):
        value.add(mark)
    elif isinstance(value, bytearray):
        value[:] = bytes([mark]) * len(value)
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        value[:] = mark
    elif hasattr(value, "x") and not isinstance(value, tuple):
        object.__setattr__(value, "x", mark)


class Program:
    """A function for a map: each call makes an object as planned, or returns one that was kept."""

    def __init__(self, steps: list[Plan]) -> None:
        self.steps = steps
        self.kept: list[Callable[[], Any]] = []

    def __call__(self, index: int) -> Any:
        for get in self.kept:
            change(get(), 100 + index)
        plan = self.steps[index]
        if self.kept and isinstance(plan, int):
            return self.kept[plan % len(self.kept)]()
        return self.make(plan)

    def make(self, plan: Plan) -> Any:
        if not isinstance(plan, tuple):
            return CONSTANTS[plan % len(CONSTANTS)]
        kind, keeper, parts = plan
        made = MAKERS[kind]([self.make(part) for part in parts])
        if keeper in KEEPERS:
            with suppress(AttributeError, IndexError, TypeError):
                self.kept.append(KEEPERS[keeper](made))
        return made


def told(values: list[Any]) -> list[str]:
    """What these results are, each told before and after it is changed: two share nothing."""
    texts = []
    for value in values:
        texts.append(repr(value))
        change(value, 99)
    return texts + [repr(value) for value in values]


KINDS = [*["none"] * 6, *MAKERS]
CHOICE_OF_KEEPERS = [*["none"] * len(KEEPERS), *KEEPERS]


def planned(numbers: Iterator[int], depth: int = 4) -> Plan:
    """The plan of which such numbers, at random, are the choices; zeros make it short."""
    kind = KINDS[next(numbers, 0) % len(KINDS)]
    if kind == "none" or not depth:
        return next(numbers, 0)
    keeper = CHOICE_OF_KEEPERS[next(numbers, 0) % len(CHOICE_OF_KEEPERS)]
    return kind, keeper, [planned(numbers, depth - 1) for _ in range(next(numbers, 0) % 4)]


@given(st.lists(st.binary(min_size=12, max_size=48), min_size=2, max_size=12))
@settings(CHOSEN, max_examples=3 * CHOSEN.max_examples)
def test_each_result_of_a_chunk_is_as_if_it_had_been_pickled_as_it_returned(choices: list[bytes]) -> None:
    lift_time_bound()
    steps = [planned(iter(each)) for each in choices]
    note(f"{steps = }")
    task = PicklingTask()
    with task.running():
        _, values, failures = task.arrived(run_chunk(Program(steps), range(len(steps))))
    expected = [*map(pickle.loads, map(pickle.dumps, map(Program(steps), range(len(steps)))))]
    assert failures is None
    assert told(values) == told(expected)
