"""The timer for looks at workers, on a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from offloop import lookout as module
from offloop.lookout import BUDGET, TOLERANCE, Lookout


class Looks:
    """When a look is wanted, and how many there were."""

    def __init__(self) -> None:
        self.due = 0.0
        self.count = 0

    def next_look(self, now: float) -> float:
        return self.due

    def look(self) -> None:
        self.count += 1


class Handle:
    """A timer that can be cancelled."""

    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Timers:
    """Stands for an event loop: keeps what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, object, Handle]] = []

    def call_later(self, delay: float, callback: object) -> Handle:
        self.calls.append((delay, callback, handle := Handle()))
        return handle

    @property
    def pending(self) -> list[float]:
        return [delay for delay, _, handle in self.calls if not handle.is_cancelled]

    def ring(self) -> None:
        _, callback, _ = self.calls.pop()
        assert callable(callback)
        callback()


@pytest.fixture
def timers() -> Iterator[Timers]:
    return Timers()


@pytest.fixture
def loop(timers: Timers) -> asyncio.AbstractEventLoop:
    return timers  # type: ignore[return-value]


def test_an_earlier_look_takes_the_place_of_a_later_one(
    timers: Timers, loop: asyncio.AbstractEventLoop
) -> None:
    looks = Looks()
    lookout = Lookout(looks.next_look, looks.look)
    looks.due = 50.0
    lookout.arm(loop, 10.0)
    assert timers.pending == [40.0]
    looks.due = 20.0
    lookout.arm(loop, 11.0)
    assert timers.pending == [40.0], "nobody is asked when there is no hurry"
    lookout.arm(loop, 11.0, hasten=True)
    assert timers.pending == [9.0]


def test_a_later_look_is_found_out_when_the_earlier_one_is_due(
    timers: Timers, loop: asyncio.AbstractEventLoop
) -> None:
    looks = Looks()
    lookout = Lookout(looks.next_look, looks.look)
    for looks.due in (20.0, 30.0, 20.0 - TOLERANCE / 2):
        lookout.arm(loop, 10.0, hasten=True)
    assert timers.pending == [10.0]
    timers.ring()
    assert looks.count == 1
    looks.due = 30.0
    lookout.arm(loop, 20.0)
    assert timers.pending == [10.0]


@pytest.mark.parametrize(("price", "polled"), [(0.0, "01234"), (0.4 * BUDGET, "012"), (2 * BUDGET, "0")])
def test_who_is_left_when_the_time_for_a_look_is_over_is_the_next_one_s_first(
    price: float, polled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(module, "monotonic", lambda: price * len(looked))
    looks = Looks()
    lookout = Lookout(looks.next_look, looks.look)
    silent = [*range(5)]

    def poll(worker: int, until: float) -> None:
        looked.append(worker)
        silent.sort(key=worker.__eq__)  # who has been looked at goes to the end

    lookout.look_at(silent[:], poll)
    assert looked == [*map(int, polled)]
    while len(looked) < 20:
        lookout.look_at(silent[:], poll)
    assert looked[:20] == [*range(5)] * 4


def test_who_is_left_and_has_said_something_meanwhile_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(module, "monotonic", lambda: 2 * BUDGET * len(looked))
    looks = Looks()
    lookout = Lookout(looks.next_look, looks.look)
    for silent in ("abc", "ac", "ac"):
        lookout.look_at(silent, lambda worker, until: looked.append(worker))
    assert looked == ["a", "c", "a"]
