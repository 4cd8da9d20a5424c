"""The structural types of the public interface: what `enqueue` accepts, what `current_task` returns.

They are apart from `offloop.task` because a worker has no use for them, and
``typing`` would cost it 8 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from offloop.environment import Environment

R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class TaskLike(Protocol[R_co]):
    """Any object with a ``run(environment)`` method: what ``enqueue`` accepts."""

    def run(self, environment: Environment, /) -> Any:
        """Do the work; see `offloop.Task.run`."""
        ...


class TaskContext(Protocol):
    """What a running task may know and do; `current_task` returns it."""

    @property
    def environment(self) -> Environment:
        """The worker's environment."""
        ...

    @property
    def worker_id(self) -> int:
        """The number of the worker within its pool."""
        ...

    @property
    def task_id(self) -> int:
        """The number of this task within its pool."""
        ...

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1, or more after a retry."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether this task's cancellation was requested."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise `TaskCancelled` if cancellation was requested."""
        ...

    def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the task has come: `Execution.progress` gets it.

        It never waits, and may be called as often as one likes, from any thread of
        the task: where reports come faster than they are taken, some are dropped, the
        last one never.  After the task's end it does nothing.

        Args:
            done: how much is done, in a unit of the task's own.
            total: how much there is to do, if that is known.
            message: a text for people.

        Raises:
            TypeError: a number is no number, or the message no string.
        """
        ...

    @property
    def channel(self) -> TaskChannel:
        """The task's end of its channel; the other one is `Execution.channel`."""
        ...


class TaskChannel(Protocol):
    """A running task's end of its channel: messages to and from whoever holds its execution.

    Both directions are first in, first out, and hold at most 64 messages that were not
    received.  Any thread of the task may use it, until the task ends.
    """

    def send(self, value: Any) -> None:
        """Send a message; blocks while there is no room.

        Raises:
            SerializationError: it can't be pickled; nothing was sent.
            ChannelClosed: the task has ended.
            TaskCancelled: the task was cancelled while this waited.
        """
        ...

    async def asend(self, value: Any) -> None:
        """`send` for async tasks: it waits without holding up the worker's event loop."""
        ...

    def receive(self) -> Any:
        """The next message; blocks until there is one.

        Raises:
            SerializationError: it can't be loaded here; the next one may be.
            ChannelClosed: the task has ended.
            TaskCancelled: the task was cancelled while this waited.
        """
        ...

    async def areceive(self) -> Any:
        """`receive` for async tasks: it waits without holding up the worker's event loop."""
        ...
