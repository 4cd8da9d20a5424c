"""Worlds for tests of the scheduler to begin with."""

from __future__ import annotations

from typing import Any

from fakeworld import Item, World

from offloop.scheduling.estimate import Kind
from offloop.scheduling.state import Limits, WorkerState


def make_world(max_workers: int = 2, **limits: Any) -> World:
    return World(Limits(max_workers, **limits))


def known(seconds: float = 1e-5) -> Kind:
    kind = Kind()
    kind.record(seconds)
    return kind


def ready_world(max_workers: int = 2, **limits: Any) -> tuple[World, list[WorkerState[Item]]]:
    """A world whose workers have all started, and have nothing to do."""
    world = make_world(max_workers, **limits)
    for _ in range(max_workers):
        world.enqueue()
    world.drain()
    states = list(world.scheduler.workers.values())
    assert len(states) == max_workers
    return world, states


def hand(worker: WorkerState[Item]) -> list[int]:
    return list(worker.hand)


def finish(world: World, worker: WorkerState[Item], seconds: float = 0.0) -> None:
    """The worker runs its next task."""
    fake = world.workers[worker.number]
    fake.begin(world.now)
    world.now += seconds
    fake.finish(next(iter(fake.running)), world.now)
    world.hear(fake)
