"""The scheduler: which task goes to which worker, and which workers there are.

Events are told to it (`add`, `worker_ready`, `finished`, ...), and `plan`
answers with what to do.  It never acts, waits or looks at a clock, so every
case can be tested without a worker.  README.md beside this file has the
argument why no task is lost or run twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from offloop.scheduling.keys import Keys
from offloop.scheduling.pace import MAX_PLAN, Pace
from offloop.scheduling.prefetch import (
    LONG,
    OVERHEAD,
    PATIENCE,
    SHORT,
    choose_less_urgent,
    choose_recalls,
    fitting,
    has_room,
)
from offloop.scheduling.queue import T
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

#: A worker that is woken gets that many, if there are as many, and they are short.
MIN_DEAL = 64


class Scheduler(Keys[T]):
    """Decides for one pool (or for one worker: a pool of one)."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.pace = Pace(measured=limits.prefetch)
        self._prefetch = limits.prefetch

    # -- what there is ----------------------------------------------------

    @property
    def in_hand(self) -> int:
        """How many tasks workers hold."""
        return sum(len(worker.hand) for worker in self.workers.values())

    @property
    def would_start_at_once(self) -> bool:
        """Whether a task added now would not wait for another one."""
        held = self._is_held
        coming = sum(w.is_starting_for_nothing or (w.may_help and not held) for w in self.workers.values())
        room = 0 if held else self.limits.max_workers - self._living()
        return len(self.queue) < len(self._idle) + coming + max(room, 0)

    @property
    def more(self) -> bool:
        """Whether a plan was cut short: ask again soon."""
        return self._cut or self._moved >= MAX_PLAN

    # -- tasks --------------------------------------------------------------

    def add(self, item: T) -> None:
        """A task was enqueued."""
        if item.pin:
            self._pin(self.workers[item.pin], item)
        elif item.priority:
            self.queue.push(item)
        else:
            item.queue = queue = self.queue
            queue.usual.append(item)

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
            self._quiet.pop(worker, None)
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
            self._quiet.pop(worker, None)
        if not worker.hand:
            self._emptied(worker, worker.progress)
        if worker.phase == READY:
            self._hungry[worker] = None

    def _emptied(self, worker: WorkerState[T], at: float) -> None:
        worker.load = 0.0
        if worker.recalled:
            worker.recalled.clear()
        if worker.phase == READY and worker not in self._pinned_waiting:
            self._idle[worker] = at
            retires = at + self.limits.idle_timeout
            if retires < self._steady_until:  # noqa: PLR1730  # a call costs every task
                # a result that came late may date it before the last plan
                self._steady_until = retires

    # -- workers --------------------------------------------------------------

    def worker_ready(self, worker: WorkerState[T], now: float) -> None:
        """A starting worker takes tasks from now on, unless it was retired or killed meanwhile."""
        self._steady_until = 0.0
        worker.was_ready = True
        self.discouraged = self.start_failed = False
        if worker.phase != STARTING:
            return
        if self.closing and not worker.outstanding and not self.queue:
            self.retire(worker)
            return
        worker.phase = READY
        worker.progress = now
        self._hungry[worker] = None
        if worker not in self._pinned_waiting:
            self._idle[worker] = now

    def worker_gone(self, worker: WorkerState[T], started: Iterable[int]) -> Loss[T]:
        """A worker ended; ``started`` are the tasks it had begun and not ended.

        One that a lease holds, and that never was ready, is reserved again: nothing of its
        environment existed yet.
        """
        begun = set(started)
        has_failed = worker.phase in (STARTING, RETIRING) and not worker.was_ready
        stays = has_failed and bool(worker.leases or worker.pinned)
        if has_failed:
            self.start_failed = True
            self._try_to_replace_again(worker)
        running = [item for item in worker.hand.values() if item.id in begun]
        left = [item for item in worker.hand.values() if item.id not in begun]
        worker.hand.clear()
        for queue in (worker.keyed,) if stays else (worker.pinned, worker.keyed):
            while (item := queue.pop()) is not None:
                left.append(item)
        moved = [item for item in left if not item.pin]
        orphaned = [item for item in left if item.pin]
        (self._reserve_again if stays else self._forget)(worker)
        self.put_back(moved)
        return Loss(running, moved, orphaned)

    # -- decisions --------------------------------------------------------------

    def lone(self, now: float) -> tuple[WorkerState[T], T] | None:
        """Hand the one task that waits to a worker that has nothing to do, if that is all there is to decide.

        It decides what `plan` would, which looks at everything, in a fifth of
        the time: so it goes when requests come one at a time.

        Returns:
            The worker and the task, which is to be sent; or None: ask `plan`.
        """
        if now >= self._steady_until or self._ahead or self._draining or self.limits.max_tasks_per_worker:
            return None
        if self._pinned_waiting:
            return None if self.queue else self._lone_pinned(now)
        item = self.queue.lone
        if item is None or not self._idle:
            return None
        worker = self._bound.get(item.key) if item.key is not None else next(reversed(self._idle))
        # The one used last: its caches are warm.  One that a lease holds is for its keys alone.
        if worker not in self._idle or (worker.leases and item.key is None):
            return None
        self.queue.usual.clear()
        item.queue = None
        self._hand_over(worker, item, [], now)
        return worker, item

    def _lone_pinned(self, now: float) -> tuple[WorkerState[T], T] | None:
        """As `lone`, for a task of a lease's."""
        worker = next(iter(self._pinned_waiting))
        item = worker.pinned.lone
        if item is None or len(self._pinned_waiting) > 1 or not worker.is_free:
            return None
        worker.pinned.pop()
        del self._pinned_waiting[worker]
        self._hand_over(worker, item, [], now)
        return worker, item

    def plan(self, now: float) -> Plan[T]:
        """Decide; the scheduler's own state already counts what it returns as done."""
        dispatch: dict[WorkerState[T], list[T]] = {}
        self._cut = False
        self._moved = 0
        if self._draining:
            self._pass_on_keys()
        if self._pinned_waiting:
            self._serve_pinned(dispatch, now)
        recall: list[tuple[WorkerState[T], list[T]]] = []
        if self._ahead and (urgent := self.queue.urgent):  # before it is sent behind what is less so
            recall = choose_less_urgent(self._ahead, self._slots, now, self._latency, *urgent)
        if self.queue and self._hungry:
            self._share_out(dispatch, now)
            if self._pinned_waiting:  # keyed tasks, which sharing out has sent to where their key lives
                self._serve_pinned(dispatch, now)
        start: list[WorkerState[T]] = []
        stop: list[WorkerState[T]] = []
        if (
            now >= self._steady_until
            or self._pinned_waiting
            or (len(self.workers) < self.limits.max_workers and self.queue)
        ):
            start = self._start_workers()
            stop = self._stop_workers(now)
            self._look_ahead(now)
        if self._ahead and now >= self._next_recall and self._has_others:
            self._next_recall = now + PATIENCE / 2
            helpers = 0 if self.queue else sum(not worker.leases for worker in self._idle)
            recall += choose_recalls(self._ahead, self.limits.slots, helpers, now, self._latency)
        return Plan(start, list(dispatch.items()), recall, stop)

    def _serve_pinned(self, dispatch: dict[WorkerState[T], list[T]], now: float) -> None:
        slots, latency = self.limits.slots, self._latency
        for worker in list(self._pinned_waiting):
            takes = worker.takes_pinned
            while takes and has_room(worker, slots, now, latency):
                item = self._next_pinned(worker)
                if item is None:
                    break
                self._hand_over(worker, item, dispatch.setdefault(worker, []), now)
            if not worker.pinned and not worker.keyed:
                del self._pinned_waiting[worker]
                if worker.is_idle:
                    self._idle[worker] = now

    def _share_out(self, dispatch: dict[WorkerState[T], list[T]], now: float) -> None:
        """Empty hands first, those without a lease before the others; then whoever has room; evenly."""
        left = self.pace.most
        if self._idle:
            # The one used last comes first: its caches are warm.
            idle = [worker for worker in reversed(self._idle) if not worker.leases]
            if len(idle) < len(self._idle) and (self.held_off or self._living() >= self.limits.max_workers):
                idle += [worker for worker in reversed(self._idle) if worker.leases]
            # Waking a worker costs as much as a few short tasks: rather many for some; the others are next.
            left = self._deal(idle, left, max(MIN_DEAL, MAX_PLAN // max(len(idle), 1)), dispatch, now)
        if self.queue and left > 0:
            left = self._deal([w for w in self._hungry if not w.leases], left, MAX_PLAN, dispatch, now)
        self._cut = left <= 0 and bool(self.queue)

    def _deal(
        self,
        workers: list[WorkerState[T]],
        left: int,
        most: int,
        dispatch: dict[WorkerState[T], list[T]],
        now: float,
    ) -> int:
        """Deal up to ``left`` tasks evenly, to each worker ``most`` at most; returns how many are left."""
        sharers = len(workers)
        for worker in workers:
            if left <= 0 or self._moved >= MAX_PLAN or not self.queue:
                break
            before = len(worker.hand)
            self._give(worker, min(left, most, -(-len(self.queue) // sharers)), dispatch, now)
            left -= len(worker.hand) - before
            sharers -= 1
        return left

    def _give(
        self, worker: WorkerState[T], quota: int, dispatch: dict[WorkerState[T], list[T]], now: float
    ) -> None:
        """Send up to ``quota`` tasks, as long as there is room."""
        items = dispatch.get(worker)
        while quota and worker.phase == READY and has_room(worker, self._slots, now, self._latency):
            item = self.queue.pop()
            if item is None:
                return
            if item.key is not None and not self._claim_key(worker, item):
                if item.queue is self.queue or self._moved >= MAX_PLAN:  # the next plan goes on
                    return
                continue
            if items is None:
                items = dispatch[worker] = []
            quota -= self._hand_over(worker, item, items, now, quota)
        if quota:
            self._hungry.pop(worker, None)

    def _hand_over(self, worker: WorkerState[T], item: T, items: list[T], now: float, most: int = 1) -> int:
        """Send a task, and up to ``most`` in all of those alike behind it that fit; how many they are."""
        seconds = item.kind.seconds
        if seconds is None or not self._prefetch:
            seconds = LONG + self._latency  # so that nothing is sent behind it
        cost = seconds + OVERHEAD
        hand = worker.hand
        if not hand:
            worker.progress = now
            self._idle.pop(worker, None)
        run = [item]
        ever = self.limits.max_tasks_per_worker
        if most > 1:
            if ever is not None:
                most = min(most, ever - worker.given)
            run += self.queue.pop_alike(
                item, min(most, fitting(worker, self._slots, cost, self._latency)) - 1
            )
        for each in run:
            each.cost = cost
            each.worker = worker
            hand[each.id] = each
        items += run
        count = len(run)
        worker.load += cost * count
        worker.given += count
        if len(hand) > self._slots:
            self._ahead[worker] = None
            if cost <= SHORT or self._slots > 1:  # several overlap: any step of one may hold the others up
                self._quiet[worker] = None
        if worker.given == ever:
            self.retire(worker)
        return count

    def _start_workers(self) -> list[WorkerState[T]]:
        reserved = [w for w in self.workers.values() if w.phase == RESERVED]
        for worker in reserved:
            self._forget_unused(worker)  # its tasks may have been cancelled
        is_held = self._is_held
        start = [] if self.closing or is_held else self._replacements()
        called = [w for w in reserved if w.outstanding and w not in start]
        start += called[: self._some_of(len(called))]
        starting = sum(w.is_starting_for_nothing for w in self.workers.values()) if self.queue else 0
        starting += sum(not w.leases for w in self._idle) if self._cut else 0  # the next plan serves them
        wanted = len(self.queue) - starting - sum(not w.outstanding for w in start)
        living = self._living()
        floor = 0 if self.closing or self.discouraged else self.limits.min_workers - living
        new = 0 if is_held else min(max(wanted, floor), self.limits.max_workers - living)
        start += [self._new() for _ in range(self._some_of(new))]
        if wanted > new and not is_held:  # a lease that was never used holds a place: its worker has to help
            unused = [w for w in reserved if w.may_help and w not in start]
            start += unused[: wanted - max(new, 0)]
        for worker in start:
            worker.phase = RETIRING if worker.ending else STARTING
        return start

    def _stop_workers(self, now: float) -> list[WorkerState[T]]:
        if not self.closing and not self._is_held:
            self._retire_replaced()
        stop = [w for w in self.workers.values() if w.phase == RETIRING and self._may_stop(w)]
        if self.closing and not self.queue:
            stop += [w for w in self.workers.values() if w.is_idle or w.is_starting_for_nothing]
            for worker in [w for w in self.workers.values() if w.is_unused]:  # others start in the next plan
                self._forget(worker)
        else:
            spare = self._living() - self.limits.min_workers
            since = now - self.limits.idle_timeout
            due = [w for w, at in self._idle.items() if w.may_idle_out and at <= since]
            stop += due[: max(spare, 0)]
        del stop[self._some_of(len(stop)) :]
        for worker in stop:
            worker.phase = STOPPING
            self._hungry.pop(worker, None)
            self._idle.pop(worker, None)
            self._unbind(worker)
        return stop
