"""What a pool does when workers can't be started, in an event loop whose timers the test rings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from offloop import WorkerPool
from offloop.dispatcher import Dispatcher
from offloop.scheduling.state import WorkerState
from offloop.starts import KILLED_START, LONGEST_PAUSE, MAX_START_FAILURES, PAUSE, Starts

PROBLEM = OSError("no more processes")


class Helpers:
    """Stands for a scheduler: how many workers are ready, and how many are on their way."""

    def __init__(self, ready: int = 0, coming: int = 0) -> None:
        self.now = ready, coming
        self.held_off = self.discouraged = False

    def helpers(self) -> tuple[int, int]:
        return self.now

    def waiting_for_starts(self) -> list[str]:
        return ["shared", "leased"]


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
        self.leased: Any = SimpleNamespace(pinned=["leased"])

    def _resume(self) -> None:
        self.resumed += 1

    def fail(self, times: int = 1, *, killed: bool = False) -> list[bool]:
        """Let some fail; whether what waits fails with each."""
        return ["shared" in self.fail_leased(killed=killed) for _ in range(times)]

    def fail_leased(self, *, killed: bool = False) -> list[str]:
        """Let the worker of a lease fail; what fails with it."""
        return self.starts.failed(self.loop, self.leased, PROBLEM, killed=killed)

    def succeed(self, asked: float | None = None) -> None:
        """Let one be ready, for which was asked just now, or then."""
        self.starts.succeeded(self.loop, monotonic() if asked is None else asked)


def test_without_workers_what_waits_fails_with_the_third_in_a_row_again_and_again() -> None:
    tries = Tries()
    assert tries.fail(7) == [False, False, True, False, False, True, False]
    assert not tries.scheduler.held_off
    tries.succeed()
    assert tries.fail(3) == [False, False, True]
    assert not tries.loop.timers


def test_one_that_others_kill_counts_for_a_part() -> None:
    tries = Tries()
    enough = round(MAX_START_FAILURES / KILLED_START)
    assert tries.fail(enough, killed=True).index(True) == enough - 1


def test_those_on_their_way_are_waited_for_until_they_have_failed_too() -> None:
    tries = Tries(coming=2)
    assert tries.fail(3) == [False, False, False]
    assert tries.scheduler.held_off
    tries.scheduler.now = 0, 1
    assert tries.fail() == [False]
    tries.scheduler.now = 0, 0
    assert tries.fail() == [True]
    assert not tries.scheduler.held_off
    assert [timer.is_cancelled for timer in tries.loop.timers] == [True]


def test_but_others_are_tried_again_as_they_may_take_for_ever() -> None:
    tries = Tries(coming=1)
    for number in range(3):
        assert tries.fail(5) == [False] * 5
        assert len(tries.loop.timers) == number + 1
        tries.loop.timers[-1].ring()
        assert not tries.scheduler.held_off
        assert tries.resumed == number + 1


def test_with_workers_it_goes_on_with_them_and_tries_again_later_and_ever_later() -> None:
    tries = Tries(ready=2)
    pauses: list[float] = []
    while pauses[-2:] != [LONGEST_PAUSE] * 2:
        assert not tries.scheduler.held_off
        with pytest.warns(
            RuntimeWarning, match=r"2 worker\(s\), as no more can be started: .*no more processes$"
        ):
            assert tries.fail(3) == [False, False, False]
        assert tries.scheduler.held_off
        timer = tries.loop.timers[-1]
        pauses.append(timer.delay)
        timer.ring()
        assert tries.resumed == len(pauses)
    assert pauses[:4] == [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE]
    tries.succeed()
    with pytest.warns(RuntimeWarning):
        tries.fail(3)
    assert tries.loop.timers[-1].delay == PAUSE


def test_many_that_fail_at_once_are_one_failure() -> None:
    tries = Tries(ready=1)
    with pytest.warns(RuntimeWarning) as warnings:
        assert tries.fail(24) == [False] * 24
    assert len(warnings) == 1
    assert [timer.delay for timer in tries.loop.timers] == [PAUSE]
    tries.scheduler.now = 0, 0  # the one that was ready has died, and the next one does not start
    assert tries.fail() == [True]
    assert not tries.scheduler.held_off


def test_what_waits_for_a_worker_that_does_not_start_fails_where_others_go_on() -> None:
    tries = Tries(ready=1)
    assert [tries.fail_leased(), tries.fail_leased()] == [[], []]
    with pytest.warns(RuntimeWarning):
        assert tries.fail_leased() == ["leased"]
    assert not tries.scheduler.discouraged
    tries.scheduler.now = 0, 0
    assert tries.fail_leased() == ["shared", "leased"]
    assert tries.scheduler.discouraged


def test_one_that_was_under_way_when_others_failed_ends_no_pause_and_is_counted_in_the_warning() -> None:
    tries = Tries(coming=2)
    asked = monotonic()
    tries.fail(5)
    tries.scheduler.now = 1, 1
    tries.succeed(asked)
    tries.scheduler.now = 2, 0
    with pytest.warns(RuntimeWarning, match=r"goes on with 2 worker\(s\)") as warnings:
        tries.succeed(asked)
    assert len(warnings) == 1
    assert tries.scheduler.held_off
    tries.loop.timers[-1].ring()
    tries.succeed(asked)  # late
    with pytest.warns(RuntimeWarning):
        tries.fail(3)
    assert [timer.delay for timer in tries.loop.timers] == [PAUSE, 2 * PAUSE]


@pytest.mark.parametrize("end", [Tries.succeed, lambda tries: tries.starts.cancel()])
def test_a_pause_ends_at_once_when_one_has_started_or_the_pool_ends(end: Callable[[Tries], None]) -> None:
    tries = Tries(ready=1)
    with pytest.warns(RuntimeWarning):
        tries.fail(3)
    end(tries)
    end(tries)
    assert [timer.is_cancelled for timer in tries.loop.timers] == [True]
    assert not tries.scheduler.held_off
    assert not tries.resumed


def test_a_pool_that_is_forgotten_tries_no_more() -> None:
    with asyncio.Runner() as runner:
        pool = WorkerPool(2, factory="thread", min_workers=1)
        runner.run(_use(pool))
        dispatcher = pool._dispatcher
        with pytest.warns(RuntimeWarning):
            runner.run(_fail(dispatcher))
        assert dispatcher.scheduler.held_off
        with pytest.warns(ResourceWarning):
            del pool
        assert not dispatcher.scheduler.held_off
        runner.run(asyncio.sleep(0))
        assert not dispatcher.handles


async def _use(pool: WorkerPool) -> None:
    assert await pool.submit(len, "ab") == 2


async def _fail(dispatcher: Dispatcher) -> None:
    for _ in range(MAX_START_FAILURES):
        dispatcher.worker_not_started(WorkerState(2), PROBLEM)
    await asyncio.sleep(0)
