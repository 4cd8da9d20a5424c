"""One creation of a missing value, and those who wait for it."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Any, Self


class Creation:
    """A context manager: registered in ``creations`` while its body makes the value.

    It ends in one of three ways: the body calls `finish`; it raises an
    ``Exception``, which those waiting get as well; or it is interrupted by
    another ``BaseException``, a cancellation above all.  That one concerns only
    the task it hit, so the creation has no outcome, and those waiting try again.

    Each of those waiting has a future of its own, which tells it no more than
    when to look, so that cancelling one of them touches nobody else.

    Args:
        creations: the running creations by key.
        key: the key of the value.
        task: the asyncio task that makes it.
    """

    __slots__ = ("_creations", "_error", "_finished", "_key", "_value", "_waiting", "task")

    def __init__(self, creations: dict[str, Creation], key: str, task: asyncio.Task[Any]) -> None:
        self.task = task
        self._creations = creations
        self._key = key
        self._finished = False
        self._value: Any = None
        self._error: Exception | None = None
        self._waiting: dict[asyncio.Future[None], None] = {}  # an ordered set

    def __enter__(self) -> Self:
        self._creations[self._key] = self
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, Exception):
            self._finished = True
            self._error = error
        if self._creations.get(self._key) is self:  # a task of another loop may have taken its place
            del self._creations[self._key]
        for future in list(self._waiting):
            if not future.done():
                # The loop is closed where a forgotten coroutine is collected after its end.
                try:
                    future.set_result(None)
                except RuntimeError:
                    pass

    def finish(self, value: Any) -> None:
        """Set the value that those waiting get."""
        self._finished = True
        self._value = value

    async def wait(self, task: asyncio.Task[Any]) -> bool:
        """Wait for the end; whether there is a `result`, else the value is still to be made.

        Raises:
            RuntimeError: ``task`` is the one that makes the value.
        """
        if task is self.task:
            raise RuntimeError(f"the factory of {self._key!r} waits for itself")
        future: asyncio.Future[None] = task.get_loop().create_future()
        self._waiting[future] = None
        try:
            await future
        finally:
            del self._waiting[future]
        return self._finished

    def result(self) -> Any:
        """The value; raises what its factory raised."""
        if self._error is not None:
            raise self._error
        return self._value
