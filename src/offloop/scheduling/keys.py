"""Which worker each key belongs to, and what waits for one very worker.

Tasks with equal keys go to the same worker, so that its environment is a warm
cache.  README.md beside this file has the argument why they never run on two
workers at a time, and why a worker that retires is not kept alive by its keys.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic
from weakref import WeakValueDictionary

from offloop.scheduling.queue import Item, T, TaskQueue
from offloop.scheduling.roster import Roster
from offloop.scheduling.state import READY, RETIRING, Limits, WorkerState


class Key:
    """Stands for all equal keys of the user's, and is equal to none but itself."""

    __slots__ = ("__weakref__",)


class Keys(Roster[T], Generic[T]):
    """What waits, and where; the scheduler's base, for the reason that `Roster` is."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.queue: TaskQueue[T] = TaskQueue()
        self._bound: dict[Hashable, WorkerState[T]] = {}
        #: For as long as a task or a worker has them.
        self._keys: WeakValueDictionary[Hashable, Key] = WeakValueDictionary()
        #: How many tasks the plan in hand has moved to the workers of their keys.
        self._moved = 0

    @property
    def queued(self) -> int:
        """How many tasks wait for a worker."""
        return len(self.queue) + sum(len(w.pinned) + len(w.keyed) for w in self._pinned_waiting)

    def waiting(self) -> list[T]:
        """Every task that waits for a worker, oldest first within its queue."""
        items = list(self.queue)
        for worker in self._pinned_waiting:
            items += (*worker.pinned, *worker.keyed)
        return items

    def waiting_for_starts(self) -> list[T]:
        """Those of them that only a new worker could run: one that retires runs what is pinned to it."""
        retiring = [worker for worker in self._pinned_waiting if worker.phase == RETIRING]
        kept = {item.id for worker in retiring for item in worker.pinned}
        return [item for item in self.waiting() if item.id not in kept]

    def interned(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """A task's options, with a `Key` in place of its key.

        A key's ``__hash__`` and ``__eq__`` are the user's code.  They are called here, where
        what they raise is the caller's, and not in the middle of a plan, which would be lost.
        """
        key = options.get("key")
        return options if key is None else {**options, "key": self._keys.setdefault(key, Key())}

    def put_back(self, items: Iterable[T]) -> None:
        """Tasks that were sent but did not start wait again, in front."""
        for item in sorted(items, key=lambda item: item.id, reverse=True):
            item.worker = None
            worker = self.workers.get(item.pin) if item.pin else None
            if worker is None:
                self.queue.push_front(item)
            else:
                worker.pinned.push_front(item)
                self._note_pinned(worker)

    def _pin(self, worker: WorkerState[T], item: T) -> None:
        (worker.pinned if item.pin else worker.keyed).push(item)
        self._note_pinned(worker)

    def _note_pinned(self, worker: WorkerState[T]) -> None:
        self._pinned_waiting[worker] = None
        self._idle.pop(worker, None)

    def _next_pinned(self, worker: WorkerState[T]) -> T | None:
        """Take the next task that waits for this very worker; one that retires runs no more of its keys'."""
        if worker.phase != READY or not worker.keyed:
            return worker.pinned.pop()
        first, second = worker.pinned.peek(), worker.keyed.peek()
        if first is None or (second is not None and _rank(second) < _rank(first)):
            return worker.keyed.pop()
        return worker.pinned.pop()

    def _claim_key(self, worker: WorkerState[T], item: T) -> bool:
        """Whether ``worker`` may have this task now; else it waits where its key lives, or in the queue."""
        owner = self._bound.get(item.key)
        if owner is None:
            owner = self._home_for_new_key(worker)
            if owner is None:
                self.queue.push_front(item)
                return False
            self._bound[item.key] = owner
            owner.keys.add(item.key)
        if owner is worker and not worker.keyed:
            return True
        self._pin(owner, item)  # behind those of its key that wait already
        self._moved += 1
        return False

    def _home_for_new_key(self, worker: WorkerState[T]) -> WorkerState[T] | None:
        """Where a new key shall live, whose first task ``worker`` could be sent now.

        Keys of one worker wait for each other.  So it goes to whom has the fewest of those that
        have nothing to do; and while each has some, to a new worker where there may be one, or
        to one that is being started and has none.  Never behind another task, which may turn
        out to be long: None means that it waits.
        """
        if self.limits.max_workers == 1:
            return worker
        homes = [each for each in self._idle if not each.leases and not each.ending]
        if worker.outstanding < self._slots:
            homes.insert(0, worker)
        home = min(homes, key=lambda each: len(each.keys), default=None)
        if (home is not None and not home.keys) or not self._may_wait_for_start():
            return home
        if self._living() < self.limits.max_workers:
            return self._new()
        return next(filter(_is_coming_free, self.workers.values()), home)

    def _may_wait_for_start(self) -> bool:
        """Whether a task may wait for a worker to be started; on a cluster there may be no place."""
        return not (self.closing or self.start_failed or self._is_held) and self.limits.has_spare

    def _pass_on_keys(self) -> None:
        """Let keys of workers that retire go, once none of their tasks is in hand; what waits goes along."""
        for worker in list(self._draining):
            if any(item.key is not None and not item.pin for item in worker.hand.values()):
                continue
            del self._draining[worker]
            heir = worker.replacement
            if heir is not None and heir.is_living:
                self._bequeath(worker, heir)
                continue
            self._unbind(worker)
            self.put_back(_emptied(worker.keyed))

    def _bequeath(self, worker: WorkerState[T], heir: WorkerState[T]) -> None:
        """Give all keys of one worker, and what waits for them, to another."""
        for key in worker.keys:
            self._bound[key] = heir
        heir.keys |= worker.keys
        worker.keys = set()
        # No key waits in both, so either queue may come first: moving the shorter one
        # costs as good as nothing, where the heir is new.
        shorter, longer = sorted((worker.keyed, heir.keyed), key=len)
        worker.keyed, heir.keyed = shorter, longer
        for item in _emptied(shorter):
            longer.push(item)
        if longer:
            self._note_pinned(heir)

    def _unbind(self, worker: WorkerState[T]) -> None:
        """Its keys are free for another worker: it holds none of their tasks, and gets no more."""
        for key in worker.keys:
            del self._bound[key]
        worker.keys.clear()


def _is_coming_free(worker: WorkerState[Any]) -> bool:
    """Whether it is being started, and nobody has a claim on it."""
    return worker.is_starting_for_nothing and not worker.keys and not worker.leases and not worker.ending


def _emptied(queue: TaskQueue[T]) -> list[T]:
    """Take everything out of a queue."""
    items: list[T] = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def _rank(item: Item) -> tuple[int, int]:
    """Where a task stands among others: by priority, then in order."""
    return -item.priority, item.id
