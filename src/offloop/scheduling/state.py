"""What the scheduler knows of a worker, and what it wants done."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple

from offloop.scheduling.queue import T, TaskQueue

#: A worker's life: reserved (nothing runs yet), starting, ready, retiring
#: (gets no more tasks), stopping (was told to finish), gone.
RESERVED, STARTING, READY, RETIRING, STOPPING, GONE = range(6)
PHASES = ("reserved", "starting", "ready", "retiring", "stopping", "gone")


class WorkerState(Generic[T]):
    """One worker, as the scheduler sees it.

    Attributes:
        number: its number within the pool, from 1 on.
        phase: where it is in its life.
        hand: the tasks sent to it and not ended, in the order they were sent.
        load: their estimated running time together, in seconds.
        pinned: a lease's tasks, which wait for this very worker.
        keyed: tasks that wait for it because their key belongs to it.
        keys: the keys that belong to it.
        leases: how many leases hold it.
        given: how many tasks it was ever sent.
        progress: when it last ended a task, or was sent one while it had none.
        recalled: ids in its hand that it was asked to give back.
        replacement: the worker that was started in its place.
        replaces: whether it was started in the place of another one.
        ending: whether it is to retire: as soon as it has started, to run what waits for
            it; or, once ready, as soon as its replacement has started.
        dismissed: whether it is to end though leases hold it.
        was_ready: whether it ever was.
    """

    __slots__ = (
        "dismissed",
        "ending",
        "given",
        "hand",
        "keyed",
        "keys",
        "leases",
        "load",
        "number",
        "phase",
        "pinned",
        "progress",
        "recalled",
        "replacement",
        "replaces",
        "was_ready",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.phase = RESERVED
        self.hand: dict[int, T] = {}
        self.load = 0.0
        self.pinned: TaskQueue[T] = TaskQueue()
        self.keyed: TaskQueue[T] = TaskQueue()
        self.keys: set[Hashable] = set()
        self.leases = 0
        self.given = 0
        self.progress = 0.0
        self.recalled: set[int] = set()
        self.replacement: WorkerState[T] | None = None
        self.replaces = False
        self.ending = self.dismissed = self.was_ready = False

    def dismiss(self) -> None:
        """It is to end though leases hold it; of one that has ended this says nothing."""
        self.dismissed |= self.phase != GONE

    @property
    def is_living(self) -> bool:
        """Whether it counts among the workers that a pool may have: it takes tasks, or will."""
        return self.phase <= READY and not self.ending

    @property
    def is_idle(self) -> bool:
        """Ready, with nothing in hand and nothing waiting for it alone."""
        return self.phase == READY and not self.outstanding

    @property
    def is_free(self) -> bool:
        """Ready, with nothing in hand; something may wait for it alone, but not for its keys."""
        return self.phase == READY and not self.hand and not self.keyed

    @property
    def is_unused(self) -> bool:
        """Reserved, with nothing that waits for it: nobody misses it, but a lease that may use it yet."""
        return self.phase == RESERVED and not self.outstanding

    @property
    def may_help(self) -> bool:
        """Reserved for a lease that does not use it, so that it may be started for others' tasks."""
        return self.is_unused and not self.ending

    @property
    def is_starting_for_nothing(self) -> bool:
        """Starting, with nothing that waits for it alone."""
        return self.phase == STARTING and not self.outstanding

    @property
    def outstanding(self) -> int:
        """How many tasks it holds, or that wait for it alone."""
        return len(self.hand) + len(self.pinned) + len(self.keyed)

    @property
    def is_to_be_replaced(self) -> bool:
        """Whether another worker is to be started in its place."""
        return self.phase == RETIRING or (self.phase == READY and self.ending)

    @property
    def takes_pinned(self) -> bool:
        """Whether it is sent what waits for it alone; one that retires gets that too, once it is ready."""
        return self.phase == READY or (self.phase == RETIRING and self.was_ready)

    @property
    def may_idle_out(self) -> bool:
        """Whether it may retire just because it has been idle for long."""
        return not self.leases and not self.ending

    def __repr__(self) -> str:
        return f"<WorkerState {self.number} {PHASES[self.phase]} hand={len(self.hand)} leases={self.leases}>"


class Plan(NamedTuple, Generic[T]):
    """What the shell is to do now, in this order."""

    start: list[WorkerState[T]]
    dispatch: list[tuple[WorkerState[T], list[T]]]
    recall: list[tuple[WorkerState[T], list[T]]]
    stop: list[WorkerState[T]]

    @property
    def tasks(self) -> int:
        """How many tasks are to be sent."""
        return sum([len(items) for _, items in self.dispatch])

    def __bool__(self) -> bool:
        return bool(self.start or self.dispatch or self.recall or self.stop)


class Loss(NamedTuple, Generic[T]):
    """What a worker's end did to the tasks it held.

    Attributes:
        running: tasks it was running; they fail, or are tried again.
        moved: tasks it had not begun; they are back in the queue.
        orphaned: tasks that waited for this very worker through a lease.
    """

    running: list[T]
    moved: list[T]
    orphaned: list[T]


class Limits(NamedTuple):
    """The scheduler's options; see `offloop.WorkerPool`.

    Attributes:
        max_workers, min_workers: how many workers may, and shall, live.
        idle_timeout: seconds after which an idle worker above the minimum retires.
        max_tasks_per_worker: tasks after which a worker is replaced, or None.
        slots: how many tasks a worker runs at a time (a factory's ``concurrency``).
        prefetch: whether a worker may hold more tasks than it runs, where they are short.
        has_spare: whether there is room for a worker beside the one that it replaces.
        latency: seconds that a task and its outcome travel, where that is worth a thought.
    """

    max_workers: int
    min_workers: int = 0
    idle_timeout: float = 60.0
    max_tasks_per_worker: int | None = None
    slots: int = 1
    prefetch: bool = True
    latency: float = 0.0
    has_spare: bool = True
