"""The async shell: carries out what the scheduler decides.

One dispatcher stands behind every pool, and behind every single worker (a pool of one).  It owns the
event loop's side: executions, links, timers.  What is next is decided in `offloop.scheduling`, never here.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from collections.abc import Callable, Mapping
from contextvars import Context as VariableContext, copy_context
from copy import copy
from time import monotonic
from typing import Any
from weakref import ref

from offloop.child.nesting import refuse_while_loading
from offloop.errors import StatusError, WorkerKilled
from offloop.execution import Execution
from offloop.handle import WorkerHandle, any_left
from offloop.idletimer import IdleTimer
from offloop.link import Context
from offloop.lookout import Lookout
from offloop.loopend import at_loop_end, end_with_loop
from offloop.observe.meter import Meters, outcome_of
from offloop.policy import ContextMaker, Policy
from offloop.protocols import TaskLike
from offloop.registry import not_here, tell_newcomers
from offloop.room import Room
from offloop.scheduling.estimate import Kinds
from offloop.scheduling.scheduler import Scheduler
from offloop.scheduling.state import Plan, WorkerState
from offloop.starts import Starts
from offloop.task import CallableTask
from offloop.vigil import Vigil

#: Taking tasks; finishing them; (a single worker) crashed or unable to start; killed; the parent's.
OPEN, CLOSING, BROKEN, KILLED, FORKED = range(5)


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
        self._queue = self.scheduler.queue
        self.status = OPEN
        self.handles: dict[int, WorkerHandle] = {}
        self.loop: AbstractEventLoop | None = None
        self.starts, self.exit_code = Starts(self.scheduler, self.schedule_turn, heal=policy.heal), 0
        self.has_warned_of_memory = False  # that ``max_memory_per_worker`` is below what any worker needs
        self.owner = ref(owner)
        self.make_execution: type[Execution[Any]] = Execution
        self._kept: object = None
        self.factory = factory
        self._context: Context | None = None
        self.kind_of = Kinds().of
        self.submitted = 0  # how many tasks were ever enqueued
        self.outstanding = 0  # how many executions have not ended
        self.meters = Meters()
        self.room = Room(policy.queue_limit, policy.limits.max_workers * policy.limits.slots)
        self._most = self.room.most
        self._turn_due = False
        #: When the latest turn was asked for: what is enqueued until it comes has waited since then.
        self._turn_asked = 0.0
        self._lookout = Lookout(self.scheduler.next_look, self._look)
        self._vigil = Vigil()
        self._idle_timer = IdleTimer(self.scheduler.idle_deadline, self.schedule_turn)
        self._closed: asyncio.Future[int] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.ended_for_good = False
        #: Whether the event loop's end shall shut it down, as the global pool's does.
        self.ends_with_loop = False
        tell_newcomers(self)

    # -- taking tasks -------------------------------------------------------

    def enqueue(self, task: TaskLike[Any], options: Mapping[str, Any] | None = None) -> Execution[Any]:
        """Queue a task, which was checked; see `call`."""
        if type(task) is CallableTask:
            return self.call(task.fn, task.args, task.kwargs, options, task)
        return self.call(None, (), {}, options, task)

    def call(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any] | None = None,
        task: TaskLike[Any] | None = None,
    ) -> Execution[Any]:
        """Queue ``CallableTask(fn, *args, **kwargs)``; or ``task``, where it is another one (``fn`` is None).

        Args:
            fn, args, kwargs: the call.
            options: of `Worker.enqueue`; a lease's are also ``pin``, its worker's number, and ``lease``.
            task: the object that stands for it, if there is one.
        """
        loop = self.loop
        if loop is None or _get_running_loop() is not loop:
            loop = self.bind()
        if self.status != OPEN:
            self.refuse()
        if self._most is not None and self.outstanding >= self._most:
            self.room.check(self.outstanding)
        options = options and self.scheduler.interned(options)
        execution = self.make_execution(loop=loop)
        self.submitted = execution.id = self.submitted + 1
        execution.fn, execution.args, execution.kwargs = fn, args, kwargs
        execution._task, execution._dispatcher = task, self
        execution.kind = self.kind_of(fn if fn is not None else type(task))
        if context := copy_context():  # it is empty as a rule, and then nothing is kept
            execution.context = context
        if not self.outstanding:
            self._kept = self.owner()
        self.outstanding += 1
        if options is None:
            execution.queue = queue = self._queue
            queue.usual.append(execution)  # as `Scheduler.add` would
        else:
            for name, value in options.items():
                setattr(execution, name, value)
            self.scheduler.add(execution)
        if not self._turn_due:
            self.schedule_turn()
        execution._enqueued = self._turn_asked
        return execution

    def refuse(self) -> None:
        """Raise the error for a dispatcher that takes no more tasks."""
        has_crashed = self.status == BROKEN and self._closed is None
        raise StatusError(f"The worker has {'crashed' if has_crashed else 'been shut down'}")

    def check_open(self) -> None:
        """Raise the error for the wrong event loop, or for a dispatcher that takes no more tasks."""
        self.bind()
        if self.status != OPEN:
            self.refuse()

    def bind(self) -> AbstractEventLoop:
        """Tie this dispatcher to the running event loop, or refuse another one."""
        loop = _get_running_loop()
        if loop is None or self.status == FORKED:
            raise not_here(self, loop)
        if self.loop is None:
            refuse_while_loading()
            self._disarm = at_loop_end(lambda: end_with_loop(self), self)
            self.loop = loop
        elif self.loop is not loop:
            raise not_here(self, loop)
        return loop

    # -- carrying out -------------------------------------------------------

    def schedule_turn(self) -> None:
        """Have the scheduler asked once in this turn of the event loop.

        In nobody's context, for what it sets up (readers, timers) would keep the caller's.
        """
        if not self._turn_due and self.loop is not None:
            self._turn_due = True
            self._turn_asked = monotonic()
            self.loop.call_soon(self._turn, context=VariableContext())

    def _turn(self) -> None:
        self._turn_due = False
        now = monotonic()
        lone = self.scheduler.lone(now)
        if lone is not None:
            worker, item = lone
            handle = self.handles[worker.number]
            handle.dispatch((item,))
            if handle.link.runs_beside and self.loop is not None:
                self._vigil.keep(self.loop, item, item.kind.seconds)
        else:
            self._carry_out(self.scheduler.plan(now), now)
        self.room.announce(self)
        if self.status != OPEN:
            self._finish_if_done()
        elif self._idle_timer.is_free and self.loop is not None:
            self._idle_timer.arm(self.loop)

    def _carry_out(self, plan: Plan[Execution[Any]], now: float) -> None:
        for worker in plan.start:
            self._start_worker(worker)
        began = monotonic()
        for worker, items in plan.dispatch:
            self.handles[worker.number].dispatch(items)
        self.scheduler.pace.sent(plan.tasks, monotonic() - began)
        for worker, items in plan.recall:
            self.handles[worker.number].link.recall(items)
        for worker in plan.stop:
            self.handles[worker.number].stop()
        if self.scheduler.more:
            self.schedule_turn()
        if self.scheduler.is_watching and self.loop is not None:
            self._lookout.arm(self.loop, now, hasten=self.scheduler.idle_workers > 0)

    def _start_worker(self, worker: WorkerState[Execution[Any]]) -> None:
        handle = self.handles[worker.number] = WorkerHandle(self, worker)
        handle.start()

    def context(self) -> Context:
        """The context in which the workers live, opened at first use."""
        if self._context is None:
            self._context = self.factory.context()
            self._context.max_memory = self.policy.max_memory
            if (first := next(iter(self.scheduler.queue), None)) is not None:
                self._context.expect(first.task)
        return self._context

    def _look(self) -> None:
        """Look at workers that hold more than they run: one may be stuck."""
        now = monotonic()
        if silent := self.scheduler.silent_workers(now):
            self._lookout.look_at(silent, lambda worker, until: self.handles[worker.number].link.poll(until))
            self.schedule_turn()
        elif self.scheduler.is_watching and self.loop is not None:
            self._lookout.arm(self.loop, now)

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

    def cancel(self, execution: Execution[Any], msg: Any | None) -> None:
        """Cancel an execution that has not ended; see `offloop.Execution.cancel`."""
        if execution.queue is not None:
            self.scheduler.discard(execution)
            self.meters.past.unsuccessful["cancelled"] += 1
            self.ended()
            execution._cancel_now(msg)
        elif execution.worker is None or self.status == FORKED:
            execution._cancel_now(msg)
        else:
            execution.cancel_message = msg
            self.handles[execution.worker.number].interrupt(execution, "cancel")

    def fail_waiting(self, make_error: Callable[[Execution[Any]], BaseException]) -> None:
        """Fail everything that waits for a worker; ``make_error(execution)`` makes each error."""
        for item in self.scheduler.waiting():
            self.fail_one_waiting(item, make_error(item))

    def fail_one_waiting(self, execution: Execution[Any], error: BaseException) -> None:
        """Fail an execution that waits for a worker."""
        self.scheduler.discard(execution)
        self.meters.past.unsuccessful[outcome_of(error)] += 1
        self.ended()
        execution._fail(error)

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
        if self.status >= BROKEN:
            self.status = max(self.status, KILLED)
            return
        self.status = KILLED
        self.scheduler.closing = True
        self.fail_waiting(lambda execution: WorkerKilled("The worker was killed before the task started"))
        for handle in list(self.handles.values()):
            handle.kill()
        self.schedule_turn()

    # -- what becomes of workers ----------------------------------------------

    def worker_not_started(
        self, worker: WorkerState[Execution[Any]], problem: BaseException, *, killed: bool = False
    ) -> None:
        """A worker could not start, or was ``killed`` meanwhile; what waits may fail, see `Starts`."""
        if not self.policy.heal and self.outstanding:  # else the next task has it tried again, and told why
            self.status = max(self.status, BROKEN)
        for item in self.starts.failed(self.bind(), worker, problem, killed=killed):
            item.never_began = True
            self.fail_one_waiting(item, copy(problem))

    def worker_crashed(self, make_error: Callable[[], BaseException]) -> None:
        """A worker died; a single one is not replaced."""
        if not self.policy.heal:
            self.status = max(self.status, BROKEN)
            self.scheduler.discouraged = True
            self.fail_waiting(lambda execution: make_error())

    def worker_ended(self, handle: WorkerHandle, code: int | None) -> None:
        """A worker is gone, and its tasks are accounted for."""
        del self.handles[handle.state.number]
        self.room.may_have_ended = True
        if code and self.status != OPEN:
            self.exit_code = self.exit_code or code
        self.schedule_turn()

    # -- an owner that forgot to close ---------------------------------------

    def call_on_loop(self, callback: Callable[..., None], *args: object) -> None:
        """Call back on the event loop, by itself: finalisers run in any thread, and amidst anything."""
        if self.loop is not None and not self.loop.is_closed():
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
        self.starts.cancel()
        self.status, self.scheduler.closing = KILLED, True
        for handle in self.handles.values():
            handle.link.abandon()
        self.handles.clear()
        context, self._context = self._context, None
        if context is not None:
            context.abandon()

    def forked(self) -> None:
        """This is a process that was forked: the workers are its parent's, and left alone."""
        self.status, self.ended_for_good = FORKED, True

    def _finish_if_done(self) -> None:
        if self.outstanding or any_left(self.handles) or self._ending is not None:
            return
        self._idle_timer.cancel()
        self.starts.cancel()
        if self._context is None:
            self._report_end()
        elif self.loop is not None:
            self._ending = self.loop.create_task(self._context.aclose())
            # By its name: until then observers may come or go, and its class with them.
            self._ending.add_done_callback(lambda ending: self._report_end(ending))  # noqa: PLW0108

    def _report_end(self, ending: asyncio.Task[None] | None = None) -> None:
        if ending is not None and ending.cancelled():  # with all tasks of a loop that ends: once more
            self._ending = None
            self._finish_if_done()
            return
        self.ended_for_good = True
        self._disarm()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(self.exit_code)
