"""Observers: who is told of every task and worker, for as long as somebody is.

A pool that nobody observes pays nothing, not even a look at a list: the classes
of its dispatcher and of its workers' handles are exchanged for those below when
the first observer comes, and back when the last one goes.  So nobody may keep a
method of theirs to call it later: it would be that of a class which is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from offloop.child.keeping import Failures
from offloop.dispatcher import Dispatcher
from offloop.execution import Execution
from offloop.handle import WorkerHandle
from offloop.link import Exit, NoLink
from offloop.observe.meter import outcome_of

if TYPE_CHECKING:
    import asyncio

    from offloop.protocols import TaskLike
    from offloop.scheduling.state import WorkerState


class Ending(NamedTuple):
    """How one attempt at a task ended.

    Attributes:
        outcome: of `offloop.observe.meter.OUTCOMES`, where a chunk of a map has failed if an item has;
            ``"retried"`` if the worker died and the task runs again, ``"running"`` if it has not ended.
        worker: the number of the worker that ran it, or None if none did.
        start, end: when it ran, in monotonic seconds; ``start`` is None if it never did.
        error: what the execution, or the first such item, failed with; or None.
        sent, received: bytes to the worker and back; None where they are not known.
    """

    outcome: str
    worker: int | None
    start: float | None
    end: float
    error: BaseException | None = None
    sent: int | None = None
    received: int | None = None


class Observer:
    """Told what happens, on the event loop; by default it does nothing.

    What it raises is reported to the event loop's exception handler, and harms no task.
    """

    def enqueued(self, execution: Execution[Any]) -> None:
        """A task was enqueued."""

    def ended(self, execution: Execution[Any], ending: Ending) -> None:
        """A task, or an attempt at it, has ended."""

    def worker_ready(self, handle: WorkerHandle) -> None:
        """A worker takes tasks."""

    def worker_ended(self, handle: WorkerHandle, exit: Exit, how: str) -> None:
        """A worker is gone; ``how`` is ``"exited"``, ``"crashed"``, ``"killed"`` or ``"not started"``."""

    def closed(self) -> None:
        """The pool has ended; nothing follows."""


class ObservedHandle(WorkerHandle):
    """A worker's handle that tells observers."""

    _dispatcher: ObservedDispatcher
    _end: float | None = None  # of the task that is being settled
    _lost: frozenset[int] = frozenset()  # the tasks that a dead worker left behind
    _lost_since = 0.0
    _cut: dict[int, float] | None = None  # as it is killed: the tasks that run, and since when

    def start(self) -> None:
        """Start the worker, and have weighed what it is sent."""
        super().start()
        _weigh(self, True)

    def link_ready(self) -> None:
        """The worker takes tasks."""
        super().link_ready()
        self._dispatcher.tell(lambda observer: observer.worker_ready(self))

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """A task returned."""
        execution = self.state.hand.get(id)
        if execution is None or execution.done():
            super().link_result(id, value, start, end)
            return
        super().link_result(id, value, start, end)
        sent, received = self.link.weights(id)
        error = _failure_within(value)
        outcome = "succeeded" if error is None else "failed"
        ending = Ending(outcome, self.state.number, start, end, error, sent, received)
        self._dispatcher.tell_ended(execution, ending)

    def link_exited(self, exit: Exit) -> None:
        """The worker is gone."""
        # Of several it is only known how long they had run together.
        self._lost_since = monotonic() - exit.ran / max(1, len(exit.started))
        self._lost = frozenset(exit.started)
        super().link_exited(exit)
        if exit.problem is not None:
            how = "not started"
        elif exit.clean:
            how = "exited"
        else:
            how = "killed" if self._killed or self._is_overdue else "crashed"
        self._dispatcher.tell(lambda observer: observer.worker_ended(self, exit, how))

    def kill(self, *, all: bool = True) -> None:
        """End the worker now; what it runs has run so far."""
        self._cut = dict(self.link.running())
        try:
            super().kill(all=all)
        finally:
            self._cut = None

    def _take(self, id: int, start: float, end: float) -> Execution[Any] | None:
        execution = super()._take(id, start, end)
        self._end = end if execution is not None else None  # what comes twice ends nothing
        return execution

    def _fail(self, execution: Execution[Any], error: BaseException, outcome: str = "") -> None:
        was_done = execution.done()
        super()._fail(execution, error, outcome)
        if not was_done:
            self._tell_ended(execution, outcome or outcome_of(error), error)

    def _cancel_for_good(self, execution: Execution[Any]) -> None:
        was_done = execution.done()
        super()._cancel_for_good(execution)
        if not was_done:
            self._tell_ended(execution, "cancelled")

    def _settle_lost(self, execution: Execution[Any], exit: Exit) -> None:
        attempt = execution.attempt
        super()._settle_lost(execution, exit)
        if execution.attempt != attempt:
            self._tell_ended(execution, "retried")

    def _tell_ended(
        self, execution: Execution[Any], outcome: str, error: BaseException | None = None
    ) -> None:
        end, self._end = self._end, None
        sent, received = self.link.weights(execution.id)
        start: float | None = None
        if end is not None:
            start = execution._started
        elif execution.id in self._lost:
            start, received = self._lost_since, None
        elif self._cut is not None and execution.id in self._cut:
            start, received = self._cut[execution.id], None
        else:
            sent = received = None  # it never ran
        number = execution.worker_id
        ending = Ending(outcome, number, start, monotonic() if end is None else end, error, sent, received)
        self._dispatcher.tell_ended(execution, ending)


def _failure_within(value: Any) -> BaseException | None:
    """The first failure of a chunk of a map, whose outcome holds those of its items."""
    failures: Any = value[2] if value.__class__ is tuple and len(value) == 3 else None
    return failures.errors[min(failures.errors)] if isinstance(failures, Failures) else None


class ObservedDispatcher(Dispatcher):
    """A dispatcher that tells observers."""

    observers: tuple[Observer, ...] = ()

    def call(
        self,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any] | None = None,
        task: TaskLike[Any] | None = None,
    ) -> Execution[Any]:
        """Queue a task."""
        execution = super().call(fn, args, kwargs, options, task)
        self.tell(lambda observer: observer.enqueued(execution))
        return execution

    def cancel(self, execution: Execution[Any], msg: Any | None) -> None:
        """Cancel an execution that has not ended."""
        super().cancel(execution, msg)
        if execution.done():
            self.tell_ended(execution, Ending("cancelled", None, None, monotonic()))

    def fail_one_waiting(self, execution: Execution[Any], error: BaseException) -> None:
        """Fail an execution that waits for a worker."""
        super().fail_one_waiting(execution, error)
        self.tell_ended(execution, Ending(outcome_of(error), None, None, monotonic(), error))

    def tell_ended(self, execution: Execution[Any], ending: Ending) -> None:
        """Tell every observer that a task has ended."""
        self.tell(lambda observer: observer.ended(execution, ending))

    def tell(self, what: Callable[[Observer], None]) -> None:
        """Tell every observer; one that fails harms nothing else."""
        for observer in self.observers:
            try:
                what(observer)
            except Exception as error:
                loop, context = self.bind(), {"message": f"{observer!r} failed", "exception": error}
                loop.call_soon(loop.call_exception_handler, context)

    def _start_worker(self, worker: WorkerState[Execution[Any]]) -> None:
        handle = self.handles[worker.number] = ObservedHandle(self, worker)
        handle.start()

    def _report_end(self, ending: asyncio.Task[None] | None = None) -> None:
        super()._report_end(ending)
        if self.ended_for_good:
            self.tell(lambda observer: observer.closed())


def observe(dispatcher: Dispatcher, observer: Observer) -> None:
    """Have an observer told what happens from now on.

    Raises:
        StatusError: the dispatcher takes no more tasks.
        RuntimeError: it belongs to another event loop, or none is running.
    """
    dispatcher.check_open()
    attach(dispatcher, observer)


def attach(dispatcher: Dispatcher, observer: Observer) -> None:
    """The same for a dispatcher that was not used yet, or is known to be open, on its own event loop."""
    if not isinstance(dispatcher, ObservedDispatcher):
        _exchange(dispatcher, ObservedDispatcher, ObservedHandle, weigh=True)
    assert isinstance(dispatcher, ObservedDispatcher)
    dispatcher.observers = (*dispatcher.observers, observer)


def unobserve(dispatcher: Dispatcher, observer: Observer) -> None:
    """Tell an observer no more; one that is told no more already stays so.

    Not from within what an observer is told (but for `Observer.closed`), as what tells it is exchanged.
    """
    if isinstance(dispatcher, ObservedDispatcher):
        dispatcher.observers = tuple(each for each in dispatcher.observers if each is not observer)
        if not dispatcher.observers:
            _exchange(dispatcher, Dispatcher, WorkerHandle, weigh=False)


def _exchange(dispatcher: Any, kind: type[Dispatcher], handles: type[WorkerHandle], *, weigh: bool) -> None:
    dispatcher.__class__ = kind
    for handle in dispatcher.handles.values():
        handle.__class__ = handles
        _weigh(handle, weigh)


def _weigh(handle: WorkerHandle, is_on: bool) -> None:
    """Have a worker's link weigh each task, or no more; where there is no worker, perhaps no context is."""
    if not isinstance(handle.link, NoLink):
        handle._dispatcher.context().weigh(handle.link, is_on)
