"""The scheduler: which task goes to which worker, and which workers there are.

Events are told to it (`add`, `worker_ready`, `finished`, ...), and `plan`
answers with what to do.  It never acts, waits or looks at a clock, so every
case can be tested without a worker.  README.md beside this file has the
argument why no task is lost or run twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from offloop.scheduling.prefetch import LONG, OVERHEAD, PATIENCE, choose_recalls, has_room
from offloop.scheduling.queue import T, TaskQueue
from offloop.scheduling.roster import Roster
from offloop.scheduling.state import (
    READY,
    RESERVED,
    RETIRING,
    STARTING,
    STOPPING,
    Limits,
    Loss,
    Plan,
    WorkerState,
)

#: The most tasks handed out by one plan, so that carrying it out holds the event loop briefly.
MAX_PLAN = 512


class Scheduler(Roster[T]):
    """Decides for one pool (or for one worker: a pool of one)."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._queue: TaskQueue[T] = TaskQueue()
        self._cut = False

    # -- what there is ----------------------------------------------------

    @property
    def queued(self) -> int:
        """How many tasks wait for a worker."""
        return len(self._queue) + sum(len(worker.pinned) for worker in self._pinned_waiting)

    @property
    def in_hand(self) -> int:
        """How many tasks workers hold."""
        return sum(len(worker.hand) for worker in self.workers.values())

    @property
    def prefetching(self) -> bool:
        """Whether a worker holds tasks that it does not run yet."""
        return bool(self._ahead)

    @property
    def would_start_at_once(self) -> bool:
        """Whether a task added now would not wait for another one."""
        if self._queue:
            return False
        return bool(self._idle) or self._living() < self.limits.max_workers

    @property
    def more(self) -> bool:
        """Whether a plan was cut short: ask again soon."""
        return self._cut

    def silent_workers(self, now: float) -> list[WorkerState[T]]:
        """Workers that hold more than they run, and have ended nothing for a while."""
        return [worker for worker in self._ahead if now - worker.progress >= PATIENCE]

    def waiting(self) -> list[T]:
        """Every task that waits for a worker, oldest first within its queue."""
        items = list(self._queue)
        for worker in self._pinned_waiting:
            items += worker.pinned
        return items

    # -- tasks --------------------------------------------------------------

    def add(self, item: T) -> None:
        """A task was enqueued."""
        if item.pin:
            self._pin(self.workers[item.pin], item)
        elif item.priority:
            self._queue.push(item)
        else:
            item.queue = queue = self._queue
            queue.usual.append(item)

    def put_back(self, items: Iterable[T]) -> None:
        """Tasks that were sent but did not start wait again, in front."""
        for item in sorted(items, key=lambda item: item.id, reverse=True):
            item.worker = None
            worker = self.workers.get(item.pin) if item.pin else None
            if worker is None:
                self._queue.push_front(item)
            else:
                worker.pinned.push_front(item)
                self._note_pinned(worker)

    def discard(self, item: T) -> None:
        """A waiting task was cancelled."""
        if item.queue is not None:
            item.queue.discard(item)

    def finished(self, worker: WorkerState[T], item: T, seconds: float | None, at: float) -> None:
        """A task that ``worker`` held ended after ``seconds``; at ``at`` on the monotonic clock."""
        hand = worker.hand
        del hand[item.id]
        if seconds is None:
            self._settle(worker, item)
            return
        item.kind.record(seconds)
        worker.load -= item.cost
        worker.progress = at
        if worker.recalled:
            worker.recalled.discard(item.id)
        if len(hand) <= self._slots:
            self._ahead.pop(worker, None)
            if not hand:
                self._emptied(worker, at)
        if worker.phase == READY:
            self._hungry[worker] = None

    def returned(self, worker: WorkerState[T], ids: Iterable[int]) -> list[T]:
        """``worker`` will not run these; they are out of its hand, for the shell to put back or drop."""
        items = [worker.hand.pop(id) for id in ids if id in worker.hand]
        for item in items:
            self._settle(worker, item)
        return items

    def _settle(self, worker: WorkerState[T], item: T) -> None:
        """Account for a task that left a hand without a measured duration."""
        worker.load = max(0.0, worker.load - item.cost)
        worker.recalled.discard(item.id)
        if len(worker.hand) <= self.limits.slots:
            self._ahead.pop(worker, None)
        if not worker.hand:
            self._emptied(worker, worker.progress)
        if worker.phase == READY:
            self._hungry[worker] = None

    def _emptied(self, worker: WorkerState[T], at: float) -> None:
        worker.load = 0.0
        if worker.recalled:
            worker.recalled.clear()
        if worker.phase == READY and not worker.pinned:
            self._idle[worker] = at
            # A result that came late may date it before the last plan.
            self._steady_until = min(self._steady_until, at + self.limits.idle_timeout)

    def _pin(self, worker: WorkerState[T], item: T) -> None:
        worker.pinned.push(item)
        self._note_pinned(worker)

    def _note_pinned(self, worker: WorkerState[T]) -> None:
        self._pinned_waiting[worker] = None
        self._idle.pop(worker, None)

    # -- workers --------------------------------------------------------------

    def worker_ready(self, worker: WorkerState[T], now: float) -> None:
        """A starting worker takes tasks from now on, unless it was retired or killed meanwhile."""
        self._steady_until = 0.0
        if worker.phase != STARTING:
            return
        if self.closing and not worker.pinned and not self._queue:
            worker.phase = RETIRING
            return
        worker.phase = READY
        worker.progress = now
        self.discouraged = False
        self._hungry[worker] = None
        if worker not in self._pinned_waiting:
            self._idle[worker] = now

    def worker_gone(self, worker: WorkerState[T], started: Iterable[int]) -> Loss[T]:
        """A worker ended; ``started`` are the tasks it had begun and not ended."""
        begun = set(started)
        running = [item for item in worker.hand.values() if item.id in begun]
        left = [item for item in worker.hand.values() if item.id not in begun]
        worker.hand.clear()
        while (item := worker.pinned.pop()) is not None:
            left.append(item)
        moved = [item for item in left if not item.pin]
        orphaned = [item for item in left if item.pin]
        self._forget(worker)
        self.put_back(moved)
        return Loss(running, moved, orphaned)

    # -- decisions --------------------------------------------------------------

    def plan(self, now: float) -> Plan[T]:
        """Decide; the scheduler's own state already counts what it returns as done."""
        dispatch: dict[WorkerState[T], list[T]] = {}
        self._cut = False
        if self._pinned_waiting:
            self._serve_pinned(dispatch, now)
        if self._queue and self._hungry:
            self._share_out(dispatch, now)
            if self._pinned_waiting:  # keyed tasks, which sharing out has sent to where their key lives
                self._serve_pinned(dispatch, now)
        start: list[WorkerState[T]] = []
        stop: list[WorkerState[T]] = []
        if self._queue or self._pinned_waiting or now >= self._steady_until:
            start = self._start_workers()
            stop = self._stop_workers(now)
            self._look_ahead(now)
        recall: list[tuple[WorkerState[T], list[T]]] = []
        if self._ahead and len(self.workers) > 1:
            helpers = 0 if self._queue else sum(not worker.leases for worker in self._idle)
            recall = choose_recalls(self._ahead, self.limits.slots, helpers, now)
        return Plan(start, list(dispatch.items()), recall, stop)

    def _serve_pinned(self, dispatch: dict[WorkerState[T], list[T]], now: float) -> None:
        for worker in list(self._pinned_waiting):
            while (
                worker.pinned
                and worker.phase in (READY, RETIRING)
                and has_room(worker, self.limits.slots, now)
            ):
                item = worker.pinned.pop()
                if item is not None:
                    self._hand_over(worker, item, dispatch.setdefault(worker, []), now)
            if not worker.pinned:
                del self._pinned_waiting[worker]
                if worker.is_idle:
                    self._idle[worker] = now

    def _share_out(self, dispatch: dict[WorkerState[T], list[T]], now: float) -> None:
        """Every empty hand gets one task, those without a lease first; then the rest is shared evenly."""
        for leased in (False, True):
            for worker in [w for w in reversed(self._idle) if bool(w.leases) is leased]:
                if leased and self._living() < self.limits.max_workers:
                    break  # a new worker is started instead
                if not self._give(worker, 1, dispatch, now):
                    return
        hungry = [worker for worker in self._hungry if not worker.leases]
        left = MAX_PLAN
        while self._queue and hungry and left > 0:
            quota = min(left, -(-len(self._queue) // len(hungry)))
            worker = hungry.pop(0)
            before = len(worker.hand)
            if not self._give(worker, quota, dispatch, now):
                return
            left -= len(worker.hand) - before
        self._cut = left <= 0

    def _give(
        self, worker: WorkerState[T], quota: int, dispatch: dict[WorkerState[T], list[T]], now: float
    ) -> bool:
        """Send up to ``quota`` tasks; False once the queue is empty."""
        items = dispatch.get(worker)
        pop = self._queue.pop
        while quota and worker.phase == READY and has_room(worker, self.limits.slots, now):
            item = pop()
            if item is None:
                return False
            if item.key is not None and not self._claim_key(worker, item):
                continue
            if items is None:
                items = dispatch[worker] = []
            self._hand_over(worker, item, items, now)
            quota -= 1
        if quota:
            self._hungry.pop(worker, None)
        return True

    def _claim_key(self, worker: WorkerState[T], item: T) -> bool:
        """Whether ``worker`` may have this keyed task now; else it waits at the worker of its key."""
        owner = self._bound.setdefault(item.key, worker)
        owner.keys.add(item.key)
        if owner is worker and not worker.pinned:
            return True
        self._pin(owner, item)  # behind those of its key that wait already
        return False

    def _hand_over(self, worker: WorkerState[T], item: T, items: list[T], now: float) -> None:
        seconds = item.kind.seconds
        if seconds is None:
            seconds = LONG  # so that nothing is sent behind it
        item.cost = cost = seconds + OVERHEAD
        worker.load += cost
        hand = worker.hand
        if not hand:
            worker.progress = now
            self._idle.pop(worker, None)
        hand[item.id] = item
        items.append(item)
        item.worker = worker
        if len(hand) > self.limits.slots:
            self._ahead[worker] = None
        worker.given += 1
        if worker.given == self.limits.max_tasks_per_worker:
            self.retire(worker)

    def _start_workers(self) -> list[WorkerState[T]]:
        reserved = [w for w in self.workers.values() if w.phase == RESERVED]
        for worker in reserved:
            self._forget_unused(worker)  # its tasks may have been cancelled
        start = [w for w in reserved if w.pinned]
        start += [] if self.closing else self._replacements()
        starting = sum(w.phase == STARTING for w in self.workers.values()) if self._queue else 0
        wanted = len(self._queue) - starting - sum(not w.pinned for w in start)
        living = self._living()
        floor = 0 if self.closing or self.discouraged else self.limits.min_workers - living
        new = min(max(wanted, floor), self.limits.max_workers - living)
        start += [self._new() for _ in range(new)]
        if wanted > new:  # a lease that was never used holds a place: its worker has to help
            unused = [w for w in reserved if w.phase == RESERVED and not w.pinned]
            start += unused[: wanted - max(new, 0)]
        for worker in start:
            worker.phase = RETIRING if worker.ending else STARTING
        return start

    def _replacements(self) -> list[WorkerState[T]]:
        """A new worker for each that retires, unless a lease took its place meanwhile."""
        retiring = [w for w in self.workers.values() if w.phase == RETIRING and w.replacement is None]
        room = self.limits.max_workers - self._living()
        replaced = retiring[: max(room, 0)]
        for worker in replaced:
            worker.replacement = self._new()
        return [worker.replacement for worker in replaced if worker.replacement is not None]

    def _stop_workers(self, now: float) -> list[WorkerState[T]]:
        stop = [w for w in self.workers.values() if w.phase == RETIRING and self._may_stop(w)]
        if self.closing and not self._queue:
            stop += [w for w in self.workers.values() if w.is_idle]
            for worker in [w for w in self.workers.values() if w.phase == RESERVED]:
                self._forget(worker)
        else:
            spare = self._living() - self.limits.min_workers
            due = [w for w, at in self._idle.items() if not w.leases and at + self.limits.idle_timeout <= now]
            stop += due[: max(spare, 0)]
        for worker in stop:
            worker.phase = STOPPING
            self._hungry.pop(worker, None)
            self._idle.pop(worker, None)
            self._unbind(worker)
        return stop

    def _may_stop(self, worker: WorkerState[T]) -> bool:
        if worker.hand or worker.pinned or (worker.leases and not self.closing):
            return False
        replacement = worker.replacement
        return self.closing or replacement is None or replacement.phase != STARTING
