"""A worker thread's end of the conversation with its parent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context as VariableContext, copy_context
from queue import Empty, SimpleQueue
from typing import Any

from offloop.child.keeping import AsIs, Pickled
from offloop.contexts.doorbell import Ring
from offloop.contexts.sharing import as_seen_by_parent
from offloop.task import CallableTask, provider
from offloop.wire.frames import CANCELLED, FAILED, ITEM, MESSAGE, RESULT, Record

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Captured:
    """The context in which a task was enqueued, which runs in a copy of it."""

    __slots__ = ("_context",)

    def __init__(self, context: VariableContext) -> None:
        self._context = context

    def context(self, own: VariableContext) -> VariableContext:
        """A copy; what the worker has set for all its tasks is set there too, unless it is already."""
        context = self._context.copy()
        for variable, value in own.items():
            if variable is provider or variable not in context:
                context.run(variable.set, value)
        return context


#: The kind of what a thread reports that ends by an exception.
DIED = -1


class ThreadPort:
    """A worker thread's end of the conversation: queues in place of sockets."""

    def __init__(self, ring: Ring, deliver: Callable[[], None], slots: int) -> None:
        self.inbox: SimpleQueue[list[Record] | None] = SimpleQueue()
        self.outbox: deque[tuple[int, int, Any, float, float]] = deque()
        self.slots: list[tuple[int, float]] = [(0, 0.0)] * slots
        self.variables: Captured | None = None
        self._ring = ring
        self._deliver = deliver
        self._arrived: Callable[[], None] | None = None
        self.woken = False

    def put(self, records: list[Record] | None) -> None:
        """Parent's side: hand over records; None says that the parent gave up this worker."""
        self.inbox.put(records)
        arrived = self._arrived
        if arrived is not None:
            arrived()

    def receive(self, timeout: float | None = None) -> list[Record] | None:
        """Wait for records, and take all that there are: an event loop is not woken for each again."""
        inbox = self.inbox
        try:
            records = inbox.get(timeout is None or timeout > 0, timeout)
        except Empty:
            return []
        while records is not None and not inbox.empty():  # only this thread takes something out
            more = inbox.get()
            if more is None:
                return None
            records.extend(more)
        return records

    def attach(self, loop: asyncio.AbstractEventLoop, arrived: Callable[[], None]) -> None:
        """From now on have ``loop`` call ``arrived`` when something can be received."""
        context = copy_context()  # this thread's: whoever hands something over has another one

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(arrived, context=context)
            except RuntimeError:
                pass  # the worker's loop has just ended

        self._arrived = wake
        loop.call_soon(arrived)

    def detach(self, loop: asyncio.AbstractEventLoop) -> None:
        """End `attach`."""
        self._arrived = None

    def note(self, record: Record, environment: Any) -> None:
        """There are no records but tasks here."""

    def load(self, record: Record, environment: Any) -> Call:
        """The call for a task: the object itself."""
        content: Any = record[6]
        task, context = content
        self.variables = Captured(context) if context is not None else None
        if type(task) is CallableTask:
            return task.fn, task.args, task.kwargs
        return task.run, (environment,), {}

    def result(self, id: int, value: Any, start: float, end: float) -> None:
        """Report a result."""
        self.outbox.append((RESULT, id, value, start, end))

    def keeper(self) -> AsIs | Pickled:
        """What keeps the outcomes of a chunk's items: the objects themselves."""
        return AsIs(as_seen_by_parent)

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report a failure."""
        self.outbox.append((FAILED, id, as_seen_by_parent(error), start, end))

    def unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """There is nothing to load here."""
        self.failure(id, error, start, end)

    def cancelled(self, id: int, start: float, end: float) -> None:
        """Report that a running task ended because it was cancelled."""
        self.outbox.append((CANCELLED, id, None, start, end))

    @property
    def voice(self) -> ThreadPort:
        """This itself."""
        return self

    def item(self, id: int, slot: int, index: int, value: Any) -> int:
        """Hand over an item of a stream."""
        self.outbox.append((ITEM, id, value, 0.0, 0.0))
        self.flush()
        return 0

    def tell(self, kind: int, id: int, value: Any) -> None:
        """Say something about a running task."""
        if kind == MESSAGE:
            message = value
            value = lambda: message  # noqa: E731 -- as a message that has to be loaded
        self.outbox.append((kind, id, value, 0.0, 0.0))
        self.flush()

    def pack(self, value: Any) -> Any:
        """The message itself."""
        return value

    def unpack(self, packed: Any) -> Any:
        """The message itself."""
        return packed

    def running(self, slot: int, id: int, start: float) -> None:
        """Note which task is about to run."""
        self.slots[slot] = (id, start)
        if not id:
            self.variables = None  # what they hold is not kept until the next task

    def say(self, kind: int, payload: Any = b"") -> None:
        """Report what concerns no task."""
        self.outbox.append((kind, 0, payload, 0.0, 0.0))
        self.flush()

    def flush(self) -> None:
        """Wake the parent's event loop, unless it has been woken and has not looked yet."""
        if self.outbox and not self.woken:
            self.woken = True
            self._ring(self._deliver)
