"""Execution: the handle of one enqueued task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from offloop import task as tasks
from offloop.hiding import hides_arguments
from offloop.live import Live, Progress
from offloop.reentry import is_amidst_own_work
from offloop.registry import refuse_elsewhere
from offloop.task import CallableTask, describe

if TYPE_CHECKING:
    from offloop.channel import Channel
    from offloop.dispatcher import Dispatcher
    from offloop.link import Link
    from offloop.protocols import TaskLike
    from offloop.scheduling.estimate import Kind
    from offloop.scheduling.queue import TaskQueue
    from offloop.scheduling.state import WorkerState
    from offloop.streams import Inbox

R = TypeVar("R")

_NOT_GIVEN: Any = object()

tasks.hides_arguments = hides_arguments  # for the texts of this module, and all above it


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
        "_enqueued",
        "_started",
        "_task",
        "args",
        "cost",
        "fn",
        "id",
        "kind",
        "kwargs",
        "place",
        "queue",
        "worker",
    )

    id: int
    #: The call that the task makes, if it is a plain `CallableTask`; else None.  As a rule there is no such
    #: object then, before somebody asks for it: it would cost a task a twentieth of its time.
    fn: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _task: TaskLike[R] | None
    kind: Kind
    cost: float
    queue: TaskQueue[Execution[Any]] | None
    place: int
    worker: WorkerState[Execution[Any]] | None
    _enqueued: float
    _started: float
    _dispatcher: Dispatcher

    # What few tasks have is no slot: filling it would cost every task.
    key: Hashable = None
    pin: int = 0
    #: Which lease it was enqueued on, if on one.
    lease: object = None
    priority: int = 0
    retries: int = 0
    timeout: float | None = None
    #: The context variables that were set when it was enqueued; None if there were none.
    context: Context | None = None
    #: Which attempt this is: more than 1 after a retry.
    attempt: int = 1
    #: Why it is being interrupted: "cancel" or "timeout".
    reason: str | None = None
    #: Whether it failed as its very worker, for which it waited, was gone before it began.
    never_began: bool = False
    #: What its `asyncio.CancelledError` is to say.
    cancel_message: Any = None
    #: What its frame says of it: `offloop.wire.frames.STREAMED`.
    flags: int = 0
    #: For how many seconds pickling its arguments held the event loop; 0 for a moment.
    pickling: float = 0.0
    #: Seconds that copying its large arguments takes, as a rule; they count as the task's own.
    copying: float = 0.0
    #: Seconds of CPU time that loading its result took; 0 for a moment.
    loading: float = 0.0
    #: The items of its stream, if it is one.
    inbox: Inbox | None = None
    _live: Live | None = None
    #: Whether `claim` has a say.
    is_claimed: ClassVar[bool] = False

    @property
    def task(self) -> TaskLike[R]:
        """The task; for `submit` it is made when it is first asked for."""
        task = self._task
        if task is None:
            assert self.fn is not None
            task = self._task = CallableTask.of(self.fn, self.args, self.kwargs)
        return task

    @property
    def worker_id(self) -> int | None:
        """The number of the worker that holds or ran the task; None while it waits."""
        worker = getattr(self, "worker", None)
        return worker.number if worker is not None else None

    @property
    def started_at(self) -> float | None:
        """When the task started to run, in seconds of `time.monotonic`; None before that."""
        started: float | None = getattr(self, "_started", None)
        if started is None and not self.done() and (link := self.link) is not None:
            return dict(link.running()).get(self.id)
        return started

    def __repr__(self) -> str:
        if not self.done():
            state = "waiting" if self.worker_id is None else f"sent to worker {self.worker_id}"
        elif self.cancelled():
            state = "cancelled"
        else:
            error = self._exception  # which `exception()` would take for having been seen
            state = "done" if error is None else f"failed with {error!r}"
        return f"<Execution {describe(self.task)} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Execution can't be sent to a worker: await it, and send its result (was it an attribute of "
            "self, or within a captured variable?)"
        )

    def claim(self) -> bool:
        """Whether the task may be handed to a worker now; if not, it ends as cancelled."""
        return True

    def cancel(self, msg: Any | None = _NOT_GIVEN) -> bool:
        """Cancel the task.

        Args:
            msg: passed on to the `asyncio.CancelledError`.

        Returns:
            False if the execution has ended already; else True.  A task that
            was running may still end with a result, if it had one ready.  Where
            ``msg`` is given while an `asyncio.Task` awaits this, True means that the
            execution is cancelled now, and False that this may not be so, or not yet.

        Raises:
            RuntimeError: called from another thread or event loop.
        """
        if self.done():
            return False
        refuse_elsewhere(self._dispatcher)
        # asyncio always gives `msg`, when it cancels what a task awaits, and takes True for a
        # promise: it would forget that the task is to be cancelled, were there a result after all.
        is_request = msg is _NOT_GIVEN or not self._is_awaited_by_task()
        if msg is _NOT_GIVEN:
            msg = None
        if is_amidst_own_work():
            self.get_loop().call_soon(self._cancel_in_its_turn, msg)
            return is_request
        self._dispatcher.cancel(self, msg)
        return is_request or self.done()

    def _cancel_in_its_turn(self, msg: Any | None) -> None:
        """Cancel as a callback of the event loop, which is in the midst of nothing."""
        if not self.done():
            self._dispatcher.cancel(self, msg)

    def _is_awaited_by_task(self) -> bool:
        """Whether an `asyncio.Task` awaits this very future: each adds a callback that is its own."""
        waiting: list[tuple[Any, Any]] = self._callbacks or []
        return any(isinstance(getattr(callback, "__self__", None), asyncio.Task) for callback, _ in waiting)

    # -- while it runs ----------------------------------------------------------

    def progress(self) -> AsyncIterator[Progress]:
        """What the task reports with ``current_task().report(...)``.

        An async iterator of `Progress`: first the reports so far (the last 1,000),
        then each further one, until the execution ends, in whatever way.  It does
        not raise the task's error.  There may be several of them at a time, and
        leaving one affects nobody.  Reports that come faster than they are taken
        are thinned out, the last one never.
        """
        return self.live.follow()

    @property
    def channel(self) -> Channel:
        """Messages to and from the running task."""
        return self.live.channel

    async def stack(self) -> str:
        """Where the task's code is right now: for one that seems stuck.

        Returns:
            The stack of the user's code as text, most recent call last; for an async
            task that of its coroutine.  "" if the task does not run (yet, or any more),
            is a function in C called directly (which has no frame), or if nothing can be learned.

        It takes a few milliseconds.  A worker whose code does not let Python run (C code that
        keeps the interpreter's lock) does not answer; after a second its stack is then got
        in another way, without lines of source.
        """
        link = self.link
        if self.done() or link is None or self.id not in dict(link.running()):
            return ""
        return await self.live.stack(link)

    @property
    def live(self) -> Live:
        """What is said beside the outcome; made at first use, which few executions see."""
        if self._live is None:
            self._live = Live(self)
        return self._live

    @property
    def is_live(self) -> bool:
        """Whether anything was said, or asked for, beside the outcome."""
        return self._live is not None

    @property
    def dispatcher(self) -> Dispatcher:
        """Who runs it."""
        return self._dispatcher

    @property
    def link(self) -> Link | None:
        """The link to the worker that has the task; None while it waits, and once the worker is gone."""
        number = self.worker_id
        handle = self._dispatcher.handles.get(number) if number is not None else None
        return handle.link if handle is not None else None

    # Its outcome is the task's, as of an `asyncio.Task`: one that others set would leave the task uncounted.

    def set_result(self, result: R, /) -> NoReturn:
        """Refused, as by an `asyncio.Task`: the result is the task's."""
        raise RuntimeError("an Execution does not support set_result: its result is the task's")

    def set_exception(self, exception: type[BaseException] | BaseException, /) -> NoReturn:
        """Refused, as by an `asyncio.Task`: the exception is the task's."""
        raise RuntimeError("an Execution does not support set_exception: its outcome is the task's")

    if TYPE_CHECKING:

        def _succeed(self, result: R, /) -> None:
            """End with a result: for the dispatcher."""

        def _fail(self, exception: type[BaseException] | BaseException, /) -> None:
            """End with an exception: for the dispatcher."""

    else:  # no call of ours between, which would cost every task
        _succeed = asyncio.Future.set_result
        _fail = asyncio.Future.set_exception

    def _cancel_now(self, msg: Any | None = None) -> bool:
        """End as cancelled, without regard to the worker."""
        return super().cancel(msg)
