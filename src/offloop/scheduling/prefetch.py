"""How much a worker may hold in advance, and what is taken back from it.

A worker holds several short tasks, so that it need not wait for the next one,
but never so many that one would wait behind a long one.  What is known to be
short is sent up to `TARGET` seconds of work; a task of a kind never measured
counts as `LONG`, so nothing is sent behind it; and what sits behind a task that
turned out long is recalled.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from offloop.scheduling.queue import T
from offloop.scheduling.state import WorkerState

#: Seconds of estimated work to keep in a worker's hand.
TARGET = 0.002
#: What handling a task costs beside running it, in seconds.
OVERHEAD = 5e-6
#: Tasks longer than this, in seconds, are not prefetched: a wake-up is nothing beside them.
LONG = 0.05
#: Tasks expected to take longer than this, in seconds, are not begun before all outcomes are sent: a
#: worker's rule, whose threshold (`offloop.child.runner.FLUSH_AFTER`) is not above this.
SHORT = 0.001
#: The most tasks in a hand.
MAX_HAND = 512
#: Seconds without progress after which tasks are recalled for an idle worker.
PATIENCE = 0.001
#: Seconds that an urgent task may wait behind others that were sent before it: what a hand holds as a rule.
BEARABLE = 2 * TARGET
#: Seconds between looks at workers that may have tasks to give back.
TICK = 0.002
#: The most seconds that a first task is expected to take: if it took less, its outcome may wait unsent.
EXPECTED_AT_MOST = 0.01
#: Seconds beyond what its task is expected to take, without progress, after which a worker
#: gets no more, and gives back what it has.
STALLED = 0.005


def has_room(worker: WorkerState[T], slots: int, now: float, latency: float = 0.0) -> bool:
    """Whether one more task may be sent to ``worker``, which runs ``slots`` at a time.

    What travels for ``latency`` seconds is missed no sooner, and as much work more is to be on its way.
    """
    held = len(worker.hand)
    if held < slots:
        return True
    if held >= MAX_HAND or worker.recalled or is_stuck(worker, now - worker.progress - latency):
        return False
    return worker.load < TARGET + latency or (held == slots and worker.load < LONG)


def fitting(worker: WorkerState[T], slots: int, cost: float, latency: float = 0.0) -> int:
    """How many tasks of ``cost`` seconds each may be sent before `has_room`, now true, is asked again."""
    held = len(worker.hand)
    if held < slots:
        return slots - held
    return max(ceil(min((TARGET + latency - worker.load) / cost, MAX_HAND - held)), 1)


def is_stuck(worker: WorkerState[T], silent: float) -> bool:
    """Whether a worker with tasks has ended none for longer than what it runs should take."""
    return silent > STALLED and silent > STALLED + next(iter(worker.hand.values())).cost


def patience_with(worker: WorkerState[T], slots: int, latency: float, *, has_helpers: bool) -> float:
    """For how many seconds a worker that holds more than it runs may be silent before it is looked at.

    Where no other worker could help, not before its first task should have ended.  As a rule it has
    nothing to say until then: outcomes wait unsent only behind a task that began after theirs, and was
    expected to be `SHORT`; and the first task in a hand is the first whose outcome has not come.

    Args:
        worker: it.
        slots: how many tasks it runs at a time; if several, their order says nothing.
        latency: seconds that tasks and outcomes travel.
        has_helpers: whether other workers have nothing to do.
    """
    if has_helpers or slots > 1:
        return PATIENCE + latency
    return min(next(iter(worker.hand.values())).cost, EXPECTED_AT_MOST) + PATIENCE + latency


def choose_recalls(
    ahead: Iterable[WorkerState[T]], slots: int, helpers: int, now: float, latency: float = 0.0
) -> list[tuple[WorkerState[T], list[T]]]:
    """What to take back from workers that hold more than they run.

    Args:
        ahead: those workers.
        slots: how many tasks a worker runs at a time.
        helpers: how many other workers have nothing to do, and nothing else to get.
        now: monotonic seconds.
        latency: seconds that tasks and outcomes travel.

    Returns:
        Tasks for each worker: half of what a silent one holds in advance, if
        another could run it; all of it, where the worker is stuck.  A task that
        must run there (a lease's, a key's) stays.
    """
    recalls: list[tuple[WorkerState[T], list[T]]] = []
    for worker in ahead:
        silent = now - worker.progress - latency
        if silent < PATIENCE or not ((stuck := is_stuck(worker, silent)) or helpers):
            continue
        movable = _movable(worker, slots)
        items = movable if stuck else movable[len(movable) // 2 :]
        if items:
            worker.recalled.update(item.id for item in items)
            recalls.append((worker, items))
    return recalls


def choose_less_urgent(
    ahead: Iterable[WorkerState[T]], slots: int, now: float, latency: float, priority: int, waiting: int
) -> list[tuple[WorkerState[T], list[T]]]:
    """What to take back from workers because something more urgent waits.

    Args:
        ahead: those that hold more than they run.
        slots: how many tasks a worker runs at a time.
        now: monotonic seconds.
        latency: seconds that tasks and outcomes travel.
        priority: of what waits.
        waiting: how many tasks of it do; so many workers are to have room for one.

    Returns:
        Tasks of a lower priority that have not started, for each worker, where they would take a while, by
        what is known now: when they were sent it may have been less.
    """
    recalls: list[tuple[WorkerState[T], list[T]]] = []
    for worker in ahead:
        if len(recalls) >= waiting:
            break
        items = [item for item in _movable(worker, slots) if item.priority < priority]
        seconds = sum(item.kind.seconds or 0.0 for item in items)
        if items and max(seconds, now - worker.progress - latency) > BEARABLE:
            worker.recalled.update(item.id for item in items)
            recalls.append((worker, items))
    return recalls


def _movable(worker: WorkerState[T], slots: int) -> list[T]:
    """What a worker holds in advance, may run elsewhere, and was not asked for yet."""
    behind = list(worker.hand.values())[slots:]
    return [i for i in behind if not i.pin and i.key is None and i.id not in worker.recalled]
