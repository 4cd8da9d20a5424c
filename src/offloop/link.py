"""The one small interface that a context implements: a link to one worker.

A context is a place where a worker lives: a process, a thread, a
sub-interpreter, an actor on a cluster.  Whatever it is, its parent's end is a
`Link`, which is told what to do and reports what happened to a `LinkOwner`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from offloop.errors import RemoteTraceback, WorkerStartError

if TYPE_CHECKING:
    from offloop.protocols import TaskLike


class Exit(NamedTuple):
    """How a worker ended.

    Attributes:
        code: 0, an exit status, minus a signal's number, or None where unknown.
        clean: whether it took its leave; an exit without is a crash, also with code 0.
        started: ids of the tasks that it had begun and not ended.
        problem: why it could not start, or None; then it never took a task.
        peak_rss: its highest resident memory in bytes, or None.
        pid: its process id, or None.
        stack: its Python stack at a fatal signal, or None.
        output: the end of its stderr.
    """

    code: int | None
    clean: bool
    started: Sequence[int] = ()
    problem: BaseException | None = None
    peak_rss: int | None = None
    pid: int | None = None
    stack: str | None = None
    output: str = ""


def not_started(cause: BaseException) -> WorkerStartError:
    """The error for a worker whose setup or bootstrap raised ``cause``, as told by the worker."""
    remote = cause.__cause__
    text = remote.text if isinstance(remote, RemoteTraceback) else ""
    problem = WorkerStartError(f"the worker could not start: {type(cause).__name__}: {cause}", text)
    problem.__cause__ = cause
    return problem


S = TypeVar("S", bound="Sendable")


class Sendable(Protocol):
    """What a link needs to know of an enqueued task; it keeps ``place``, the task's turn there, itself."""

    id: int
    task: TaskLike[Any]
    place: int
    attempt: int


class LinkOwner(Protocol):
    """Who is told what happens at the other end; every call comes on the event loop."""

    def link_ready(self) -> None:
        """The worker is set up and takes tasks."""

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """Task ``id`` returned ``value``; it ran from ``start`` to ``end`` (monotonic seconds)."""

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

    def link_exited(self, exit: Exit) -> None:
        """The worker is gone; nothing follows."""


class Link(ABC):
    """The parent's end of one worker.  No method blocks."""

    pid: int | None = None

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

    @abstractmethod
    def kill(self) -> None:
        """End the worker at once."""

    @abstractmethod
    def running(self) -> list[tuple[int, float]]:
        """What is running now: ``(task id, monotonic start time)``."""

    def abandon(self) -> None:
        """End the worker and free what the parent holds for it, where the event loop no longer runs."""
        self.kill()

    def poll(self) -> None:
        """Report what has ended but was not reported yet, such as a result waiting behind a long task."""


class Context(ABC):
    """A place where workers live, opened by one pool (or one worker) on its event loop."""

    #: How many tasks a worker runs at a time (a factory's ``concurrency``).
    slots: int = 1

    @abstractmethod
    def connect(self, number: int, owner: LinkOwner) -> Link:
        """A link to a new worker with this number; it is not started yet."""

    async def aclose(self) -> None:
        """Give back what the workers shared, once they are gone."""
        self.abandon()

    def abandon(self) -> None:
        """The same without waiting."""
