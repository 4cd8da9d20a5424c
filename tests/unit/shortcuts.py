"""Holds the scheduler's short way against its long one."""

from __future__ import annotations

from copy import deepcopy

from offloop.scheduling.queue import T
from offloop.scheduling.scheduler import Scheduler
from offloop.scheduling.state import Plan


def lone_plan(scheduler: Scheduler[T], now: float) -> Plan[T] | None:
    """What `Scheduler.lone` decides, as a plan, where it applies; it must be what `plan` would."""
    may_be = scheduler.queue.lone is not None or scheduler._pinned_waiting
    twin = deepcopy(scheduler) if may_be else None
    lone = scheduler.lone(now)
    if lone is None:
        return None
    worker, item = lone
    assert twin is not None
    plan = twin.plan(now)
    assert [(other.number, [i.id for i in items]) for other, items in plan.dispatch] == [
        (worker.number, [item.id])
    ]
    assert not any((plan.start, plan.recall, plan.stop, twin.more))
    return Plan([], [(worker, [item])], [], [])
