"""WorkerPool: a worker that spreads its tasks over many.

The module is not called ``pool``, which would hide the function `offloop.pool`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any, overload

from offloop.calls import P, R, task_of
from offloop.checks import as_int, as_int_or_none, check_seconds
from offloop.contexts import resolve_factory
from offloop.cpus import usable_cpus
from offloop.dispatcher import OPEN, Dispatcher
from offloop.errors import WorkerError
from offloop.execution import Execution
from offloop.lease import LeasedWorker
from offloop.policy import Policy
from offloop.protocols import TaskLike
from offloop.scheduling.state import Limits
from offloop.task import Task
from offloop.worker import Worker, WorkerFactory

# The default context: else its import would be part of the first pool's start.
import_module("offloop.contexts.process")


async def _results(execution: Execution[Any]) -> list[Any]:
    """What one worker of a broadcast says: one result, or none if it was gone before it began."""
    try:
        return [await execution]
    except WorkerError:
        if execution.never_began:
            return []
        raise
    finally:
        del execution  # no cycle through its error's traceback


class WorkerPool(Worker):
    """Spreads tasks over up to ``max_workers`` workers, and replaces those that die.

    Workers start lazily, up to the number of tasks there are.

    Args:
        max_workers: the most workers; by default the CPUs that this process may
            use (its affinity and its control group's quota counted).
        factory: makes the workers: a `WorkerFactory`, or the name of a context: ``"process"``,
            ``"thread"``, ``"interpreter"`` (from Python 3.14 on), or ``"auto"``, which picks one
            of them; see `AutoWorkerFactory`.
        min_workers: how many workers are kept however little there is to do.
        idle_timeout: seconds after which a worker above that number retires when idle.
        max_tasks_per_worker: tasks after which a worker is replaced; None for no limit.
        max_memory_per_worker: bytes of resident memory (shared memory not counted)
            above which a worker, when it is between tasks and has collected its
            garbage, is replaced; None for no limit.  The new one is started first.
            For workers that are processes; ``"auto"`` picks those.
        queue_limit: how many tasks may wait for a worker; above it ``enqueue``
            raises `QueueFull`.  None for no limit.
        cancel_grace: seconds after which a cancelled task that still runs has
            its worker killed and replaced.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, or out of range.
        RuntimeError: ``"interpreter"`` below Python 3.14.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        factory: WorkerFactory | str = "process",
        min_workers: int = 0,
        idle_timeout: float = 60.0,
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: int | None = None,
        queue_limit: int | None = None,
        cancel_grace: float = 1.0,
    ) -> None:
        self._max_workers = as_int_or_none("max_workers", max_workers, 1) or usable_cpus()
        min_workers = as_int("min_workers", min_workers, 0)
        if min_workers > self._max_workers:
            raise ValueError(f"min_workers ({min_workers}) is above max_workers ({self._max_workers})")
        max_tasks_per_worker = as_int_or_none("max_tasks_per_worker", max_tasks_per_worker, 1)
        max_memory_per_worker = as_int_or_none("max_memory_per_worker", max_memory_per_worker, 1)
        queue_limit = as_int_or_none("queue_limit", queue_limit, 1)
        self._factory = resolve_factory(factory)
        if max_memory_per_worker is not None:
            self._factory = self._factory.limiting_memory()
        limits = Limits(
            max_workers=self._max_workers,
            min_workers=min_workers,
            idle_timeout=check_seconds("idle_timeout", idle_timeout, or_zero=True),
            max_tasks_per_worker=max_tasks_per_worker,
            slots=self._factory.slots,
            prefetch=self._factory.prefetch,
            latency=self._factory.latency,
            has_spare=self._factory.has_spare,
        )
        grace = check_seconds("cancel_grace", cancel_grace, or_zero=True)
        policy = Policy(limits, queue_limit, grace, max_memory=max_memory_per_worker)
        self._dispatcher = Dispatcher(self._factory, policy, self)

    @property
    def max_workers(self) -> int:
        """The most workers there may be."""
        return self._max_workers

    @property
    def context(self) -> str:
        """Where its workers live, such as ``"process"``; of ``factory="auto"``, what that picked."""
        return self._factory.kind

    @property
    def worker_count(self) -> int:
        """How many workers there are, starting ones included."""
        return self._dispatcher.scheduler.worker_count

    @property
    def idle_worker_count(self) -> int:
        """How many workers are ready and have nothing to do."""
        return self._dispatcher.scheduler.idle_workers

    def is_running(self) -> bool:
        """Whether the pool takes tasks: True until it was shut down or killed."""
        return self._dispatcher.status == OPEN

    def is_idle(self) -> bool:
        """Whether a task enqueued now would start at once: a worker has nothing to do, or one may be started.

        A busy worker does not count, though ``concurrency`` may leave it room for another async task.
        """
        return self._dispatcher.is_open and self._dispatcher.scheduler.would_start_at_once

    def get_worker(self) -> LeasedWorker:
        """Lease one worker, to run several tasks on the same environment.

        Returns:
            An idle worker, else a new one, else the one with the least to do;
            give it back with ``release()``, ``async with``, or by dropping it.

        Raises:
            StatusError: the pool was shut down or killed.
            RuntimeError: called from another thread or event loop.
        """
        return LeasedWorker(self._dispatcher)

    @overload
    async def broadcast(self, fn: Task[R], /) -> list[R]: ...
    @overload
    async def broadcast(self, fn: TaskLike[Any], /) -> list[Any]: ...
    @overload
    async def broadcast(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[R]: ...
    @overload
    async def broadcast(
        self, fn: Callable[P, AsyncIterator[R] | Iterator[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[list[R]]: ...
    @overload
    async def broadcast(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    async def broadcast(self, fn: Any, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Run something once in every running worker.

        Args:
            fn: a function, called with the arguments; or a task, which gets
                each worker's environment.

        Returns:
            The results, one for each worker.  Workers that start later do not run it, and one
            that ends by itself before it has begun is left out.

        Raises:
            TypeError: ``fn`` is neither callable nor a task, or a task with arguments.
            QueueFull: the pool's ``queue_limit`` leaves no room for all; none has run it.
            StatusError: the pool was shut down or killed.
            RuntimeError: called from another thread or event loop.

        It raises the first error of the function's, and the others' results are lost.
        Cancelling this call cancels what has not finished.
        """
        task = task_of(fn, args, kwargs, by="broadcast")
        dispatcher = self._dispatcher
        dispatcher.check_open()
        numbers = dispatcher.scheduler.running_numbers()
        dispatcher.room.check(dispatcher.outstanding, len(numbers))
        executions = [dispatcher.enqueue(task, {"pin": number}) for number in numbers]
        try:
            return [result for each in await asyncio.gather(*map(_results, executions)) for result in each]
        except asyncio.CancelledError:  # which does not come to those of `_results` that have not begun
            for execution in executions:
                execution.cancel()
            raise
        finally:
            del executions  # as there

    async def recycle(self) -> None:
        """Replace every worker, one after the other: the new one is started before the old one retires.

        Where none can be started, the old one works on, and this waits until one can.
        A worker that is leased is replaced once it is released, for which this waits, too.

        Raises:
            StatusError: the pool was shut down or killed.
            RuntimeError: called from another thread or event loop.

        Cancelling this call leaves the workers that it did not come to as they are.
        """
        dispatcher = self._dispatcher
        dispatcher.check_open()
        for number in dispatcher.scheduler.running_numbers():
            worker, handle = dispatcher.scheduler.workers.get(number), dispatcher.handles.get(number)
            if worker is not None and handle is not None and dispatcher.status == OPEN:
                dispatcher.scheduler.replace(worker)
                dispatcher.schedule_turn()
                await asyncio.shield(handle.exited)

    def end_with_loop(self) -> None:
        """Shut down by itself, without a warning, when the running event loop ends."""
        self._dispatcher.bind()
        self._dispatcher.ends_with_loop = True

    async def wait_for_room(self) -> None:
        """Wait until ``enqueue`` would not raise `QueueFull`.

        Raises:
            StatusError: the pool was shut down or killed, before or meanwhile.
        """
        await self._dispatcher.room.wait(self._dispatcher)

    def __repr__(self) -> str:
        scheduler = self._dispatcher.scheduler
        return (
            f"<WorkerPool {self._state()} workers={self.worker_count}/{self._max_workers} "
            f"idle={self.idle_worker_count} queued={scheduler.queued} running={scheduler.in_hand} "
            f"context={self.context}>"
        )
