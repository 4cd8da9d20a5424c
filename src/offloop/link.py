"""The one small interface that a context implements: a link to one worker.

A context is a place where a worker lives: a process, a thread, a
sub-interpreter, an actor on a cluster.  Whatever it is, its parent's end is a
`Link`, which is told what to do and reports what happened to a `LinkOwner`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context as VariableContext
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from offloop.errors import RemoteTraceback, WorkerStartError
from offloop.wire.exceptions import stored
from offloop.wire.tracebacks import brief

if TYPE_CHECKING:
    from offloop.protocols import TaskLike


class Exit(NamedTuple):
    """How a worker ended.

    Attributes:
        code: 0, an exit status, minus a signal's number, or None where unknown.
        clean: whether it took its leave; an exit without is a crash, also with code 0.
        started: ids of the tasks that it had begun and not ended.
        problem: why it could not start, or None; then it never took a task.
        killed: whether it was killed while it was starting, and nothing that its pool was given ran there.
        peak_rss: its highest resident memory in bytes, or None.
        pid: its process id, or None.
        stack: its Python stack at a fatal signal, or None.
        output: the end of its stderr.
        out_of_memory: whether the kernel's OOM killer ended it, as far as can be told; None if unknown.
        ran: seconds that the tasks in ``started`` had run, together.
        reason: why it is taken for dead, where it was not seen to end; or None.
    """

    code: int | None
    clean: bool
    started: Sequence[int] = ()
    problem: BaseException | None = None
    peak_rss: int | None = None
    pid: int | None = None
    stack: str | None = None
    output: str = ""
    out_of_memory: bool | None = None
    ran: float = 0.0
    reason: str | None = None
    killed: bool = False


def could_not_start(what: str, error: BaseException) -> WorkerStartError:
    """The error for a worker that this process could not start, because of ``error``."""
    if isinstance(error, WorkerStartError):
        return error
    problem = WorkerStartError(f"{what} could not start: {error}")
    problem.__cause__ = error
    return problem


def died_at_start(pid: int | None, code: int | None, output: str, reason: str | None) -> WorkerStartError:
    """The error for a worker that ended before it was ready; its stderr is all that it said.

    Args:
        pid: its process id.
        code: as in `Exit`.
        output: the end of its stderr.
        reason: why it was made to end, or None if it was not.
    """
    what = f"worker {pid} ended while it was starting, with exit code {code}"
    return WorkerStartError(f"{what}: {reason}" if reason else what, output)


def not_started(cause: BaseException) -> WorkerStartError:
    """The error for a worker whose setup or bootstrap raised ``cause``, as told by the worker."""
    remote = stored(cause, "__cause__")
    text = remote.text if isinstance(remote, RemoteTraceback) else ""
    problem = WorkerStartError(f"the worker could not start: {brief(cause)}", text)
    problem.__cause__ = cause
    return problem


S = TypeVar("S", bound="Sendable")


class Sendable(Protocol):
    """What a link needs to know of an enqueued task; it keeps ``place``, the task's turn there, itself."""

    id: int
    fn: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cost: float
    place: int
    attempt: int
    context: VariableContext | None
    flags: int
    pickling: float
    copying: float

    @property
    def task(self) -> TaskLike[Any]:
        """The task; where ``fn`` is not None, a `CallableTask` that is made for whoever asks."""
        raise NotImplementedError


class ItemSink(Protocol):
    """Where the items of one stream go."""

    expected: int

    def put(self, value: Any, size: int) -> None:
        """The next item, of ``size`` bytes (0 where it was not pickled)."""

    def spoil(self, error: BaseException) -> None:
        """The next item can't be loaded."""


class LinkOwner(Protocol):
    """Who is told what happens at the other end; every call comes on the event loop."""

    def link_ready(self) -> None:
        """The worker is set up and takes tasks."""

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """Task ``id`` returned ``value``; it ran from ``start`` to ``end`` (monotonic seconds)."""

    def link_loaded(self, id: int, seconds: float) -> None:
        """What task ``id`` returned, which is reported next, took so much CPU time to load."""

    def link_delivered(self) -> None:
        """Results were reported, and for now no more will be."""

    def link_failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Task ``id`` failed with ``error``."""

    def link_unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Task ``id`` could not be loaded in the worker, for this reason."""

    def link_cancelled(self, id: int, start: float, end: float) -> None:
        """Task ``id`` was cancelled while it ran, and has ended."""

    def link_returned(self, ids: Iterable[int]) -> None:
        """These tasks were recalled or cancelled before they started; they will not run there."""

    def link_overgrown(self, size: int, fresh: int) -> None:
        """The worker keeps ``size`` bytes of memory, above its context's ``max_memory``.

        It had ``fresh`` bytes before its first task.  It goes on, and says so once.
        """

    def link_said(self, kind: int, id: int, value: Any) -> None:
        """Running task ``id`` said something beside its outcome, before that.

        ``kind`` (of `offloop.wire.frames`) says what: `REPORT` (a list of
        reports), `OPENED`, `MESSAGE` (a function that gives the message, or
        raises), `RECEIVED` or `STACK` (a text).
        """

    def link_stream(self, id: int) -> ItemSink | None:
        """Where the items of task ``id`` go; None if nobody wants them."""

    def link_held(self) -> bool:
        """Whether a lease holds the worker, and a task has run there: its environment is not to be lost."""
        raise NotImplementedError

    def link_exited(self, exit: Exit) -> None:
        """The worker is gone; nothing follows."""


class Link(ABC):
    """The parent's end of one worker.  No method blocks."""

    pid: int | None = None
    #: Whether the worker is on this machine and does not share the event loop's interpreter lock, so that
    #: the loop may look for a result without holding up the worker.
    runs_beside = True

    @abstractmethod
    def start(self) -> None:
        """Begin to start the worker; `LinkOwner.link_ready` or `LinkOwner.link_exited` follows."""

    @abstractmethod
    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Send tasks, in order.

        Returns:
            Those that could not be sent, each with the error; the others are on their way.
        """

    @abstractmethod
    def cancel(self, items: Sequence[Sendable]) -> None:
        """Cancel tasks: `LinkOwner.link_returned` for what had not started; what runs is interrupted."""

    @abstractmethod
    def recall(self, items: Sequence[Sendable]) -> None:
        """Take back those of these tasks that have not started: `LinkOwner.link_returned`."""

    @abstractmethod
    def stop(self) -> None:
        """Let the worker finish what it was sent, tidy up and exit."""

    def forgo(self) -> None:
        """All is done: a worker for which there is no place yet need not start.  By default there is one."""

    @abstractmethod
    def kill(self) -> None:
        """End the worker at once."""

    @abstractmethod
    def running(self) -> list[tuple[int, float]]:
        """What is running now: ``(task id, monotonic start time)``."""

    def is_through(self) -> bool:
        """Whether the worker has all that it was sent, as far as can be told here; else False."""
        return False

    def traffic(self) -> tuple[int, int]:
        """How many bytes went to the worker and came from it; nothing where objects are shared."""
        return 0, 0

    def weights(self, id: int) -> tuple[int | None, int | None]:
        """Bytes to the worker and back for a task that has just ended, if `Context.weigh` has it known."""
        return None, None

    @abstractmethod
    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """Say something to the running task ``id``; one that has ended does not hear it.

        Args:
            kind: of `offloop.wire.frames`: `REPORTED`, `CREDIT` (items and bytes),
                `MESSAGE` (what `Context.pack` made), `RECEIVED` or `STACK`.
            id: the task's id.
            value: what goes with it.
        """

    def hunger(self, id: int, is_hungry: bool) -> None:
        """Whether somebody waits for the next item of the stream ``id``, which is then sent at once."""

    async def dump_stack(self) -> str:
        """The stack of the running code, got without the help of Python code there; "" if there is no way."""
        return ""

    def abandon(self) -> None:
        """End the worker and free what the parent holds for it, where the event loop no longer runs."""
        self.kill()

    def poll(self, until: float = inf) -> None:
        """Report what has ended but was not reported yet, such as a result waiting behind a long task.

        Args:
            until: what is left at that time, in monotonic seconds, may be reported later.
        """


class NoLink(Link):
    """Stands for a worker that could not even be connected to: all that it does is to say so.

    Args:
        loop: the event loop.
        owner: who is told.
        error: why.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: LinkOwner, error: Exception) -> None:
        exit = Exit(None, False, problem=could_not_start("a worker", error))
        loop.call_soon(lambda: owner.link_exited(exit))  # by its name: the owner's class may change

    def start(self) -> None:
        """Nothing starts."""

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Nothing is sent before a worker is ready."""
        return []

    def cancel(self, items: Sequence[Sendable]) -> None:
        """There is nothing to cancel."""

    def recall(self, items: Sequence[Sendable]) -> None:
        """There is nothing to take back."""

    def stop(self) -> None:
        """It ends anyway."""

    def kill(self) -> None:
        """It ends anyway."""

    def running(self) -> list[tuple[int, float]]:
        """Nothing."""
        return []

    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """Nobody hears it."""


class Context(ABC):
    """A place where workers live, opened by one pool (or one worker) on its event loop."""

    #: How many tasks a worker runs at a time (a factory's ``concurrency``).
    slots: int = 1
    #: Bytes of resident memory above which a worker says `LinkOwner.link_overgrown`; None for no limit.
    max_memory: int | None = None

    @abstractmethod
    def connect(self, number: int, owner: LinkOwner) -> Link:
        """A link to a new worker with this number; it is not started yet."""

    def expect(self, task: Any) -> None:
        """The first workers are about to be started, for this task among others: prepare for it.

        A hint, given once.  By default nothing is done about it.
        """

    def pack(self, value: Any) -> Any:
        """A message to a task as it travels to the workers of this context.

        Raises:
            SerializationError: it can't be pickled.
        """
        return value

    def weigh(self, link: Link, is_on: bool) -> None:
        """Have a link know how many bytes each task costs (`Link.weights`), or no more."""

    async def aclose(self) -> None:
        """Give back what the workers shared, once they are gone."""
        self.abandon()

    def abandon(self) -> None:
        """The same without waiting."""
