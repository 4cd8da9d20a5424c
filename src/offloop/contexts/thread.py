"""Workers in threads of this process: nothing is pickled, objects are shared."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from offloop.child.process import make_environment, run_bootstrap
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.environment import Environment
from offloop.errors import RemoteTraceback, TaskCancelled, TaskFailed, WorkerStartError
from offloop.link import Context, Exit, Link, LinkOwner, S, Sendable, not_started
from offloop.task import CallableTask
from offloop.wire.failure import is_control_flow
from offloop.wire.frames import (
    BYE,
    CANCELLED,
    FAILED,
    READY,
    REFUSED,
    RESULT,
    RUN,
    STOP,
    Record,
)
from offloop.wire.tracebacks import message_of, own_text, type_name_of
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


class ThreadPort:
    """A worker thread's end of the conversation: queues in place of sockets."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[], None], slots: int) -> None:
        self.inbox: SimpleQueue[list[Record] | None] = SimpleQueue()
        self.outbox: deque[tuple[int, int, Any, float, float]] = deque()
        self.slots: list[tuple[int, float]] = [(0, 0.0)] * slots
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
        """Wait for records."""
        try:
            return self.inbox.get(timeout is None or timeout > 0, timeout)
        except Empty:
            return []

    def attach(self, loop: asyncio.AbstractEventLoop, arrived: Callable[[], None]) -> None:
        """From now on have ``loop`` call ``arrived`` when something can be received."""

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(arrived)
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
        task: Any = record[6]
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

    def running(self, slot: int, id: int, start: float) -> None:
        """Note which task is about to run."""
        self.slots[slot] = (id, start)

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
        try:
            self._thread.start()
        except RuntimeError as error:  # can't start new thread
            self._problem = WorkerStartError(f"a worker thread could not start: {error}")
            self._loop.call_soon(self._finish, None, False)

    def _run(self) -> None:
        port, factory = self._port, self._factory
        interrupter = Interrupter(threading.get_ident())
        self._turns.interrupt_from_outside, self._turns.withdraw = interrupter.interrupt, interrupter.withdraw
        try:
            environment = make_environment(factory.environment)
            run_bootstrap(factory.bootstrap, environment)
        except BaseException as error:
            port.say(REFUSED, as_seen_by_parent(error))
            return
        runner = Runner(port, self._number, environment, self._turns, factory.concurrency)
        if runner.serve():
            runner.close()
        else:
            environment.close()  # given up by the parent while it ran a task

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Hand tasks over."""
        records: list[Record] = []
        for item in items:
            self._sent += 1
            item.place = self._sent
            task: Any = item.task
            records.append((RUN, 0, 0, item.id, item.attempt, 0.0, task))
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
        self._finish(-9, False)
        if running and self._thread.is_alive():
            warnings.warn(
                f"a thread can't be killed: {self._thread.name} is abandoned, "
                "and its task goes on until it returns",
                RuntimeWarning,
                stacklevel=2,
            )

    def running(self) -> list[tuple[int, float]]:
        """What runs now."""
        return [slot for slot in self._port.slots if slot[0]]

    def poll(self) -> None:
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
            elif kind == READY:
                self._owner.link_ready()
            elif kind == REFUSED:
                self._problem = not_started(value)
                self._finish(1, False)
            elif kind == BYE:
                self._finish(0, True)
        self._owner.link_delivered()

    def _finish(self, code: int | None, clean: bool) -> None:
        if self._over:
            return
        self._over = True
        started = [id for id, _ in self.running()]
        self._owner.link_exited(Exit(code, clean, started, self._problem))


class Interrupter:
    """Raises `TaskCancelled` in a thread's Python code: the only way into a thread that CPython offers."""

    def __init__(self, thread: int) -> None:
        self._thread = ctypes.c_ulong(thread)
        self._raise = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def interrupt(self) -> None:
        """Have it raised at the thread's next Python instruction."""
        self._raise(self._thread, ctypes.py_object(TaskCancelled))

    def withdraw(self) -> None:
        """Take it back, if it was not raised yet."""
        self._raise(self._thread, None)


def as_seen_by_parent(error: BaseException) -> BaseException:
    """The exception to raise in the parent: the object itself, told where it was raised."""
    name, message = type_name_of(type(error)), message_of(error)
    text, _ = own_text(error, name, message)
    if is_control_flow(type(error)):
        failed = TaskFailed(name, message, text)
        failed.__cause__ = RemoteTraceback(text)
        return failed
    remote = RemoteTraceback(text)
    cause = error.__cause__
    remote.__cause__ = cause.__cause__ if isinstance(cause, RemoteTraceback) else cause
    error.__cause__ = remote
    return error.with_traceback(None)
