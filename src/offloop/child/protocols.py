"""What a `Runner` speaks to: the structural types of a worker's end of the conversation.

They are apart from it because a worker has no use for them, and importing ``typing`` would take it
milliseconds.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from offloop.wire.frames import Record

if TYPE_CHECKING:
    from offloop.child.keeping import AsIs, Pickled

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Variables(Protocol):
    """The context variables that came with a task."""

    def context(self, own: Context) -> Context:
        """A context for it to run in; ``own`` has what is set for all tasks of this worker."""
        raise NotImplementedError


class Voice(Protocol):
    """What a worker says about its running tasks beside their outcomes; for any thread."""

    def tell(self, kind: int, id: int, value: Any) -> None:
        """Say something about a running task, without waiting."""

    def pack(self, value: Any) -> Any:
        """A message of a channel as it travels; raises `SerializationError`."""

    def unpack(self, packed: Any) -> Any:
        """The message that came; raises `SerializationError`."""


class Port(Protocol):
    """A worker's end of the conversation with its parent; one for each kind of context."""

    @property
    def variables(self) -> Variables | None:
        """Those of the task that was loaded last; None if it came with none."""

    @property
    def voice(self) -> Voice:
        """What is said beside the outcomes."""
        raise NotImplementedError

    def receive(self, timeout: float | None = None) -> list[Record] | None:
        """Wait for records; an empty list after ``timeout`` seconds, None when the parent is gone."""

    def note(self, record: Record, environment: Any) -> None:
        """Take in a record that is no task, or a task that is not to be run."""

    def load(self, record: Record, environment: Any) -> Call:
        """The call that a task's record asks for."""
        raise NotImplementedError

    def result(self, id: int, value: Any, start: float, end: float) -> Callable[[], None] | None:
        """Report a result; raises if it can't be pickled.

        What it returns, if anything, is called once the task's objects were let go of.
        """

    def keeper(self) -> AsIs | Pickled:
        """What keeps the outcomes of a chunk's items, until that of the chunk is reported."""
        raise NotImplementedError

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report a failure."""

    def unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report that a task could not be loaded."""

    def cancelled(self, id: int, start: float, end: float) -> None:
        """Report that a task ended because it was cancelled."""

    def running(self, slot: int, id: int, start: float) -> None:
        """Note durably which task is about to run."""

    def say(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame that concerns no task."""

    def flush(self) -> None:
        """Send what waits to be sent."""

    def item(self, id: int, slot: int, index: int, value: Any) -> int:
        """Send an item of a stream; raises if it can't be pickled.  Returns its size in bytes."""
        raise NotImplementedError

    def attach(self, loop: AbstractEventLoop, arrived: Callable[[], None]) -> None:
        """From now on have ``loop`` call ``arrived`` when something can be received."""

    def detach(self, loop: AbstractEventLoop) -> None:
        """End `attach`."""
