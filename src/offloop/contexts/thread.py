"""Workers in threads of this process: nothing is pickled, objects are shared."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context as VariableContext, copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from offloop.child.bootstrap import make_environment, run_bootstrap
from offloop.child.interrupting import interrupt_by_exception
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.contexts.marks import mark_records
from offloop.contexts.sharing import as_seen_by_parent
from offloop.contexts.whereabouts import where_it_is
from offloop.environment import Environment
from offloop.errors import WorkerStartError
from offloop.link import Context, Exit, Link, LinkOwner, S, Sendable, not_started
from offloop.task import CallableTask, provider
from offloop.wire.frames import (
    BYE,
    CANCELLED,
    FAILED,
    ITEM,
    LIVE,
    MESSAGE,
    READY,
    REFUSED,
    RESULT,
    RUN,
    STACK,
    STOP,
    Record,
)
from offloop.worker import WorkerFactory

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
#: Seconds of delivering after which other callbacks of the event loop get their turn.
BUDGET = 0.001

_STOP: Record = (STOP, 0, 0, 0, 0.0, 0.0, b"")


@dataclass(frozen=True, kw_only=True)
class ThreadWorkerFactory(WorkerFactory):
    """Makes workers that live in threads of this process.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file.
        concurrency: how many async tasks of one worker may overlap.
    """

    environment: Callable[[], Environment] | None = None
    bootstrap: Any = None
    concurrency: int = 1

    def __post_init__(self) -> None:
        self.check_common(self.environment, self.bootstrap, self.concurrency)

    def context(self) -> Context:
        """The context for one pool."""
        return ThreadContext(self)


class ThreadContext(Context):
    """The threads of one pool."""

    def __init__(self, factory: ThreadWorkerFactory) -> None:
        self.slots = factory.concurrency
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._threads: list[threading.Thread] = []

    def connect(self, number: int, owner: LinkOwner) -> ThreadLink:
        """A link to a new worker thread."""
        return ThreadLink(self._loop, self._factory, number, owner)


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

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[], None], slots: int) -> None:
        self.inbox: SimpleQueue[list[Record] | None] = SimpleQueue()
        self.outbox: deque[tuple[int, int, Any, float, float]] = deque()
        self.slots: list[tuple[int, float]] = [(0, 0.0)] * slots
        self.variables: Captured | None = None
        self._loop = loop
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
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                pass  # the parent's loop was closed: nobody waits


class ThreadLink(Link):
    """The parent's end of one worker thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, factory: ThreadWorkerFactory, number: int, owner: LinkOwner
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._number = number
        self._owner = owner
        self._turns = Turns()
        self._port = ThreadPort(loop, self._deliver, factory.concurrency + 1)
        self._sent = 0
        self._problem: BaseException | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"offloop-worker-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        mark_records()
        try:
            self._thread.start()
        except RuntimeError as error:  # can't start new thread
            self._problem = WorkerStartError(f"a worker thread could not start: {error}")
            self._loop.call_soon(self._finish, None, False)

    def _run(self) -> None:
        port, factory = self._port, self._factory
        interrupt_by_exception(self._turns, threading.get_ident())
        try:
            environment = make_environment(factory.environment)
            run_bootstrap(factory.bootstrap, environment)
        except BaseException as error:
            port.say(REFUSED, as_seen_by_parent(error))
            return
        runner = Runner(port, self._number, environment, self._turns, factory.concurrency)
        try:
            if runner.serve():
                runner.close()
            else:
                environment.close()  # given up by the parent while it ran a task
        except BaseException:  # of a callback between two tasks: nobody watches a thread's end
            port.say(DIED)
            raise

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Hand tasks over."""
        records: list[Record] = []
        for item in items:
            self._sent += 1
            item.place = self._sent
            content: Any = item.task, item.context
            records.append((RUN, item.flags, 0, item.id, item.attempt, item.cost, content))
        self._port.put(records)
        return []

    def cancel(self, items: Sequence[Sendable]) -> None:
        """Cancel tasks; a synchronous one that runs is interrupted in Python code, not in a blocking call."""
        self.recall(items)
        for item in items:
            self._turns.request_cancel(item.place)

    def recall(self, items: Sequence[Sendable]) -> None:
        """Take tasks back."""
        returned = self._turns.take_back([(item.place, item.id) for item in items])
        if returned:
            self._loop.call_soon(self._owner.link_returned, returned)

    def stop(self) -> None:
        """Let the worker finish."""
        self._port.put([_STOP])

    def kill(self) -> None:
        """Give the thread up: it can't be ended, and is left to run out."""
        if self._over:
            return
        running = [id for id, _ in self.running()]
        self._port.put(None)
        for live in list(self._turns.lives.values()):
            live.close()
        self._finish(-9, False)
        if running and self._thread.is_alive():
            text = (
                f"a thread can't be killed: {self._thread.name} is abandoned, "
                "and its task goes on until it returns"
            )
            tell = partial(warnings.warn_explicit, text, RuntimeWarning, *where_it_is(self._thread))
            if self._loop.is_running():  # later: where warnings are errors, this raises
                self._loop.call_soon(tell)
            else:
                tell()

    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """Say something to a running task."""
        if kind == STACK:
            self._loop.call_soon(self._owner.link_said, STACK, id, self._turns.stack_of(id))
            return
        live = self._turns.lives.get(id)
        if live is not None:
            live.hear(kind, value)

    def abandon(self) -> None:
        """Give the thread up, and tell nobody: the event loop no longer runs."""
        self._over = True
        self._port.put(None)

    def running(self) -> list[tuple[int, float]]:
        """What runs now."""
        return [slot for slot in self._port.slots if slot[0]]

    def poll(self, until: float = inf) -> None:
        """Take what has come."""
        self._deliver()

    def _deliver(self) -> None:
        """Take what the thread reported."""
        self._port.woken = False
        outbox = self._port.outbox
        until = monotonic() + BUDGET
        while outbox and not self._over:
            if len(outbox) & 15 == 15 and monotonic() > until:
                self._port.woken = True
                self._loop.call_soon(self._deliver)
                break
            kind, id, value, start, end = outbox.popleft()
            if kind == RESULT:
                self._owner.link_result(id, value, start, end)
            elif kind == FAILED:
                self._owner.link_failure(id, value, start, end)
            elif kind == CANCELLED:
                self._owner.link_cancelled(id, start, end)
            elif kind == ITEM:
                self._hand_on(id, value)
            elif kind in LIVE:
                self._owner.link_said(kind, id, value)
            elif kind == READY:
                self._owner.link_ready()
            elif kind == REFUSED:
                self._problem = not_started(value)
                self._finish(1, False)
            elif kind == BYE:
                self._finish(0, True)
            elif kind == DIED:
                self._finish(1, False)
        self._owner.link_delivered()

    def _hand_on(self, id: int, item: Any) -> None:
        sink = self._owner.link_stream(id)
        if sink is not None:
            sink.put(item, 0)

    def _finish(self, code: int | None, clean: bool) -> None:
        if self._over:
            return
        self._over = True
        running = self.running()
        ran = sum(monotonic() - start for _, start in running)
        self._owner.link_exited(Exit(code, clean, [id for id, _ in running], self._problem, ran=ran))
