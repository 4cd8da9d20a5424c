"""Large bytes are copied out of shared memory in slices, between which the event loop has its turns."""

from __future__ import annotations

import asyncio
import os
import signal
from math import inf
from typing import Any

import pytest

from offloop import CallableTask, WorkerKilled, WorkerPool
from offloop.child.layout import LONG
from offloop.contexts import fetching
from offloop.contexts.fetching import Fetches
from offloop.contexts.outbox import SLICE


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice of 1,000 bytes uses the budget up."""
    monkeypatch.setattr(fetching, "BUDGET", -1.0)
    monkeypatch.setattr(fetching, "SLICE", 1000)


def fetches() -> tuple[Fetches, list[Any]]:
    """Fetches, and what they deliver: None behind each."""
    delivered: list[Any] = []
    return Fetches(asyncio.get_running_loop(), lambda: delivered.append(None)), delivered


@pytest.mark.usefixtures("small_slices")
async def test_other_callbacks_run_between_the_slices() -> None:
    data = bytes(range(250)) * 80
    making, delivered = fetches()
    making.begin(memoryview(data), False, delivered.append)
    turns = 0
    while not delivered:
        await asyncio.sleep(0)
        turns += 1
    assert 18 <= turns <= 21
    assert delivered == [data, None]


@pytest.mark.usefixtures("small_slices")
async def test_one_after_the_other_each_of_its_type() -> None:
    making, delivered = fetches()
    sources = [bytes([number]) * (1_000 * number + 1) for number in (1, 2, 3)]
    for source in sources:
        making.begin(memoryview(source), source is sources[1], delivered.append)
    while len(delivered) < 6:
        await asyncio.sleep(0)
    assert delivered == [sources[0], None, sources[1], None, sources[2], None]
    assert [type(made) for made in delivered[::2]] == [bytes, bytearray, bytes]


@pytest.mark.usefixtures("small_slices")
async def test_who_needs_it_now_need_not_wait() -> None:
    making, delivered = fetches()
    for number in range(5):
        making.begin(memoryview(bytes([number]) * 5_000), False, delivered.append)
    making.advance(inf)
    assert [made[0] for made in delivered[::2]] == [0, 1, 2, 3, 4]
    await asyncio.sleep(0)  # for the turn that was due
    assert len(delivered) == 10


@pytest.mark.parametrize("is_mutable", [False, True])
@pytest.mark.usefixtures("small_slices")
async def test_its_source_is_let_go_of_at_the_end_or_when_it_is_given_up(is_mutable: bool) -> None:
    making, delivered = fetches()
    for is_given_up in (False, True):
        source = bytearray(10_000)
        making.begin(memoryview(source), is_mutable, delivered.append)
        if is_given_up:
            making.close()
        else:
            making.advance(inf)
        await asyncio.sleep(0)
        source.clear()  # which is refused while anything holds its memory
    assert len(delivered) == 2


@pytest.mark.usefixtures("small_slices")
async def test_an_interrupt_costs_a_turn_and_no_result() -> None:
    making, delivered = fetches()
    pending = [KeyboardInterrupt]

    def deliver(made: Any) -> None:
        if pending:
            raise pending.pop()
        delivered.append(made)

    data = bytes(500)
    with pytest.raises(KeyboardInterrupt):
        making.begin(memoryview(data), False, deliver)
    while not delivered:
        await asyncio.sleep(0)
    assert delivered == [data, None]


@pytest.mark.usefixtures("small_slices")
async def test_an_error_costs_that_one() -> None:
    making, delivered = fetches()
    with pytest.raises(ZeroDivisionError):
        making.begin(memoryview(bytes(500)), False, lambda _: 1 / 0)
    making.begin(memoryview(bytes(600)), False, delivered.append)
    while not delivered:
        await asyncio.sleep(0)
    assert len(delivered[0]) == 600


@pytest.mark.parametrize("size", [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE])
async def test_of_any_size(size: int) -> None:
    data = os.urandom(size)
    making, delivered = fetches()
    making.begin(memoryview(data), False, delivered.append)
    making.advance(inf)
    assert delivered[0] == data


def make(kind: type, size: int) -> Any:
    return kind(bytes([size % 251]) * size)


class Held:
    """Nothing is copied but for who has to have it now; until `resume`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._advance, self._turn = Fetches.advance, Fetches._turn
        self._waiting: list[Fetches] = []
        monkeypatch.setattr(Fetches, "_turn", lambda each: self._waiting.append(each))
        monkeypatch.setattr(Fetches, "advance", lambda each, until: self._advance_if_need_be(each, until))

    def _advance_if_need_be(self, each: Fetches, until: float) -> None:
        if until == inf:
            self._advance(each, until)

    async def begun(self) -> None:
        """Wait until there is something to copy."""
        while not self._waiting:
            await asyncio.sleep(0)

    def resume(self) -> None:
        """Copy as usual."""
        self._monkeypatch.undo()
        for each in self._waiting:
            self._turn(each)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Nothing is copied."""
    return Held(monkeypatch)


async def test_large_results_come_whole() -> None:
    async with WorkerPool(2) as pool:
        large = [pool.submit(make, kind, LONG + n) for n in range(3) for kind in (bytes, bytearray)]
        for n, made in enumerate(await asyncio.gather(*large)):
            assert type(made) is (bytes, bytearray)[n % 2]
            assert made == make(bytes, LONG + n // 2)


async def test_others_are_not_held_up(held: Held) -> None:
    async with WorkerPool(2) as pool:
        large = [pool.submit(make, kind, LONG + 1) for kind in (bytes, bytearray)]
        await held.begun()
        assert not any(execution.done() for execution in large)
        held.resume()  # and the pool that is left waits for them
    assert [len(execution.result()) for execution in large] == [LONG + 1] * 2


async def test_what_has_come_is_a_result_though_its_worker_dies(held: Held) -> None:
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        large = pool.submit(make, bytes, LONG + 1)
        await held.begun()
        assert not large.done()
        os.kill(pid, signal.SIGKILL)
        assert len(await large) == LONG + 1


async def test_what_has_come_is_no_timeout(held: Held) -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(make, bytes, 1)
        large = pool.enqueue(CallableTask(make, bytes, LONG + 1), timeout=0.5)
        await held.begun()
        assert len(await large) == LONG + 1


async def test_a_pool_that_is_killed_lets_go_of_it(held: Held) -> None:
    async with WorkerPool(1) as pool:
        large = pool.submit(make, bytes, LONG + 1)
        await held.begun()
        pool.kill()
        with pytest.raises(WorkerKilled):
            await large


async def test_one_that_is_cancelled_is_gone_and_others_come() -> None:
    async with WorkerPool(1) as pool:
        large = pool.submit(make, bytes, LONG + 1)
        await asyncio.sleep(0)
        large.cancel()
        await asyncio.wait([large])
        assert len(await pool.submit(make, bytes, LONG + 5)) == LONG + 5
