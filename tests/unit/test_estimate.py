"""How long a kind of task is believed to run, and which tasks are of one kind."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, strategies as st

from offloop import Task
from offloop.scheduling import estimate
from offloop.scheduling.estimate import Kind, Kinds

SECONDS = st.floats(0, 1e4)


def test_nothing_is_known_before_the_first_measurement() -> None:
    kind = Kind()
    assert kind.seconds is None
    kind.record(0.25)
    assert kind.seconds == 0.25


def test_a_longer_duration_counts_for_half_and_a_shorter_one_for_a_tenth() -> None:
    kind = Kind()
    kind.record(1.0)
    kind.record(3.0)
    assert kind.seconds == 2.0
    kind.record(1.0)
    assert kind.seconds == pytest.approx(1.9)


@pytest.mark.parametrize("seconds", [math.nan, -math.inf, -1e-5])
def test_a_duration_that_makes_no_sense_is_not_believed(seconds: float) -> None:
    kind = Kind()
    kind.record(seconds)
    assert kind.seconds is None
    kind.record(0.25)
    kind.record(seconds)
    assert kind.seconds == 0.25


def test_a_task_that_ran_for_ever_is_believed_to_be_longer_than_the_others() -> None:
    kind = Kind()
    kind.record(math.inf)
    assert kind.seconds is None
    kind.record(0.25)
    kind.record(math.inf)
    assert kind.seconds == 0.25 * estimate.GROWTH + estimate.STEP


def test_one_long_duration_among_short_ones_is_not_believed_at_once() -> None:
    kind = Kind()
    kind.record(1e-6)
    kind.record(4e-3)  # the process lost its processor meanwhile
    assert kind.seconds == pytest.approx(28e-6)


@given(SECONDS)
def test_a_few_long_durations_are_believed(seconds: float) -> None:
    kind = Kind()
    kind.record(0.0)
    for _ in range(20):
        kind.record(seconds)
    assert kind.seconds == pytest.approx(seconds, rel=0.01)


@given(st.lists(SECONDS, min_size=1))
def test_the_estimate_stays_among_what_was_measured(durations: list[float]) -> None:
    kind = Kind()
    for seconds in durations:
        kind.record(seconds)
    assert kind.seconds is not None
    assert min(durations) * 0.999 <= kind.seconds <= max(durations) * 1.001


def test_the_estimate_follows_what_is_measured() -> None:
    kind = Kind()
    kind.record(1.0)
    for _ in range(100):
        kind.record(1e-6)
    assert kind.seconds == pytest.approx(1e-6, rel=0.1, abs=5e-5)
    for _ in range(20):
        kind.record(1.0)
    assert kind.seconds == pytest.approx(1.0, rel=0.01)


class Sleep(Task[None]):
    def run(self, environment: Any) -> None:
        """Do nothing."""


class Other(Sleep):
    pass


def test_tasks_of_one_class_are_one_kind() -> None:
    kinds = Kinds()
    assert kinds.of(Sleep) is kinds.of(Sleep)
    assert kinds.of(Sleep) is not kinds.of(Other)


def test_calls_of_one_function_are_one_kind() -> None:
    kinds = Kinds()
    assert kinds.of(dict.fromkeys) is kinds.of(dict.fromkeys)
    assert kinds.of(dict.fromkeys) is not kinds.of(int.from_bytes)
    assert kinds.of(len) is kinds.of(len)
    assert kinds.of(len) is not kinds.of(abs)


def test_lambdas_made_in_a_loop_are_one_kind() -> None:
    kinds = Kinds()
    found = {kinds.of(lambda number=number: number) for number in range(3)}
    assert len(found) == 1


def plain(number: int = 0) -> int:
    return number


class Caller:
    """A callable with data of its own."""

    def __call__(self) -> None:
        """Do nothing."""

    def method(self) -> None:
        """Do nothing."""


class OtherCaller(Caller):
    pass


def test_partials_are_of_the_kind_of_what_they_call() -> None:
    kinds = Kinds()
    assert kinds.of(partial(plain, 1)) is kinds.of(plain)
    assert kinds.of(partial(PartialOfOwn(plain), 1)) is kinds.of(plain)
    assert kinds.of(partial(len, "a")) is kinds.of(len)
    assert kinds.of(partial(len, "a")) is not kinds.of(partial(abs, 1))


class PartialOfOwn:
    """Callable through ``func``, as partials are."""

    def __init__(self, func: Any) -> None:
        self.func = func

    def __call__(self, *args: Any) -> Any:
        return self.func(*args)


def test_classes_and_callable_objects_are_a_kind_for_each_class() -> None:
    kinds = Kinds()
    assert kinds.of(Caller()) is kinds.of(Caller())
    assert kinds.of(Caller()) is not kinds.of(OtherCaller())
    assert kinds.of(int) is kinds.of(int)
    assert kinds.of(int) is not kinds.of(float)


def test_methods_are_a_kind_whatever_object_they_are_of() -> None:
    kinds = Kinds()
    assert kinds.of(Caller().method) is kinds.of(OtherCaller().method)
    assert kinds.of(Caller().method) is not kinds.of(Caller())


def closure_over(data: object) -> Callable[[], object]:
    return lambda: data


@pytest.mark.parametrize(
    "make",
    [closure_over, lambda data: data, lambda data: data.method, lambda data: partial(plain, data)],
    ids=["a closure", "a callable object", "a method", "a partial"],
)
def test_what_a_task_holds_is_not_kept_alive_for_its_kind(make: Callable[[Any], Any]) -> None:
    kinds = Kinds()
    data = Caller()
    kinds.of(make(data))
    gone = weakref.ref(data)
    del data
    assert gone() is None


def test_the_function_that_was_asked_for_last_is_looked_up_no_further() -> None:
    kinds = Kinds()
    for fn in (plain, len):
        first = kinds.of(fn)
        kinds._kinds.clear()
        assert kinds.of(fn) is first


def test_as_many_kinds_as_may_be_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "MAX_KINDS", 3)
    kinds = Kinds()
    functions: list[Any] = [len, abs, hash]
    first = [kinds.of(fn) for fn in functions]
    assert [kinds.of(fn) for fn in functions] == first
    kinds.of(repr)
    assert kinds.of(len) is not first[0]


def test_kinds_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "MAX_KINDS", 10)
    kinds = Kinds()
    for number in range(100):
        kinds.of(type(f"Task{number}", (Sleep,), {})())
    assert len(kinds._kinds) <= 10


def test_a_kind_is_not_mistaken_for_another_whose_code_is_gone() -> None:
    kinds = Kinds()
    seen = set()
    for number in range(50):  # each class would be freed, and its id used again
        seen.add(kinds.of(type(f"Task{number}", (Sleep,), {})()))
    assert len(seen) == 50


def test_methods_of_built_in_types_are_one_kind_however_often_they_are_looked_up() -> None:
    kinds, mapping = Kinds(), {1: 2}
    assert kinds.of("one".upper) is kinds.of("another".upper)
    assert kinds.of("one".upper) is not kinds.of("one".lower)
    assert kinds.of(mapping.get) is kinds.of({}.get)
    assert kinds.of(dict.fromkeys) is kinds.of(dict.fromkeys)
    assert kinds.of(dict.fromkeys) is not kinds.of(int.from_bytes)
    assert kinds.of(len) is kinds.of(len)
    assert kinds.of(len) is not kinds.of(abs)


def test_the_object_of_a_method_is_not_kept_alive() -> None:
    class Numbers(list[int]):
        pass

    kinds, numbers = Kinds(), Numbers([1])
    watched = weakref.ref(numbers)
    kinds.of(numbers.append)
    del numbers
    gc.collect()
    assert watched() is None


def test_a_class_that_does_not_bear_being_asked_is_a_kind_all_the_same() -> None:
    class Hostile(type):
        def __getattribute__(cls, name: str) -> Any:
            raise LookupError(name)

    kinds, numbers = Kinds(), Hostile("Numbers", (list,), {})([1])
    assert kinds.of(numbers.append) is kinds.of(numbers.append)
