"""Lanes of a timeline: a worker's tasks side by side where they overlap."""

from __future__ import annotations


class Lanes:
    """Gives each of a worker's tasks a lane in which it overlaps no other.

    Tasks come in the order in which they end, so a lane is free for a task if
    the last one there had ended when this one started.
    """

    def __init__(self) -> None:
        self._ends: dict[int, list[float]] = {}  # by worker: when the last task of each slot ended
        self._lanes: dict[tuple[int, int], int] = {}

    def slot(self, worker: int, start: float, end: float) -> int:
        """Which of the worker's slots this task gets: 0 unless it overlaps another one."""
        ends = self._ends.setdefault(worker, [])
        for slot, free in enumerate(ends):
            if free <= start:
                ends[slot] = end
                return slot
        ends.append(end)
        return len(ends) - 1

    def lane(self, worker: int, slot: int) -> tuple[int, bool]:
        """The lane's number, from 1 on, and whether it is new."""
        key = worker, slot
        lane = self._lanes.get(key)
        if lane is not None:
            return lane, False
        lane = self._lanes[key] = len(self._lanes) + 1
        return lane, True
