"""The event loop stays awake for a moment while a short task is away, where that pays."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from offloop import ThreadWorkerFactory, WorkerPool, vigil
from offloop.child.receiving import LONGEST_REST, REST
from offloop.vigil import SHORT, SWITCH, Vigil


class Clock:
    """Stands, unless somebody yields the CPU."""

    def __init__(self) -> None:
        self.now = 0.0
        self.yields = 0
        self.seconds = 0.9 * SWITCH

    def yield_cpu(self) -> None:
        self.yields += 1
        self.now += self.seconds


class FakeLoop:
    """Calls back one after the other, when told to."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[..., object], *args: Any, context: object) -> None:
        self.ready.append(lambda: callback(*args))

    def run(self, turns: int) -> None:
        for _ in range(turns):
            ready, self.ready = self.ready, []
            for callback in ready:
                callback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(vigil, "monotonic", lambda: clock.now)
    monkeypatch.setattr(os, "sched_yield", clock.yield_cpu)
    monkeypatch.setattr(vigil, "_are_cpus_to_spare", lambda: True)
    return clock


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


async def keep(watch: Vigil, loop: Any, seconds: float | None = SHORT) -> asyncio.Future[Any]:
    sent = asyncio.get_running_loop().create_future()
    watch.keep(loop, sent, seconds)
    return sent


async def test_it_looks_until_the_task_is_back(clock: Clock, loop: FakeLoop) -> None:
    sent = await keep(Vigil(), loop)
    loop.run(3)
    assert clock.yields == 3
    sent.set_result(None)
    loop.run(2)
    assert clock.yields == 3
    assert not loop.ready


@pytest.mark.parametrize("seconds", [None, SHORT * 1.01])
async def test_what_may_take_long_is_not_looked_for(
    clock: Clock, loop: FakeLoop, seconds: float | None
) -> None:
    await keep(Vigil(), loop, seconds)
    assert not loop.ready


async def test_nobody_looks_where_there_is_one_cpu(
    clock: Clock, loop: FakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vigil, "_are_cpus_to_spare", lambda: False)
    await keep(Vigil(), loop)
    assert not loop.ready


@pytest.mark.parametrize(("seconds", "looks"), [(0.9 * SWITCH, 14), (SWITCH * 1.01, 1)])
async def test_who_has_looked_in_vain_or_lost_the_cpu_rests_for_twice_as_long_each_time(
    clock: Clock, loop: FakeLoop, seconds: float, looks: int
) -> None:
    watch = Vigil()
    clock.seconds = seconds
    rest = REST
    while rest < 2 * LONGEST_REST:
        clock.yields = 0
        await keep(watch, loop)
        loop.run(100)
        assert 0 < clock.yields <= looks
        for _ in range(min(rest, LONGEST_REST)):
            await keep(watch, loop)
            assert not loop.ready
        rest *= 2


async def test_a_look_that_pays_shortens_the_next_rest(clock: Clock, loop: FakeLoop) -> None:
    watch = Vigil()
    await keep(watch, loop)
    loop.run(100)
    for _ in range(REST):
        await keep(watch, loop)
    for _ in range(REST):
        sent = await keep(watch, loop)
        sent.set_result(None)
        loop.run(1)
    await keep(watch, loop)
    loop.run(100)
    assert watch._rests.left == REST


async def test_of_several_tasks_the_last_one_counts(clock: Clock, loop: FakeLoop) -> None:
    watch = Vigil()
    first = await keep(watch, loop)
    loop.run(1)
    second = await keep(watch, loop)
    first.set_result(None)
    assert len(loop.ready) == 1
    loop.run(3)
    assert loop.ready
    second.cancel()
    loop.run(1)
    assert not loop.ready
    assert watch._sent is None, "no task is kept alive"


@pytest.mark.parametrize(("factory", "looks"), [("process", True), (ThreadWorkerFactory(), False)])
async def test_a_pool_looks_for_short_tasks_of_processes(
    monkeypatch: pytest.MonkeyPatch, factory: Any, looks: bool
) -> None:
    kept: list[float] = []
    monkeypatch.setattr(Vigil, "keep", lambda self, loop, sent, seconds: kept.append(seconds))
    async with WorkerPool(1, factory=factory) as pool:
        for _ in range(20):
            await pool.submit(int)
    assert bool([each for each in kept if each is not None]) is looks
