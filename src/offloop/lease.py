"""A leased worker: one worker of a pool, for several tasks on the same environment."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from offloop.dispatcher import OPEN, Dispatcher
from offloop.errors import StatusError, WorkerKilled
from offloop.registry import refuse_elsewhere
from offloop.scheduling.state import GONE, READY, RETIRING, WorkerState
from offloop.worker import CheckedWorker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from offloop.execution import Execution
    from offloop.observe.statistics import Statistics


class LeasedWorker(CheckedWorker):
    """What `WorkerPool.get_worker` returns.

    Its tasks run on one worker, in order.  It goes back to the pool by
    `release`, on leaving ``async with``, or when it is garbage-collected; what
    was enqueued before still runs there.  Should the worker die, what waits
    for it fails with `WorkerCrashed`: its environment is gone.  Should it not
    start, that is tried as often as for the pool's own tasks.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        dispatcher.check_open()
        self._dispatcher = dispatcher
        self._state_ = dispatcher.scheduler.lease(monotonic())
        #: What was enqueued here has it: others may have theirs on the same worker.
        self._mark = object()
        self._usual = {"pin": self._state_.number, "lease": self._mark}
        self._meter = dispatcher.meters.of(self._state_.number)
        self._held = True
        self._ended = False
        # The pool must outlive its leases.
        self._pool = dispatcher.owner()

    @property
    def worker_id(self) -> int:
        """The number of the worker within its pool."""
        return self._state_.number

    def is_running(self) -> bool:
        """Whether it takes tasks: not after `release`, `shutdown`, `kill`, a crash, or the pool's end."""
        alive = self._state_.phase <= READY or self._state_.phase == RETIRING
        return self._held and not self._is_over and alive and self._dispatcher.status == OPEN

    @property
    def _is_over(self) -> bool:
        """Whether its worker was ended: by this lease or, while this one held it, by another."""
        return self._ended or (self._held and self._state_.dismissed)

    def is_idle(self) -> bool:
        """Whether no task is queued or running on this worker."""
        return not self._state_.outstanding

    def _check(self) -> None:
        if self._is_over:
            raise StatusError("The worker has been shut down")
        if not self._held:
            raise StatusError("The worker has been released to its pool")
        if self._state_.phase == GONE and self._dispatcher.status == OPEN:
            raise StatusError("The worker has crashed")

    async def wait_for_room(self) -> None:
        """Wait until ``enqueue`` would not raise `QueueFull`: what waits here counts for the pool's queue.

        Raises:
            StatusError: the worker takes no more tasks, now or meanwhile.
        """
        self._check()
        await self._dispatcher.room.wait(self._dispatcher)

    def release(self) -> None:
        """Give the worker back to its pool.  Doing so again does nothing.

        Raises:
            RuntimeError: called from another thread or event loop.
        """
        refuse_elsewhere(self._dispatcher)
        if self._held:
            self._held = False
            _release(self._dispatcher, self._state_)

    def statistics(self) -> Statistics:
        """What this worker has done for the pool, and does; also after it was released or has ended.

        ``submitted`` counts the tasks that it was sent and has not given back, and those that wait for it.
        """
        from offloop.observe.snapshot import of_worker

        return of_worker(self._dispatcher, self._state_, self._meter)

    async def shutdown(self, *, cancel_pending: bool = False) -> int:
        """End this worker itself, once it has finished; the pool replaces it.  See `Worker.shutdown`.

        Other leases on it end as well.  After `release`, the worker is the pool's, and goes on.
        """
        if not self._held and not self._ended:
            return 0
        self.release()  # first, as it refuses other threads
        self._ended = True
        if cancel_pending:
            self._cancel(_not_started(self._dispatcher, self._state_))
        await _end_worker(self._dispatcher, self._state_)
        return self._meter.exit_code

    def kill(self) -> None:
        """End this worker itself at once; the pool replaces it.

        A task of the pool's that runs there is run again if it has ``retries`` left.
        Other leases on it end as well.  After `release`, the worker is the pool's, and goes on.

        Raises:
            RuntimeError: called from another thread or event loop.
        """
        refuse_elsewhere(self._dispatcher)
        if self._held or self._ended:
            self._ended = True
            self.release()
            _kill_worker(self._dispatcher, self._state_)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cancelled: list[Execution[Any]] = []
        if kind is not None:
            cancelled = self._cancel([*self._state_.hand.values(), *self._state_.pinned])
        self.release()
        if cancelled:
            await asyncio.wait(cancelled)

    def _cancel(self, executions: Iterable[Execution[Any]]) -> list[Execution[Any]]:
        """Cancel those that were enqueued here, the last ones first: else one could start meanwhile."""
        own = [execution for execution in executions if execution.lease is self._mark]
        for execution in reversed(own):
            execution.cancel()
        return own

    def __repr__(self) -> str:
        return f"<LeasedWorker {self.worker_id} {self._state()}>"

    def _state(self) -> str:
        if self._is_over:
            return "shut down"
        if not self._held:
            return "released"
        if self._state_.phase == GONE:
            return "crashed" if self._dispatcher.is_open else "shut down"
        return "idle" if self.is_idle() else "running"

    def __del__(self) -> None:
        if self.__dict__.get("_held"):
            self._held = False
            self._dispatcher.call_on_loop(_release, self._dispatcher, self._state_)


def _release(dispatcher: Dispatcher, worker: WorkerState[Execution[Any]]) -> None:
    """End a lease.  No method: a finaliser has it called when the lease itself is gone."""
    dispatcher.scheduler.release(worker)
    dispatcher.room.may_have_ended = True
    dispatcher.schedule_turn()


def _not_started(dispatcher: Dispatcher, worker: WorkerState[Execution[Any]]) -> list[Execution[Any]]:
    """What a worker holds and has not begun, and what waits for it through a lease."""
    handle = dispatcher.handles.get(worker.number)
    return [*(handle.not_started() if handle is not None else ()), *worker.pinned]


async def _end_worker(dispatcher: Dispatcher, worker: WorkerState[Execution[Any]]) -> None:
    """End one worker when it has finished, and replace it; returns when it is gone."""
    dispatcher.bind()
    dispatcher.scheduler.dismiss(worker)
    dispatcher.schedule_turn()
    while True:
        if (handle := dispatcher.handles.get(worker.number)) is not None:
            await asyncio.shield(handle.exited)  # before it was ready, perhaps: then it is tried again
        elif worker.phase != GONE and worker.pinned:  # it is yet to start, for what waits for it
            await asyncio.wait([*worker.pinned])
        else:
            return


def _kill_worker(dispatcher: Dispatcher, worker: WorkerState[Execution[Any]]) -> None:
    """End one worker at once."""
    worker.dismiss()
    handle = dispatcher.handles.get(worker.number)
    if handle is not None:
        handle.kill(all=False)
    elif worker.phase != GONE:
        for item in list(worker.pinned):
            dispatcher.fail_one_waiting(item, WorkerKilled("The worker was killed before the task started"))
        dispatcher.scheduler.retire(worker)
    dispatcher.schedule_turn()
