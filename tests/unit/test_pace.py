"""How many tasks are sent in a turn of the event loop: fewer, where they take long to pickle."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from hypothesis import given, strategies as st

from offloop import WorkerPool
from offloop.maprun import CHUNKS_PER_WORKER
from offloop.scheduling.pace import MAX_PLAN, PLAN_TIME, Pace


def test_the_next_plan_takes_as_long_as_it_may() -> None:
    pace = Pace()
    pace.sent(60, 10 * PLAN_TIME)
    assert pace.most == 6
    pace.sent(6, 100 * PLAN_TIME)
    assert pace.most == 1, "one is always sent"


def test_it_recovers_when_tasks_are_small_again_or_it_was_somebody_else() -> None:
    pace = Pace()
    pace.sent(MAX_PLAN, 100 * PLAN_TIME)
    for _ in range(10):
        pace.sent(1, PLAN_TIME / 2)
    assert pace.most == MAX_PLAN


def test_a_plan_that_sends_nothing_says_nothing() -> None:
    pace = Pace()
    pace.sent(MAX_PLAN, MAX_PLAN * PLAN_TIME)
    for seconds in (0.0, 1.0):
        pace.sent(0, seconds)
        assert pace.most == 1


def test_where_it_is_to_be_the_same_each_time_nothing_is_measured() -> None:
    pace = Pace(measured=False)
    pace.sent(MAX_PLAN, 100.0)
    assert pace.most == MAX_PLAN


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 100)), max_size=20))
def test_it_stays_within_its_bounds(plans: list[tuple[int, float]]) -> None:
    pace = Pace()
    for count, seconds in plans:
        pace.sent(count, seconds)
        assert 1 <= pace.most <= 1000


class Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.count += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        """Count no more."""
        self._handle.cancel()


class Dear:
    """An argument that takes its time to pickle, and notes in which turn that was."""

    def __init__(self, turns: Turns, seen: list[int]) -> None:
        self.turns, self.seen = turns, seen

    def __reduce__(self) -> Any:
        deadline = perf_counter() + 2 * PLAN_TIME
        while perf_counter() < deadline:
            pass
        self.seen.append(self.turns.count)
        return int, ()


async def test_arguments_that_are_dear_to_pickle_are_sent_one_in_a_turn() -> None:
    seen: list[int] = []
    async with WorkerPool(2) as pool:
        await asyncio.gather(*[pool.submit(abs, number) for number in range(500)])  # known to be short
        turns = Turns()
        await asyncio.gather(*[pool.submit(abs, Dear(turns, seen)) for _ in range(2 * MAX_PLAN)])
        turns.stop()
    assert len(seen) >= 2 * MAX_PLAN  # more, if one was taken back and sent once more
    late = seen[MAX_PLAN:]  # by then it is known
    assert max(map(late.count, late)) == 1


async def test_rows_of_a_map_that_are_dear_to_pickle_go_alone() -> None:
    seen: list[int] = []
    async with WorkerPool(2) as pool:
        turns = Turns()
        rows = [Dear(turns, seen) for _ in range(100)]
        assert await pool.map(abs, rows) == [0] * 100
        turns.stop()
    assert len(seen) >= 100
    assert max(map(seen.count, seen)) <= 2 * CHUNKS_PER_WORKER, "the first ones, of which nothing is known"
