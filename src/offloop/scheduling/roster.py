"""The workers of one pool: which there are, where each is in its life, and who leases it."""

from __future__ import annotations

from typing import Generic

from offloop.scheduling.prefetch import TICK, patience_with
from offloop.scheduling.queue import T
from offloop.scheduling.state import GONE, READY, RESERVED, RETIRING, STARTING, STOPPING, Limits, WorkerState

#: So many workers are started, or stopped, at once, at some 0.15 ms of the event loop's each; if there are
#: a hundred and more, a sixteenth of them.
MOST_AT_ONCE = 8


class Roster(Generic[T]):
    """The scheduler's workers, and the tables in which they stand by what they can do now.

    It is the scheduler's base, not a part of it: the tables change with every
    task, and one more step to reach them would cost every task.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._slots, self._latency = limits.slots, limits.latency
        self.workers: dict[int, WorkerState[T]] = {}
        self._closing = False
        #: Until then no worker needs to be started or stopped, unless something happens to one.
        self._steady_until = 0.0
        #: Not before then is it worth looking for tasks to take back.
        self._next_recall = 0.0
        self._hungry: dict[WorkerState[T], None] = {}  # an ordered set: who waits longest comes first
        self._pinned_waiting: dict[WorkerState[T], None] = {}
        self._idle: dict[WorkerState[T], float] = {}  # since when; the longest idle comes first
        self._ahead: dict[WorkerState[T], None] = {}  # those with more in hand than they run
        self._quiet: dict[WorkerState[T], None] = {}  # those of them that may keep an outcome back
        self._draining: dict[WorkerState[T], None] = {}  # those that retire, and have keys
        self._numbers = 0
        #: Whether starting fails: then no worker is started that no task waits for.
        self.discouraged = False
        #: Whether the last worker that was started ended before it was ready.
        self.start_failed = False
        self._held_off = False
        #: Whether the plan in hand leaves something to the next.
        self._cut = False

    @property
    def closing(self) -> bool:
        """Whether no more tasks will come: workers are stopped once they have nothing to do."""
        return self._closing

    @closing.setter
    def closing(self, closing: bool) -> None:
        self._closing = closing
        self._steady_until = 0.0

    @property
    def held_off(self) -> bool:
        """Whether starting fails: then none is started beside the workers that there are."""
        return self._held_off

    @held_off.setter
    def held_off(self, held_off: bool) -> None:
        self._held_off = held_off
        self._steady_until = 0.0

    def _look_ahead(self, now: float) -> None:
        """Find until when nothing needs to be started or stopped: a worker idle from now on is the next."""
        if not self._closing and all(worker.phase == READY for worker in self.workers.values()):
            next_idle = now + self.limits.idle_timeout
            deadline = self.idle_deadline()
            self._steady_until = next_idle if deadline is None else min(next_idle, deadline)

    # -- what there is ----------------------------------------------------

    @property
    def _has_others(self) -> bool:
        """Whether a task could run on another worker than the one that it was sent to."""
        return len(self.workers) > 1 or self._living() < self.limits.max_workers

    @property
    def worker_count(self) -> int:
        """How many workers run or are being started."""
        return sum(worker.phase != RESERVED for worker in self.workers.values())

    def running_numbers(self) -> list[int]:
        """The numbers of the workers that run or are being started, and will take more tasks."""
        return [w.number for w in self.workers.values() if w.phase in (STARTING, READY)]

    def helpers(self) -> tuple[int, int]:
        """How many workers could run what waits: that are ready, and that are being started."""
        phases = [worker.phase for worker in self.workers.values()]
        return phases.count(READY), phases.count(STARTING)

    @property
    def _is_held(self) -> bool:
        return self._held_off and any(self.helpers())

    @property
    def idle_workers(self) -> int:
        """How many workers are ready with nothing to do."""
        return len(self._idle)

    def idle_deadline(self) -> float | None:
        """When the longest idle worker may retire, or None if none will."""
        if not self._idle or self._living() <= self.limits.min_workers:
            return None
        since = min((at for worker, at in self._idle.items() if worker.may_idle_out), default=None)
        return None if since is None else since + self.limits.idle_timeout

    @property
    def is_watching(self) -> bool:
        """Whether to ask for `silent_workers` from time to time, though nothing happens."""
        return bool(self._watched)

    @property
    def _watched(self) -> dict[WorkerState[T], None]:
        """Those that hold more than they run, and could have something to say, or to give back to others.

        If there is nobody to take it, what they hold stays there until somebody
        has ended something, which is told at once.  A look would be in vain
        then, and it wakes the program: with tasks of 20 ms on as many workers
        as CPUs that took a hundredth of all time.
        """
        if self._idle or len(self.workers) < self.limits.max_workers:
            return self._ahead
        return self._quiet

    def silent_workers(self, now: float) -> list[WorkerState[T]]:
        """Workers that hold more than they run, and have ended nothing for longer than they should."""
        return [worker for worker in self._watched if now >= self._next_look_at(worker)]

    def next_look(self, now: float) -> float:
        """When to ask for `silent_workers` again, while it `is_watching`; not before a tick has passed."""
        if self._idle:
            return now + TICK
        return max(now + TICK, min(map(self._next_look_at, self._watched)))

    def _next_look_at(self, worker: WorkerState[T]) -> float:
        patience = patience_with(worker, self._slots, self._latency, has_helpers=bool(self._idle))
        return worker.progress + patience

    # -- their lives and leases -------------------------------------------

    def _some_of(self, workers: int) -> int:
        """How many of the workers that are to be started or stopped one plan sees to; the next goes on."""
        most = max(MOST_AT_ONCE, len(self.workers) // 16)  # each plan looks at all
        self._cut |= workers > most
        return min(workers, most)

    def retire(self, worker: WorkerState[T]) -> None:
        """Give ``worker`` no more shared tasks; once its hand is empty it is stopped."""
        self._steady_until = 0.0
        if worker.phase == RESERVED:
            worker.ending = True
            self._forget_unused(worker)
        elif worker.phase in (STARTING, READY):
            worker.phase = RETIRING
            self._hungry.pop(worker, None)
            self._idle.pop(worker, None)
        if worker.keys and worker.phase in (RESERVED, RETIRING):
            self._draining[worker] = None

    def dismiss(self, worker: WorkerState[T]) -> None:
        """`retire` a worker, even if others have leases on it."""
        worker.dismiss()
        self.retire(worker)

    def replace(self, worker: WorkerState[T]) -> None:
        """Start another worker in place of ``worker``, which works on until then, and retires."""
        if self._closing:
            return  # it helps to finish, and then ends as all do
        if worker.phase == READY:
            self._steady_until = 0.0
            worker.ending = True
        else:
            self.retire(worker)

    def _replacements(self) -> list[WorkerState[T]]:
        """A new worker for each that retires, unless a lease took its place meanwhile."""
        retiring = [w for w in self.workers.values() if w.replacement is None and w.is_to_be_replaced]
        room = max(self.limits.max_workers - self._living(), 0)
        replacements = [self._new() for _ in range(self._some_of(min(len(retiring), room)))]
        if self.start_failed:  # an unused lease that has a place is to show whether one can be started
            replacements += [w for w in self.workers.values() if w.may_help and w.leases]
        pairs = list(zip(retiring, replacements, strict=False))
        for worker, replacement in pairs:
            worker.replacement, replacement.replaces = replacement, True
        return [replacement for _, replacement in pairs]

    def _try_to_replace_again(self, replacement: WorkerState[T]) -> None:
        """A worker that was started in the place of another one is gone: that one works on until the next."""
        for worker in self.workers.values():
            if worker.replacement is replacement and worker.phase == READY:
                worker.replacement = None

    def _retire_replaced(self) -> None:
        """Retire workers that worked on until the one in their place was there, or a lease took the place."""
        for worker in [w for w in self.workers.values() if w.phase == READY and w.ending]:
            # Where starting fails, a lease that is yet to start its worker is no reason to go.
            is_alone = worker.replacement is None and self.start_failed and self.limits.has_spare
            if not is_alone and self._need_not_wait_for(worker.replacement):
                self.retire(worker)

    def _need_not_wait_for(self, replacement: WorkerState[T] | None) -> bool:
        return replacement is None or replacement.phase != STARTING or not self.limits.has_spare

    def _may_stop(self, worker: WorkerState[T]) -> bool:
        if worker.outstanding or (worker.leases and not (self.closing or worker.dismissed)):
            return False
        return self.closing or worker.dismissed or self._need_not_wait_for(worker.replacement)

    def condemn(self, worker: WorkerState[T]) -> None:
        """``worker`` was killed: it gets nothing more, and what it holds is settled by the shell."""
        self._steady_until = 0.0
        worker.phase = STOPPING
        for table in (self._hungry, self._idle, self._ahead, self._quiet, self._draining):
            table.pop(worker, None)

    def lease(self, now: float) -> WorkerState[T]:
        """Choose the worker for a lease: an idle one, a new one, or the one with the least to do."""
        free = [worker for worker in self._idle if not worker.leases and not worker.ending]
        if free:
            worker = free[-1]
        elif self._living() < self.limits.max_workers and not self._is_held:
            worker = self._new()
        else:
            ready = [worker for worker in self.workers.values() if worker.phase == READY]
            living = [worker for worker in self.workers.values() if worker.is_living]
            open_ = ready if ready and self._is_held else living
            worker = min(open_, key=lambda w: (w.ending, w.leases, w.outstanding, w.number))
        worker.leases += 1
        return worker

    def release(self, worker: WorkerState[T]) -> None:
        """A lease on ``worker`` ended."""
        self._steady_until = 0.0
        worker.leases -= 1
        self._forget_unused(worker)

    def _new(self) -> WorkerState[T]:
        self._steady_until = 0.0
        self._numbers += 1
        worker = self.workers[self._numbers] = WorkerState(self._numbers)
        return worker

    def _forget_unused(self, worker: WorkerState[T]) -> None:
        """Forget a reserved worker that nobody will use any more."""
        if worker.is_unused and (worker.dismissed or not worker.leases):
            self._forget(worker)

    def _reserve_again(self, worker: WorkerState[T]) -> None:
        """``worker`` did not start: what waits for it alone has it tried again; it retires if it was to."""
        self._steady_until = 0.0
        worker.ending |= worker.phase == RETIRING
        worker.phase = RESERVED
        self._unbind(worker)

    def _forget(self, worker: WorkerState[T]) -> None:
        self._steady_until = 0.0
        worker.phase = GONE
        self.workers.pop(worker.number, None)
        tables = self._hungry, self._idle, self._ahead, self._quiet, self._draining, self._pinned_waiting
        for table in tables:
            table.pop(worker, None)
        self._unbind(worker)

    def _unbind(self, worker: WorkerState[T]) -> None:
        """Its keys are free for another worker; see `Keys`."""
        raise NotImplementedError

    def _living(self) -> int:
        return sum(worker.is_living for worker in self.workers.values())
