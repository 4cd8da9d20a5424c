"""The scheduler and many workers: one plan starts, or stops, a few, and the next ones see to the others."""

from __future__ import annotations

import pytest
from fakeworld import Item, World
from worlds import make_world, ready_world

from offloop.scheduling.roster import MOST_AT_ONCE
from offloop.scheduling.state import GONE, RESERVED


def test_many_workers_are_started_and_stopped_a_few_at_a_time() -> None:
    count = 3 * MOST_AT_ONCE + 1
    world = make_world(count)
    for _ in range(count):
        world.enqueue()
    started = []
    while plan := world.turn():
        started.append(len(plan.start))
        assert world.scheduler.more == (sum(started) < count)
    assert started == [MOST_AT_ONCE] * 3 + [1]
    world.drain()
    world.scheduler.closing = True
    stopped = []
    while sum(stopped) < count:
        stopped.append(len(world.turn().stop))
    assert stopped == [MOST_AT_ONCE] * 3 + [1]


def test_so_are_those_of_keys_and_leases_and_those_in_place_of_others() -> None:
    count = 2 * MOST_AT_ONCE
    world = make_world(count)
    for key in range(count):
        world.enqueue(key=str(key))
    for _ in range(count):
        world.enqueue(pin=world.lease().number)
    assert len(world.turn().start) <= MOST_AT_ONCE
    assert world.scheduler.more
    world.drain()
    world, workers = ready_world(count)
    for worker in workers:
        world.scheduler.replace(worker)
    assert len(world.turn().start) <= MOST_AT_ONCE
    world.drain()
    assert all(worker.phase == GONE for worker in workers)


def world_with_keys(count: int) -> tuple[World, list[Item]]:
    """A world whose only worker has a key, and leaves others to new ones: too many for one plan."""
    world = make_world(count)
    world.enqueue(key="first")
    world.drain()
    return world, [world.enqueue(key=str(key)) for key in range(count)]


@pytest.mark.parametrize("whose", ["lease", "key"])
def test_closing_drops_nothing_of_workers_whose_turn_to_start_is_yet_to_come(whose: str) -> None:
    count = 3 * MOST_AT_ONCE
    world, items = world_with_keys(count)
    if whose == "lease":
        world = make_world(count)
        items = [world.enqueue(pin=world.lease().number) for _ in range(count)]
    world.turn()
    assert any(worker.phase == RESERVED for worker in world.scheduler.workers.values())
    world.close()
    world.drain()
    assert [item.outcome for item in items] == ["done"] * count
    assert not world.scheduler.workers


def test_closing_forgets_leases_that_were_never_used() -> None:
    world = make_world(2)
    unused, used = world.lease(), world.lease()
    item = world.enqueue(pin=used.number)
    world.close()
    world.turn()
    assert unused.phase == GONE
    world.drain()
    assert item.outcome == "done"


@pytest.mark.parametrize("is_kill", [True, False])
def test_keys_of_a_worker_that_is_ended_before_its_turn_to_start_go_elsewhere(is_kill: bool) -> None:
    count = 2 * MOST_AT_ONCE
    world, items = world_with_keys(count)
    world.turn()
    reserved = [worker for worker in world.scheduler.workers.values() if worker.phase == RESERVED]
    assert any(worker.keyed for worker in reserved)
    leases = [world.lease() for _ in range(count)]
    for worker in leases:
        world.release(worker)
        if worker in reserved:
            world.kill_worker(worker) if is_kill else world.retire(worker, dismiss=True)
    world.turn()
    assert {worker.phase for worker in reserved} == {GONE}, "nothing is left for them to run"
    world.drain()
    assert [item.outcome for item in items] == ["done"] * count
