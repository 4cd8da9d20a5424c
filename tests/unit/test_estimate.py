"""How long a kind of task is believed to run, and which tasks are of one kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from offloop import CallableTask, Task
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
    assert kinds.of(Sleep()) is kinds.of(Sleep())
    assert kinds.of(Sleep()) is not kinds.of(Other())


def test_calls_of_one_function_are_one_kind() -> None:
    kinds = Kinds()
    assert kinds.of(CallableTask(len, "a")) is kinds.of(CallableTask(len, "b"))
    assert kinds.of(CallableTask(len, "a")) is not kinds.of(CallableTask(abs, 1))


def test_lambdas_made_in_a_loop_are_one_kind() -> None:
    kinds = Kinds()
    found = {kinds.of(CallableTask(lambda number=number: number)) for number in range(3)}
    assert len(found) == 1


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
