"""A dispatcher's view of one worker: its link, its state, and the fate of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any
from warnings import warn

from offloop.crashreport import crash_report, human_size, unloadable_task
from offloop.errors import TaskTimeout, WorkerError, WorkerKilled
from offloop.execution import Execution
from offloop.link import Exit, ItemSink, Link, NoLink
from offloop.observe.meter import FULL, outcome_of
from offloop.reentry import raise_later
from offloop.scheduling.state import WorkerState
from offloop.task import describe
from offloop.timeouts import Timeouts

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher


#: Seconds that a worker may take to end once it was told to: its environment's callbacks, and all.
STOP_GRACE = 10.0
#: Seconds, at the least, in which a worker that runs nothing answers that it gives a task back.
IDLE_GRACE = 1.0


class WorkerHandle:
    """Carries out what concerns one worker, and settles its executions.

    Implements `offloop.link.LinkOwner`.
    """

    link: Link

    def __init__(self, dispatcher: Dispatcher, state: WorkerState[Execution[Any]]) -> None:
        self.state = state
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self._loop = dispatcher.bind()
        self._killed = False
        self._is_overdue = False  # it was killed because its task went on after it was cancelled
        self._timeouts = Timeouts(self._loop, state, self.interrupt, self._kill_overdue)
        self._stop_timer: asyncio.TimerHandle | None = None
        self.meter = dispatcher.meters.of(state.number)
        self._runs, self._waits = self.meter.runs, self.meter.waits
        self.began = monotonic()
        self._ready: float | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.exited: asyncio.Future[int] = self._loop.create_future()

    def start(self) -> None:
        """Start the worker."""
        self._dispatcher.meters.worker_starts(self.meter, replaces=self.state.replaces)
        try:
            self.link = self._dispatcher.context().connect(self.state.number, self)
        except Exception as error:  # the factory can be anyone's, and its options anything
            self.link = NoLink(self._loop, self, error)
        self.link.start()

    def stop(self) -> None:
        """Let the worker, which has nothing left to do, end in good order, but not take for ever."""
        self.link.stop()
        self._stop_timer = self._loop.call_later(STOP_GRACE, self._stop_overdue)

    def _stop_overdue(self) -> None:
        # It may have ended while the event loop was held up: first hear what has come.
        self._stop_timer = self._loop.call_later(0.05, self._give_up)

    def _give_up(self) -> None:
        why = "an on_delete callback, an atexit function or a thread of its hangs"
        self._warn(
            f"worker {self.link.pid or self.state.number} did not end within {STOP_GRACE:g} s and was given "
            f"up: {why if self._ready is not None else 'it was still starting'}"
        )
        self._loop.call_soon(self.link.kill)  # behind the warning

    def dispatch(self, executions: Sequence[Execution[Any]]) -> None:
        """Send tasks; one that cannot be sent fails."""
        if self._dispatcher.make_execution.is_claimed:
            executions = [each for each in executions if self._claim(each)]
            if not executions:
                return
        for execution, error in self.link.send(executions):
            if execution.id not in self.state.hand:  # what it is made of has killed the worker
                continue
            if isinstance(error.__cause__, KeyboardInterrupt):  # a Ctrl-C: not in the midst of this
                raise_later(error.__cause__)
            self._scheduler.finished(self.state, execution, None, 0.0)
            self._fail(execution, error)
        for execution in executions:
            if execution.timeout is not None and not execution.done():
                self._timeouts.watch(execution.timeout, self.link)

    def _claim(self, execution: Execution[Any]) -> bool:
        """Whether a task may be sent; one that may not ends as cancelled."""
        if execution.claim():
            return True
        self._scheduler.finished(self.state, execution, None, 0.0)
        self._cancel_for_good(execution)
        return False

    # -- what the link reports ------------------------------------------------

    def link_ready(self) -> None:
        """The worker takes tasks."""
        self._ready = monotonic()
        self.ready.set_result(None)
        self._scheduler.worker_ready(self.state, self._ready)
        self._dispatcher.starts.succeeded(self._loop, self.began)
        self._dispatcher.schedule_turn()

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """A task returned."""
        state = self.state
        execution = state.hand.get(id)
        if execution is None:  # it had ended before
            return
        seconds = end - start
        self._scheduler.finished(state, execution, seconds + execution.copying, end)
        execution._started = start
        self._runs.append(seconds)
        self._waits.append(start - execution._enqueued)
        if not execution.done():
            self._dispatcher.outstanding -= 1
            execution._succeed(value)

    def link_loaded(self, id: int, seconds: float) -> None:
        """A result was large."""
        execution = self.state.hand.get(id)
        if execution is not None:
            execution.loading = seconds

    def link_delivered(self) -> None:
        """That was all for now."""
        if len(self._runs) >= FULL:
            self.meter.digest()
        self._dispatcher.settled()

    def link_failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task failed."""
        execution = self._take(id, start, end)
        if execution is not None:
            self._fail(execution, error, "failed")

    def link_unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task could not be loaded in the worker."""
        execution = self._take(id, start, end)
        if execution is not None:
            self._fail(execution, unloadable_task(execution.task, error), "failed")

    def link_cancelled(self, id: int, start: float, end: float) -> None:
        """A running task ended by our request."""
        execution = self._take(id, start, end)
        if execution is not None:
            self._end_interrupted(execution)

    def link_returned(self, ids: Iterable[int]) -> None:
        """Tasks that will not run here: recalled, or cancelled before they started."""
        items = self._scheduler.returned(self.state, ids)
        self._scheduler.put_back(self._without_cancelled(items))
        self._dispatcher.schedule_turn()

    def link_overgrown(self, size: int, fresh: int) -> None:
        """The worker keeps too much memory: replace it."""
        dispatcher = self._dispatcher
        self._scheduler.replace(self.state)
        dispatcher.schedule_turn()
        limit = dispatcher.policy.max_memory or 0
        if fresh > limit and not dispatcher.has_warned_of_memory:
            dispatcher.has_warned_of_memory = True
            self._warn(
                f"max_memory_per_worker is {human_size(limit)}, and a worker needs {human_size(fresh)} "
                "before its first task: each is replaced as soon as it has run one"
            )

    def link_said(self, kind: int, id: int, value: Any) -> None:
        """A running task said something beside its outcome."""
        execution = self.state.hand.get(id)
        if execution is not None:
            execution.live.hear(kind, value, self.link)

    def link_stream(self, id: int) -> ItemSink | None:
        """Where the items of a stream go."""
        execution = self.state.hand.get(id)
        return execution.inbox if execution is not None else None

    def link_held(self) -> bool:
        """Whether a lease holds the worker, and a task has run there."""
        return self.state.leases > 0 and bool(self.meter.runs or self.meter.run.count)

    def link_exited(self, exit: Exit) -> None:
        """The worker is gone: settle what it held."""
        self._timeouts.cancel()
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        loss = self._scheduler.worker_gone(self.state, exit.started)
        crash = not exit.clean and not self._killed
        for item in loss.running:
            self._settle_lost(item, exit)
        self._without_cancelled(loss.moved, queued=True)
        error = exit.problem or self._death(exit, None)
        for item in self._without_cancelled(loss.orphaned):
            item.never_began = True
            self._fail(item, copy(error))
        if exit.problem is not None:
            self._dispatcher.worker_not_started(self.state, exit.problem, killed=exit.killed)
        elif crash:
            self._dispatcher.worker_crashed(lambda: self._death(exit, None))
        self._close_meter(exit, crashed=crash and not self._is_overdue)
        self._dispatcher.worker_ended(self, exit.code)
        self.ready.cancel()  # if it never was
        self.exited.set_result(self.meter.exit_code)

    # -- settling executions --------------------------------------------------

    def _take(self, id: int, start: float, end: float) -> Execution[Any] | None:
        """The execution that has just ended here, or None where it had ended before."""
        execution = self.state.hand.get(id)
        if execution is None:
            return None
        self._scheduler.finished(self.state, execution, end - start + execution.copying, end)
        execution._started = start
        self._runs.append(end - start)
        self._waits.append(start - execution._enqueued)
        if execution.done():
            return None
        self.meter.errors += 1
        return execution

    def _fail(self, execution: Execution[Any], error: BaseException, outcome: str = "") -> None:
        """End an execution with an error; ``outcome`` is for the statistics, if it is not plain."""
        self.meter.unsuccessful[outcome or outcome_of(error)] += 1
        self._dispatcher.ended()
        if not execution.done():
            execution._fail(error)

    def _end_interrupted(self, execution: Execution[Any]) -> None:
        if execution.reason == "timeout":
            self._fail(
                execution, TaskTimeout(f"{describe(execution.task)} ran longer than {execution.timeout} s")
            )
        else:
            self._cancel_for_good(execution)

    def _cancel_for_good(self, execution: Execution[Any]) -> None:
        self.meter.unsuccessful["cancelled"] += 1
        self._dispatcher.ended()
        execution._cancel_now(execution.cancel_message)

    def _settle_lost(self, execution: Execution[Any], exit: Exit) -> None:
        """A task was running when its worker died."""
        if execution.reason is not None:
            self._end_interrupted(execution)
        elif (
            execution.attempt <= execution.retries
            and self._dispatcher.policy.heal  # else there is nobody to try it
            and not execution.pin
            and not (execution.inbox is not None and execution.inbox.expected)  # items can't be taken back
        ):
            execution.attempt += 1
            if execution.is_live:
                execution.live.restart()
            self._scheduler.put_back([execution])
        else:
            self._fail(execution, self._death(exit, execution))

    def _without_cancelled(self, items: Iterable[Any], *, queued: bool = False) -> list[Execution[Any]]:
        """End those that were to be cancelled; returns the others."""
        others: list[Execution[Any]] = []
        for item in items:
            if item.reason is None:
                others.append(item)
            else:
                if queued:
                    self._scheduler.discard(item)
                self._end_interrupted(item)
        return others

    def _death(self, exit: Exit, execution: Execution[Any] | None) -> WorkerError:
        if self._killed:
            return WorkerKilled("The worker was killed")
        task = execution.task if execution is not None else None
        return crash_report(exit, self.state.number, task)

    def _warn(self, text: str) -> None:
        """Warn, but not in the midst of something: where warnings are errors, it raises."""

        def tell() -> None:
            warn(text, RuntimeWarning, stacklevel=1)

        self._loop.call_soon(tell)

    # -- statistics -----------------------------------------------------------

    def capacity(self, now: float) -> float:
        """Seconds that the worker has been there for tasks, times the tasks that it may run at a time."""
        return (now - self._ready) * self._scheduler.limits.slots if self._ready is not None else 0.0

    def _close_meter(self, exit: Exit, *, crashed: bool) -> None:
        """Count what is known once the worker is gone."""
        meter = self.meter
        meter.exit_code = exit.code if exit.code is not None else -9
        meter.failed_starts = int(exit.problem is not None)
        meter.crashes = int(crashed and exit.problem is None)
        meter.lost += exit.ran
        meter.capacity = self.capacity(monotonic())
        meter.sent, meter.received = self.link.traffic()
        missed = not exit.clean and self.state.replacement is None
        self._dispatcher.meters.worker_ended(meter, missed=missed)

    # -- interrupting -----------------------------------------------------------

    def interrupt(self, execution: Execution[Any], reason: str) -> None:
        """Cancel a task that was sent; whatever still runs after the grace has its worker killed."""
        if execution.reason is None:
            execution.reason = reason
            self.link.cancel([execution])
            self._look_again(execution.id, self._dispatcher.policy.cancel_grace)

    def _look_again(self, id: int, seconds: float, seen_idle: bool = False) -> None:
        if seconds < inf:  # by its number, as an execution may have ended long before
            self._loop.call_later(seconds, self._grace_over, id, seen_idle)

    def _grace_over(self, id: int, seen_idle: bool) -> None:
        hand = self.state.hand
        if self._is_overdue or id not in hand or hand[id].done():
            return
        self.link.poll()
        if id not in hand or hand[id].done():
            return
        running = [each for each, _ in self.link.running() if each in hand]  # another one has ended
        if id in running or (seen_idle and not running):
            # The latter is a worker that is stopped, hangs between two tasks, or whose answer was lost.
            self._kill_overdue()
        else:  # not started, and the worker too busy to say so: it will not start
            self._look_again(id, max(self._dispatcher.policy.cancel_grace, IDLE_GRACE), not running)

    def _kill_overdue(self) -> None:
        """End the worker, which goes on for longer than it may; what it has not started runs elsewhere."""
        self._is_overdue = True
        self.link.kill()

    def not_started(self) -> list[Execution[Any]]:
        """What this worker holds and has not started.

        What was sent to one that runs nothing is as good as started: to hear that it is takes time.
        """
        hand, running = [*self.state.hand.values()], dict(self.link.running())
        begun = [at for at, item in enumerate(hand, 1) if item.id in running]  # in this order
        return hand[begun[-1] if begun else self._scheduler.limits.slots :]

    def cancel_all(self, *, running: bool) -> None:
        """Cancel what this worker holds: all of it, or what it has not started."""
        # The last ones first: else one could start when the one before it is interrupted.
        for item in reversed([*self.state.hand.values()] if running else self.not_started()):
            item.cancel()
        if running and self._ready is None:
            self._loop.call_later(self._dispatcher.policy.cancel_grace, self._start_overdue)

    def _start_overdue(self) -> None:
        """Nobody waits any more for a worker of a pool that ends, and that still starts."""
        if self._ready is None and not self._dispatcher.is_open and not self.state.outstanding:
            self.kill()

    def kill(self, *, all: bool = True) -> None:
        """End the worker now.

        Args:
            all: fail everything it holds; otherwise only what was meant for this
                very worker, and what it runs: the rest moves on once it is dead.
        """
        self._killed = True
        self._scheduler.condemn(self.state)
        for item in list(self.state.hand.values()):
            if all or item.pin:
                del self.state.hand[item.id]
                self._fail(
                    item, WorkerKilled(f"The worker was killed while {describe(item.task)} was outstanding")
                )
        for item in [*self.state.pinned, *(self.state.keyed if all else ())]:
            self._scheduler.discard(item)
            self._fail(item, WorkerKilled("The worker was killed before the task started"))
        self.link.kill()


def any_left(handles: Mapping[int, WorkerHandle]) -> bool:
    """Whether there still are workers, once all is done: those for which there is no place yet go now."""
    for handle in list(handles.values()):
        handle.link.forgo()
    return bool(handles)
