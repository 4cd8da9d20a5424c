"""A task's future in other threads, and its execution on the event loop's."""

from __future__ import annotations

import logging
import threading
from _thread import RLock
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import Context
from typing import Any, ClassVar, TypeVar, cast

from offloop.adapters.broken import as_raised_by_executor
from offloop.execution import Execution

R = TypeVar("R")

_logger = logging.getLogger("offloop")


# Only the stubs call `RLock` final.
class LazyCondition(RLock):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """What a future needs of a `threading.Condition`, which is made when a thread waits for the first time.

    A condition is a dozen objects, and a hundred thousand of them keep the
    garbage collector busier than everything else here.  So this is a lock, and
    no more than that until then.  It can't be one for all futures:
    `concurrent.futures.wait` takes the locks of all that it is given, in the order
    of the futures' addresses, and with one lock for several of them two such
    calls could each wait for what the other has.
    """

    __slots__ = ("_waited_on",)

    def __init__(self) -> None:
        self._waited_on: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `notify_all`, for that many seconds at most; returns whether it came."""
        if self._waited_on is None:
            self._waited_on = threading.Condition(self)
        return self._waited_on.wait(timeout)

    def notify_all(self) -> None:
        """Wake every thread that waits."""
        if self._waited_on is not None:
            self._waited_on.notify_all()


class TaskFuture(Future[R]):
    """The future of a task on a pool that lives on another thread's event loop."""

    #: The task's execution, as long as the pool knows it.
    execution: Execution[Any] | None = None
    #: Whether `cancel` has got through, and the execution may not know.
    cancel_asked = False
    #: The context variables that were set where it was submitted, until the pool has them.
    context: Context | None = None
    _is_claimed: bool | None = None

    def __init__(self) -> None:
        # Not the base's: it makes a condition.  A test compares what they set.
        self._condition = cast("threading.Condition", LazyCondition())
        self._state = "PENDING"
        self._result = None
        self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []

    # Without the lock, unlike the base's: a Ctrl-C between taking it and giving it back would leave it taken,
    # and these are what programs call again and again while they wait.

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state in ("CANCELLED", "CANCELLED_AND_NOTIFIED")

    def running(self) -> bool:
        """Whether its task was handed to a worker, and has not ended."""
        return self._state == "RUNNING"

    def done(self) -> bool:
        """Whether it has ended, or was cancelled."""
        return self._state in ("CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")

    def cancel(self) -> bool:
        """Cancel the task, unless it was handed to a worker.

        Returns:
            Whether it is cancelled, and will not run.
        """
        if not super().cancel():
            return False
        self._cancel_execution()
        return True

    def interrupt(self) -> None:
        """Cancel the task wherever it is; one that runs is interrupted, and its future ends as it has."""
        if not self.cancel():
            self._cancel_execution()

    def _cancel_execution(self) -> None:
        self.cancel_asked = True  # before the look at the execution: see `HandedExecution.stand_for`
        execution = self.execution
        if execution is not None:
            try:
                execution.get_loop().call_soon_threadsafe(execution.cancel)
            except RuntimeError:
                pass  # the loop was closed, and the pool has forgotten everything

    def claim(self) -> bool:
        """On the loop: rule out that it is cancelled from now on; False if it was already."""
        if self._is_claimed is None:
            self._is_claimed = self.set_running_or_notify_cancel()
            if not self._is_claimed:
                self.execution = None
        return self._is_claimed

    def forked(self, error: BaseException) -> None:
        """In a child process: fail, and call nobody, since all who asked for that are the parent's."""
        self._condition = cast("threading.Condition", LazyCondition())
        self._waiters, self._done_callbacks = [], []
        if not self.done():
            self.set_exception(error)

    def end(self, value: Any, error: BaseException | None = None) -> None:
        """On the loop: set the result, or the exception, of a claimed future; never raises."""
        self.execution = None  # no reference to the task stays
        try:
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(as_raised_by_executor(error))
        except BaseException:  # SystemExit of a callback: it must not end the loop
            with suppress(BaseException):  # nor what a handler of log records raises
                _logger.exception("exception calling a callback of %r", self)


class HandedExecution(Execution[R]):
    """An execution whose outcome is handed to a `TaskFuture`; without one, it is like any other."""

    __slots__ = ("_future",)  # set where there is one: a map's chunks have none

    is_claimed: ClassVar[bool] = True
    _future: TaskFuture[R] | None

    def stand_for(self, future: TaskFuture[R]) -> None:
        """From now on hand everything to ``future``, which may have been cancelled meanwhile."""
        self._future = future
        future.execution = self
        if future.cancel_asked:  # it may have looked before
            self.cancel()

    @property
    def future(self) -> TaskFuture[R] | None:
        """The future, until it has ended."""
        return getattr(self, "_future", None)

    def claim(self) -> bool:
        """Whether its future was not cancelled, and now can't be."""
        # Here and in `_succeed` not by the property, which takes 40 ns more.
        future = getattr(self, "_future", None)
        return future is None or future.claim()

    def _succeed(self, result: R, /) -> None:
        """The task returned."""
        super()._succeed(result)
        future = getattr(self, "_future", None)
        if future is not None and future.claim():
            self._future = None
            future.end(result)

    def _fail(self, exception: type[BaseException] | BaseException, /) -> None:
        """The task failed, or could not be run."""
        super()._fail(exception)
        future = self.future
        if future is not None:
            error = self.exception()  # which also tells asyncio that it was seen
            self._future = None
            if future.claim():
                future.end(None, error)

    def _cancel_now(self, msg: Any | None = None) -> bool:
        if not super()._cancel_now(msg):
            return False
        future = self.future
        if future is not None:
            self._future = None
            if future.claim():  # it was running
                future.end(None, CancelledError())
        return True
