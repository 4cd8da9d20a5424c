"""What a pool does when workers can't be started, in an event loop whose timers the test rings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from offloop.starts import KILLED_START, LONGEST_PAUSE, MAX_START_FAILURES, PAUSE, Starts

PROBLEM = OSError("no more processes")


class Helpers:
    """Stands for a scheduler: how many workers are ready, and how many are on their way."""

    def __init__(self, ready: int = 0, coming: int = 0) -> None:
        self.now = ready, coming
        self.held_off = False

    def helpers(self) -> tuple[int, int]:
        return self.now


class Timer:
    """What is to be called later."""

    is_cancelled = False

    def __init__(self, delay: float, ring: Callable[[], object]) -> None:
        self.delay, self.ring = delay, ring

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop(asyncio.AbstractEventLoop):
    """Warns at once, and keeps its timers."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        callback(*args)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        self.timers.append(Timer(delay, callback))
        return self.timers[-1]


class Tries:
    """Starts that fail."""

    def __init__(self, ready: int = 0, coming: int = 0) -> None:
        self.scheduler: Any = Helpers(ready, coming)
        self.loop = Loop()
        self.resumed = 0
        self.starts = Starts(self.scheduler, self._resume)

    def _resume(self) -> None:
        self.resumed += 1

    def fail(self, times: int = 1, *, killed: bool = False) -> list[bool]:
        """Let some fail; whether what waits fails with each."""
        return [self.starts.failed(self.loop, PROBLEM, killed=killed) for _ in range(times)]


def test_without_workers_what_waits_fails_with_the_third_in_a_row_again_and_again() -> None:
    tries = Tries()
    assert tries.fail(7) == [False, False, True, False, False, True, False]
    assert not tries.scheduler.held_off
    tries.starts.succeeded()
    assert tries.fail(3) == [False, False, True]
    assert not tries.loop.timers


def test_one_that_others_kill_counts_for_a_part() -> None:
    tries = Tries()
    enough = round(MAX_START_FAILURES / KILLED_START)
    assert tries.fail(enough, killed=True).index(True) == enough - 1


def test_those_on_their_way_decide() -> None:
    tries = Tries(coming=2)
    assert tries.fail(3) == [False, False, False]
    assert tries.scheduler.held_off
    tries.scheduler.now = 0, 1
    assert tries.fail() == [False]
    tries.scheduler.now = 0, 0
    assert tries.fail() == [True]
    assert not tries.scheduler.held_off
    assert not tries.loop.timers


def test_with_workers_it_goes_on_with_them_and_tries_again_later_and_ever_later() -> None:
    tries = Tries(ready=2)
    pauses: list[float] = []
    while pauses[-2:] != [LONGEST_PAUSE] * 2:
        assert not tries.scheduler.held_off
        with pytest.warns(
            RuntimeWarning, match=r"2 worker\(s\), as more can't be started: .*no more processes$"
        ):
            assert tries.fail(3) == [False, False, False]
        assert tries.scheduler.held_off
        timer = tries.loop.timers[-1]
        pauses.append(timer.delay)
        timer.ring()
        assert tries.resumed == len(pauses)
    assert pauses[:4] == [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE]
    tries.starts.succeeded()
    with pytest.warns(RuntimeWarning):
        tries.fail(3)
    assert tries.loop.timers[-1].delay == PAUSE


def test_there_is_one_timer_and_none_at_the_end() -> None:
    tries = Tries(ready=1)
    for _ in range(2):  # the second time a lease's worker has failed
        with pytest.warns(RuntimeWarning):
            tries.fail(3)
    tries.starts.cancel()
    tries.starts.cancel()
    assert [timer.is_cancelled for timer in tries.loop.timers] == [True, True]
