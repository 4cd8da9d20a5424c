"""Execution: the handle of one enqueued task."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher
    from offloop.protocols import TaskLike
    from offloop.scheduling.estimate import Kind
    from offloop.scheduling.queue import TaskQueue
    from offloop.scheduling.state import WorkerState

R = TypeVar("R")


class Execution(asyncio.Future[R]):
    """One enqueued task: an `asyncio.Future` of its result.

    Await it, or use it wherever a future goes (`asyncio.gather`, `asyncio.wait`,
    `asyncio.timeout`, a `asyncio.TaskGroup`'s tasks).  It is made by ``enqueue``
    and its siblings, never by hand.

    Cancelling it cancels the work: a task that has not started never runs; one
    that is running is interrupted, and the execution is done when the task has
    ended, as with an `asyncio.Task`.

    Attributes:
        task: the task.
        worker_id: the number of the worker that got it, within its pool; None while it waits.
    """

    # Also the scheduler's queue item: a second object a task would cost memory and time.
    __slots__ = (
        "_dispatcher",
        "_started",
        "cost",
        "id",
        "kind",
        "place",
        "queue",
        "task",
        "worker",
    )

    id: int
    task: TaskLike[R]
    kind: Kind
    cost: float
    queue: TaskQueue[Execution[Any]] | None
    place: int
    worker: WorkerState[Execution[Any]] | None
    _started: float
    _dispatcher: Dispatcher

    # What few tasks have is no slot: filling it would cost every task.
    key: Hashable = None
    pin: int = 0
    priority: int = 0
    retries: int = 0
    timeout: float | None = None
    #: Which attempt this is: more than 1 after a retry.
    attempt: int = 1
    #: Why it is being interrupted: "cancel" or "timeout".
    reason: str | None = None

    @property
    def worker_id(self) -> int | None:
        """The number of the worker that holds or ran the task; None while it waits."""
        worker = getattr(self, "worker", None)
        return worker.number if worker is not None else None

    @property
    def started_at(self) -> float | None:
        """When the task started to run, in seconds of `time.monotonic`; None before that."""
        started: float | None = getattr(self, "_started", None)
        if started is None and not self.done():
            return self._dispatcher.started_at(self)
        return started

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the task.

        Args:
            msg: passed on to the `asyncio.CancelledError`, where the task had not started.

        Returns:
            False if the execution has ended already; else True.  A task that
            was running may still end with a result, if it had one ready.
        """
        if self.done():
            return False
        return self._dispatcher.cancel(self, msg)

    def _cancel_now(self, msg: Any | None = None) -> bool:
        """End as cancelled, without regard to the worker."""
        return super().cancel(msg)
