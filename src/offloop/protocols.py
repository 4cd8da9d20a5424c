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
