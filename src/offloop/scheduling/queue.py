"""The queue of tasks that wait for a worker: first in, first out within a priority."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from offloop.scheduling.estimate import Kind

if TYPE_CHECKING:
    from offloop.scheduling.state import WorkerState

#: Dead entries are swept out when there are this many, and more than live ones.
SWEEP = 1024
#: Empty lanes are dropped when there are this many, and more than others.
MOST_EMPTY = 64


class Item(Protocol):
    """What the scheduler sees of an enqueued task; it keeps ``queue``, ``worker`` and ``cost`` itself."""

    id: int
    key: Hashable
    pin: int
    priority: int
    kind: Kind
    cost: float
    queue: TaskQueue[Any] | None
    worker: WorkerState[Any] | None


T = TypeVar("T", bound=Item)


class TaskQueue(Generic[T]):
    """Items by priority, then in order; every operation takes constant time, amortised.

    Only a priority that no other item has takes a logarithm's.  An item that is
    discarded leaves for good: between others it stays behind as a dead entry (its
    ``queue`` is None), which is passed over later.  None is left when no others are:
    it would keep its task's arguments for as long as nothing else is enqueued.
    """

    def __init__(self) -> None:
        #: Where those of the usual priority, 0, are appended.
        self.usual: deque[T] = deque()
        self._lanes: dict[int, deque[T]] = {0: self.usual}
        # The priorities above and below the usual one, negated: heaps, whose first is the most urgent.
        self._above: list[int] = []
        self._below: list[int] = []
        self._unusual = 0  # how many entries have those
        self._emptied = 0  # how many of their lanes, at the most, are empty as all was discarded
        self._dead = 0

    def __len__(self) -> int:
        return len(self.usual) + self._unusual - self._dead

    def __bool__(self) -> bool:
        return len(self.usual) + self._unusual > self._dead

    def __iter__(self) -> Iterator[T]:
        for priority in sorted(self._lanes, reverse=True):
            yield from (item for item in self._lanes[priority] if item.queue is self)

    @property
    def lone(self) -> T | None:
        """The only item there is, if it is of the usual priority, and there are no dead entries."""
        usual = self.usual
        return usual[0] if len(usual) == 1 and not self._dead and not self._unusual else None

    @property
    def urgent(self) -> tuple[int, int] | None:
        """The highest priority that waits, and about how many have it; None where all have the usual one."""
        if not self._unusual:
            return None
        if lane := self._first(self._above):
            return -self._above[0], len(lane)
        if self.usual:
            return 0, len(self.usual)
        lane = self._first(self._below)
        return -self._below[0], len(lane)

    def push(self, item: T) -> None:
        """Add an item behind those of its priority."""
        item.queue = self
        self._lane(item.priority).append(item)

    def push_front(self, item: T) -> None:
        """Put an item back in front of those of its priority."""
        self._lane(item.priority).appendleft(item)
        item.queue = self

    def pop(self) -> T | None:
        """Take the next item, or None."""
        if self._above and (item := self._pop_unusual(self._above)) is not None:
            return item
        usual = self.usual
        while usual:
            item = usual.popleft()
            if item.queue is self:
                item.queue = None
                return item
            self._dead -= 1
        return self._pop_unusual(self._below) if self._below else None

    def _pop_unusual(self, order: list[int]) -> T | None:
        while lane := self._first(order):
            item = lane.popleft()
            self._unusual -= 1
            if item.queue is self:
                item.queue = None
                return item
            self._dead -= 1
        return None

    def pop_alike(self, model: T, most: int) -> list[T]:
        """Take up to ``most`` of the items that come next, while they are of the kind of ``model``.

        Args:
            model: the item that was taken last; theirs are its kind and priority, and no key.
            most: how many, at most.
        """
        run: list[T] = []
        lane, kind = self._lanes[model.priority], model.kind
        before = len(lane)
        while lane and len(run) < most:
            item = lane[0]
            if item.queue is self:
                if item.kind is not kind or item.key is not None:
                    break
                item.queue = None
                run.append(item)
            else:
                self._dead -= 1
            lane.popleft()
        if model.priority:
            self._unusual -= before - len(lane)
        return run

    def peek(self) -> T | None:
        """The next item, which stays; None if there is none."""
        item = self.pop()
        if item is not None:
            self.push_front(item)
        return item

    def discard(self, item: T) -> None:
        """Take out an item that is in this queue."""
        item.queue = None
        self._dead += 1
        self._trim(item.priority)
        if self._dead > SWEEP and self._dead > len(self):
            self._sweep()

    def _trim(self, priority: int) -> None:
        """Drop the dead entries at both ends of a lane."""
        lane = self._lanes[priority]
        before = len(lane)
        while lane and lane[-1].queue is not self:
            lane.pop()
        while lane and lane[0].queue is not self:
            lane.popleft()
        dropped = before - len(lane)
        self._dead -= dropped
        if priority:
            self._unusual -= dropped
            self._emptied += not lane
            if self._emptied > max(MOST_EMPTY, len(self._lanes) // 2):
                self._drop_empty_lanes()

    def _drop_empty_lanes(self) -> None:
        """Drop those that nothing was taken from, as all in them was discarded."""
        self._emptied = 0
        self._lanes = {at: lane for at, lane in self._lanes.items() if lane or not at}
        self._above = [-at for at in self._lanes if at > 0]
        self._below = [-at for at in self._lanes if at < 0]
        heapify(self._above)
        heapify(self._below)

    def _sweep(self) -> None:
        """Drop the dead entries; lanes that are left empty go as those do that are emptied otherwise."""
        for lane in self._lanes.values():
            live = [entry for entry in lane if entry.queue is self]
            lane.clear()
            lane.extend(live)
        self._dead = 0
        self._unusual = sum(map(len, self._lanes.values())) - len(self.usual)

    def _first(self, order: list[int]) -> deque[T]:
        """The lane that comes first of those with entries, an empty one without any; others are dropped."""
        lane: deque[T] = deque()
        while order and not (lane := self._lanes[-order[0]]):
            del self._lanes[-heappop(order)]  # priorities may be as many as tasks: a deadline, a size
        return lane

    def _lane(self, priority: int) -> deque[T]:
        """Where an entry of that priority, which is about to be made, belongs."""
        if not priority:
            return self.usual
        self._unusual += 1
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            heappush(self._above if priority > 0 else self._below, -priority)
        return lane
