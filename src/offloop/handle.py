"""A dispatcher's view of one worker: its link, its state, and the fate of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from copy import copy
from signal import Signals
from time import monotonic
from typing import TYPE_CHECKING, Any

from offloop.errors import SerializationError, TaskTimeout, WorkerCrashed, WorkerError, WorkerKilled
from offloop.execution import Execution
from offloop.link import Context, Exit, Link
from offloop.protocols import TaskLike
from offloop.scheduling.state import WorkerState
from offloop.task import CallableTask, describe

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher


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
        self.exited: asyncio.Future[int] = self._loop.create_future()

    def start(self, context: Context) -> None:
        """Start the worker."""
        self.link = context.connect(self.state.number, self)
        self.link.start()

    def stop(self) -> None:
        """Let the worker end in good order."""
        self.link.stop()

    def dispatch(self, executions: Sequence[Execution[Any]]) -> None:
        """Send tasks; one that cannot be sent fails."""
        for execution, error in self.link.send(executions):
            self._scheduler.finished(self.state, execution, None, 0.0)
            self._fail(execution, error)
        for execution in executions:
            if execution.timeout is not None and not execution.done():
                self._watch(execution, execution.timeout)

    # -- what the link reports ------------------------------------------------

    def link_ready(self) -> None:
        """The worker takes tasks."""
        self._dispatcher.start_failures = 0
        self._scheduler.worker_ready(self.state, monotonic())
        self._dispatcher.schedule_turn()

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """A task returned."""
        state = self.state
        execution = state.hand.get(id)
        if execution is None:  # it had ended before
            return
        self._scheduler.finished(state, execution, end - start, end)
        execution._started = start
        if not execution.done():
            execution.set_result(value)
            self._dispatcher.outstanding -= 1

    def link_delivered(self) -> None:
        """That was all for now."""
        self._dispatcher.settled()

    def link_failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task failed."""
        execution = self._take(id, start, end)
        if execution is not None:
            self._fail(execution, error)

    def link_unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task could not be loaded in the worker."""
        execution = self._take(id, start, end)
        if execution is not None:
            self._fail(execution, unloadable_task(execution.task, error))

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

    def link_exited(self, exit: Exit) -> None:
        """The worker is gone: settle what it held."""
        loss = self._scheduler.worker_gone(self.state, exit.started)
        crash = not exit.clean and not self._killed
        for item in loss.running:
            self._settle_lost(item, exit)
        self._without_cancelled(loss.moved, queued=True)
        error = exit.problem or self._death(exit, None)
        for item in loss.orphaned:
            self._fail(item, copy(error))
        if exit.problem is not None:
            self._dispatcher.worker_not_started(exit.problem)
        elif crash:
            self._dispatcher.worker_crashed(lambda: self._death(exit, None))
        self._dispatcher.worker_ended(self, exit.code)
        self.exited.set_result(exit.code if exit.code is not None else -9)

    # -- settling executions --------------------------------------------------

    def _take(self, id: int, start: float, end: float) -> Execution[Any] | None:
        """The execution that has just ended here, or None where it had ended before."""
        execution = self.state.hand.get(id)
        if execution is None:
            return None
        self._scheduler.finished(self.state, execution, end - start, end)
        execution._started = start
        return execution if not execution.done() else None

    def _fail(self, execution: Execution[Any], error: BaseException) -> None:
        self._dispatcher.ended()
        if not execution.done():
            execution.set_exception(error)

    def _end_interrupted(self, execution: Execution[Any]) -> None:
        if execution.reason == "timeout":
            self._fail(
                execution, TaskTimeout(f"{describe(execution.task)} ran longer than {execution.timeout} s")
            )
        else:
            self._dispatcher.ended()
            execution._cancel_now()

    def _settle_lost(self, execution: Execution[Any], exit: Exit) -> None:
        """A task was running when its worker died."""
        if execution.reason is not None:
            self._end_interrupted(execution)
        elif execution.attempt <= execution.retries and not execution.pin and not self._killed:
            execution.attempt += 1
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
                self._dispatcher.ended()
                item._cancel_now()
        return others

    def _death(self, exit: Exit, execution: Execution[Any] | None) -> WorkerError:
        if self._killed:
            return WorkerKilled("The worker was killed")
        what = f" while running {describe(execution.task)}" if execution is not None else ""
        who = f"worker {exit.pid}" if exit.pid is not None else f"worker {self.state.number}"
        code, name = exit.code, None
        if code is not None and code < 0:
            name = _signal_name(-code)
            how = f"was killed by {name}"
        else:
            how = f"exited with code {code}" if code is not None else "disappeared"
        return WorkerCrashed(
            f"{who} {how}{what}",
            pid=exit.pid,
            exit_code=code,
            signal=name,
            task=describe(execution.task) if execution is not None else None,
            stack=exit.stack,
            peak_rss=exit.peak_rss,
            output=exit.output,
        )

    # -- interrupting -----------------------------------------------------------

    def interrupt(self, execution: Execution[Any], reason: str) -> None:
        """Cancel a task that was sent; whatever still runs after the grace has its worker killed."""
        if execution.reason is None:
            execution.reason = reason
            self.link.cancel([execution])
            self._loop.call_later(self._dispatcher.policy.cancel_grace, self._grace_over, execution)

    def _grace_over(self, execution: Execution[Any]) -> None:
        if execution.done() or execution.id not in self.state.hand:
            return
        self.link.poll()
        if execution.done():
            return
        if execution.id in dict(self.link.running()):
            self.link.kill()
        else:  # not started, and the worker too busy to say so: it will not start
            self._loop.call_later(self._dispatcher.policy.cancel_grace, self._grace_over, execution)

    def cancel_all(self, *, running: bool) -> None:
        """Cancel what this worker holds: all of it, or what it has not started."""
        started = dict(self.link.running()) if not running else {}
        # The last ones first: else one could start when the one before it is interrupted.
        for item in reversed(list(self.state.hand.values())):
            if item.id not in started:
                item.cancel()

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
        for item in [item for item in self.state.pinned if all or item.pin]:
            self._scheduler.discard(item)
            self._fail(item, WorkerKilled("The worker was killed before the task started"))
        self.link.kill()

    def _watch(self, execution: Execution[Any], seconds: float) -> None:
        """Look after ``seconds`` whether a task with a timeout has run that long."""
        self._loop.call_later(seconds, self._check_timeout, execution)

    def _check_timeout(self, execution: Execution[Any]) -> None:
        if execution.done() or execution.id not in self.state.hand or execution.timeout is None:
            return
        self.link.poll()  # it may have ended while the event loop was held up
        started = dict(self.link.running()).get(execution.id)
        if execution.done():
            return
        ran = monotonic() - started if started is not None else 0.0
        if ran >= execution.timeout:
            self.interrupt(execution, "timeout")
        else:
            self._watch(execution, execution.timeout - ran)


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def unloadable_task(task: TaskLike[Any], error: BaseException) -> SerializationError:
    """The error for a task that can't be loaded in a worker; it names the task."""
    name = describe(task)
    origin = getattr(task.fn if isinstance(task, CallableTask) else type(task), "__module__", None)
    home = f" of module {origin}" if origin else ""
    text = f"{name}{home} could not be loaded in the worker: {type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        text += "; a worker imports it anew, with the sys.path of this process"
    result = SerializationError(text)
    result.__cause__ = error
    return result
