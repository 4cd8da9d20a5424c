"""The async shell: carries out what the scheduler decides.

One dispatcher stands behind every pool, and behind every single worker (a
pool of one).  It owns the event loop's side: executions, links, timers.  What
happens next is never decided here but in `offloop.scheduling`.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from collections.abc import Callable, Mapping
from copy import copy
from time import monotonic
from typing import Any
from weakref import ref

from offloop.errors import QueueFull, StatusError, WorkerKilled
from offloop.execution import Execution
from offloop.handle import WorkerHandle
from offloop.link import Context
from offloop.loopend import at_loop_end, end_with_loop
from offloop.policy import ContextMaker, Policy
from offloop.protocols import TaskLike
from offloop.scheduling.estimate import Kinds
from offloop.scheduling.scheduler import Scheduler
from offloop.scheduling.state import Plan, WorkerState

#: Taking tasks; finishing them; killed; (a single worker) crashed or unable to start.
OPEN, CLOSING, KILLED, BROKEN = range(4)

#: Seconds between looks at workers that hold more than they run.
TICK = 0.002
#: Failed starts in a row, with none succeeding, after which what waits fails.
MAX_START_FAILURES = 3


class Dispatcher:
    """Runs one pool's tasks on its workers; see the module's text.

    Args:
        factory: its ``context()`` makes the context in which the workers live, at first use.
        policy: how to treat them.
        owner: the worker or pool that this dispatcher works for; held only while tasks are outstanding.
    """

    def __init__(self, factory: ContextMaker, policy: Policy, owner: object) -> None:
        self.policy = policy
        self.scheduler: Scheduler[Execution[Any]] = Scheduler(policy.limits)
        self.status = OPEN
        self.handles: dict[int, WorkerHandle] = {}
        self.loop: AbstractEventLoop | None = None
        self.crashes = 0
        self.start_failures = 0
        self.exit_code = 0
        self.owner = ref(owner)
        self._kept: object = None
        self._factory = factory
        self._context: Context | None = None
        self._kind_of = Kinds().of
        self._ids = 0
        #: How many executions have not ended.
        self.outstanding = 0
        self._queue_limit = policy.queue_limit
        self._turn_due = False
        self._ticking = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[int] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.ended_for_good = False
        #: Whether the event loop's end shall shut it down, as the global pool's does.
        self.ends_with_loop = False
        self._room: list[asyncio.Future[None]] = []

    # -- taking tasks -------------------------------------------------------

    def enqueue(self, task: TaskLike[Any], options: Mapping[str, Any] | None = None) -> Execution[Any]:
        """Queue a task; see `offloop.Worker.enqueue`.

        Args:
            task: the task, which was checked.
            options: what is not as usual: ``timeout``, ``priority``, ``retries``,
                ``key``, or ``pin``, the number of the one worker that may run it.
        """
        loop = self.loop
        if loop is None or _get_running_loop() is not loop:
            loop = self.bind()
        if self.status != OPEN:
            self.refuse()
        if self._queue_limit is not None and self.outstanding >= self._queue_limit + self._capacity:
            raise QueueFull(f"{self._queue_limit} tasks are waiting, which is this pool's queue_limit")
        execution: Execution[Any] = Execution(loop=loop)
        self._ids = execution.id = self._ids + 1
        execution.task = task
        execution.kind = self._kind_of(task)
        execution._dispatcher = self
        if options is not None:
            for name, value in options.items():
                setattr(execution, name, value)
        if not self.outstanding:
            self._kept = self.owner()
        self.outstanding += 1
        self.scheduler.add(execution)
        if not self._turn_due:
            self._turn_due = True
            loop.call_soon(self._turn)
        return execution

    @property
    def _capacity(self) -> int:
        limits = self.policy.limits
        return limits.max_workers * limits.slots

    def refuse(self) -> None:
        """Raise the error for a dispatcher that takes no more tasks."""
        if self.status == BROKEN:
            raise StatusError("The worker has crashed")
        raise StatusError("The worker has been shut down")

    def check_open(self) -> None:
        """Raise the error for the wrong event loop, or for a dispatcher that takes no more tasks."""
        self.bind()
        if self.status != OPEN:
            self.refuse()

    def bind(self) -> AbstractEventLoop:
        """Tie this dispatcher to the running event loop, or refuse another one."""
        loop = _get_running_loop()
        if loop is None:
            raise RuntimeError(
                "no event loop is running here: a worker or pool is used from async code, on its own "
                "event loop; from synchronous code and other threads use offloop.Executor"
            )
        if self.loop is None:
            self.loop = loop
            self._disarm = at_loop_end(lambda: end_with_loop(self))
        elif self.loop is not loop:
            raise RuntimeError(
                "this worker or pool belongs to another event loop; make one for each loop, or use "
                "offloop.Executor, which may be used from any thread"
            )
        return loop

    # -- carrying out -------------------------------------------------------

    def schedule_turn(self) -> None:
        """Have the scheduler asked once in this turn of the event loop."""
        if not self._turn_due and self.loop is not None:
            self._turn_due = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        plan = self.scheduler.plan(monotonic())
        if plan:
            self._carry_out(plan)
        if self.scheduler.prefetching and not self._ticking:
            self._start_ticking()
        if self._room:
            self._announce_room()
        self._arm_idle_timer()
        if self.status != OPEN:
            self._finish_if_done()

    def _carry_out(self, plan: Plan[Execution[Any]]) -> None:
        for worker in plan.start:
            self._start_worker(worker)
        for worker, items in plan.dispatch:
            self.handles[worker.number].dispatch(items)
        for worker, items in plan.recall:
            self.handles[worker.number].link.recall(items)
        for worker in plan.stop:
            self.handles[worker.number].stop()
        if plan.dispatch and self.scheduler.more:
            self.schedule_turn()

    def _start_worker(self, worker: WorkerState[Execution[Any]]) -> None:
        handle = self.handles[worker.number] = WorkerHandle(self, worker)
        handle.start(self.context())

    def context(self) -> Context:
        """The context in which the workers live, opened at first use."""
        if self._context is None:
            self._context = self._factory.context()
        return self._context

    def _start_ticking(self) -> None:
        """Look again soon at workers that hold more than they run: one may be stuck."""
        assert self.loop is not None
        self._ticking = True
        self.loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        now = monotonic()
        for worker in self.scheduler.silent_workers(now):
            self.handles[worker.number].link.poll()
        if self.scheduler.prefetching:
            self.schedule_turn()

    def _arm_idle_timer(self) -> None:
        if self._idle_timer is not None or self.status != OPEN or self.loop is None:
            return
        deadline = self.scheduler.idle_deadline()
        if deadline is None:
            return

        def due() -> None:
            self._idle_timer = None
            self.schedule_turn()

        self._idle_timer = self.loop.call_later(max(0.0, deadline - monotonic()) + 0.001, due)

    # -- executions ---------------------------------------------------------

    def ended(self) -> None:
        """One more execution has ended."""
        self.outstanding -= 1
        self.settled()

    def settled(self) -> None:
        """Executions have ended, and were counted: see what comes next."""
        if not self.outstanding:
            self._kept = None
        if not self._turn_due:
            self.schedule_turn()

    def cancel(self, execution: Execution[Any], msg: Any | None) -> bool:
        """Cancel an execution that has not ended; see `offloop.Execution.cancel`."""
        if execution.queue is not None:
            self.scheduler.discard(execution)
            self.ended()
            return execution._cancel_now(msg)
        if execution.worker is None:
            return execution._cancel_now(msg)
        self.handles[execution.worker.number].interrupt(execution, "cancel")
        return True

    def started_at(self, execution: Execution[Any]) -> float | None:
        """When a task that has not ended started to run, or None."""
        number = execution.worker_id
        handle = self.handles.get(number) if number is not None else None
        return dict(handle.link.running()).get(execution.id) if handle else None

    def fail_waiting(self, make_error: Callable[[Execution[Any]], BaseException]) -> None:
        """Fail everything that waits for a worker; ``make_error(execution)`` makes each error."""
        for item in self.scheduler.waiting():
            self.scheduler.discard(item)
            self.ended()
            item.set_exception(make_error(item))

    async def wait_for_room(self) -> None:
        """Wait until ``enqueue`` would not raise `QueueFull`."""
        loop = self.bind()
        while self.status == OPEN and not self._has_room:
            waiter = loop.create_future()
            self._room.append(waiter)
            await waiter
        if self.status != OPEN:
            self.refuse()

    @property
    def _has_room(self) -> bool:
        limit = self._queue_limit
        return limit is None or self.outstanding < limit + self._capacity

    def _announce_room(self) -> None:
        if self.status == OPEN and not self._has_room:
            return
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- the end ------------------------------------------------------------

    def close(self, *, cancel_pending: bool) -> asyncio.Future[int]:
        """Take no more tasks, finish (or cancel) what is queued; the future has the exit code."""
        loop = self.bind()
        if self._closed is None:
            self._closed = loop.create_future()
            if self.ended_for_good:
                self._closed.set_result(self.exit_code)
        if self.status == OPEN:
            self.status = CLOSING
            self.scheduler.closing = True
        if cancel_pending and self.status == CLOSING:
            self.cancel_all(running=False)
        self.schedule_turn()
        return self._closed

    async def wait_closed(self, *, cancel_pending: bool) -> int:
        """`close`, and wait for the exit code."""
        return await asyncio.shield(self.close(cancel_pending=cancel_pending))

    def open(self) -> None:
        """Start what is to run from the beginning."""
        self.check_open()
        self.schedule_turn()

    def cancel_all(self, *, running: bool) -> None:
        """Cancel what waits, and what was sent; what runs too if ``running``."""
        for item in self.scheduler.waiting():
            item.cancel()
        for handle in self.handles.values():
            handle.cancel_all(running=running)

    def kill(self) -> None:
        """End every worker at once; what is outstanding fails with `WorkerKilled`."""
        if self.status in (KILLED, BROKEN):
            return
        self.status = KILLED
        self.scheduler.closing = True
        self.fail_waiting(lambda execution: WorkerKilled("The worker was killed before the task started"))
        for handle in list(self.handles.values()):
            handle.kill()
        self.schedule_turn()

    # -- what becomes of workers ----------------------------------------------

    def worker_not_started(self, problem: BaseException) -> None:
        """A worker could not start; after a few of them in a row what waits fails."""
        self.start_failures += 1
        if not self.policy.heal:
            self.status = BROKEN
        elif self.start_failures < MAX_START_FAILURES:
            return
        self.start_failures = 0
        self.scheduler.discouraged = True
        self.fail_waiting(lambda execution: copy(problem))

    def worker_crashed(self, make_error: Callable[[], BaseException]) -> None:
        """A worker died; a single one is not replaced."""
        self.crashes += 1
        if not self.policy.heal:
            self.status = BROKEN
            self.fail_waiting(lambda execution: make_error())

    def worker_ended(self, handle: WorkerHandle, code: int | None) -> None:
        """A worker is gone, and its tasks are accounted for."""
        del self.handles[handle.state.number]
        if code and (self.status != OPEN or not self.policy.heal):
            self.exit_code = self.exit_code or code
        self.schedule_turn()

    # -- an owner that forgot to close ---------------------------------------

    def call_on_loop(self, callback: Callable[..., None], *args: object) -> None:
        """Call back on the event loop, from whatever thread a finaliser runs in."""
        if self.loop is None or self.loop.is_closed():
            return
        if _get_running_loop() is self.loop:
            callback(*args)
        else:
            self.loop.call_soon_threadsafe(callback, *args)

    @property
    def is_open(self) -> bool:
        """Whether it takes tasks."""
        return self.status == OPEN

    @property
    def has_workers(self) -> bool:
        """Whether there are workers, or what they share."""
        return bool(self.handles) or self._context is not None

    def abandoned(self) -> bool:
        """Whether workers live that nobody will shut down, now that the owner goes."""
        return self.status == OPEN and self.has_workers

    def abandon(self) -> None:
        """The owner is gone: end the workers, through the event loop if it still runs."""
        if self.loop is not None and self.loop.is_running():
            self.call_on_loop(self.kill)
            return
        self.status = KILLED
        for handle in self.handles.values():
            handle.link.abandon()
        self.handles.clear()
        if self._context is not None:
            self._context.abandon()

    def _finish_if_done(self) -> None:
        if self.handles or self.outstanding or self._ending is not None:
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._context is None:
            self._report_end()
        elif self.loop is not None:
            self._ending = self.loop.create_task(self._context.aclose())
            self._ending.add_done_callback(self._report_end)

    def _report_end(self, ending: asyncio.Task[None] | None = None) -> None:
        self.ended_for_good = True
        self._disarm()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(self.exit_code)
