"""The runner: runs a worker's tasks, one after the other, whatever the context."""

from __future__ import annotations

from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from offloop.child.turns import Turns
from offloop.errors import SerializationError, TaskCancelled
from offloop.task import provider
from offloop.wire.frames import BYE, READY, STOP, TASKS, Record

TYPE_CHECKING = False

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any, Protocol

    from offloop.environment import Environment
    from offloop.protocols import TaskContext

    Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
else:
    Protocol = object

#: Outcomes wait at most this long, in seconds, for others to be sent with.
FLUSH_AFTER = 0.001
#: Results of these types are neither awaited nor exhausted.
PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
#: Results of this type are exhausted.
GENERATOR: type[Any] = GeneratorType


class Port(Protocol):
    """A worker's end of the conversation with its parent; one for each kind of context."""

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

    def attach(self, loop: AbstractEventLoop, arrived: Callable[[], None]) -> None:
        """From now on have ``loop`` call ``arrived`` when something can be received."""

    def detach(self, loop: AbstractEventLoop) -> None:
        """End `attach`."""


class RunningTask:
    """The `TaskContext` of the task that runs now."""

    def __init__(self, runner: Runner, record: Record, place: int) -> None:
        self.environment: Environment = runner.environment
        self.worker_id = runner.number
        self.task_id = record[3]
        self.attempt = int(record[4])
        self._turns = runner.turns
        self._place = place

    @property
    def cancelled(self) -> bool:
        """Whether this task's cancellation was requested."""
        return self._place in self._turns.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `TaskCancelled` if cancellation was requested."""
        if self.cancelled:
            raise TaskCancelled("the task was cancelled")


class Runner:
    """Runs the tasks that its port receives.

    Args:
        port: the conversation with the parent.
        number: the worker's number within its pool.
        environment: the worker's store.
        turns: what this thread shares with the one that serves cancel and recall.
        slots: how many async tasks may overlap.
    """

    def __init__(
        self, port: Port, number: int, environment: Environment, turns: Turns, slots: int = 1
    ) -> None:
        self.port = port
        self.number = number
        self.environment = environment
        self.turns = turns
        self.slots = slots
        self.record: Record | None = None
        self.stopping = False
        self._closed = False

    def current(self) -> TaskContext | None:
        """The context of the running task, for `offloop.current_task`."""
        record = self.record
        return RunningTask(self, record, self.turns.place) if record is not None else None

    def serve(self) -> bool:
        """Run tasks until told to stop (True) or until the parent is gone (False)."""
        provider.set(self.current)
        self.port.say(READY)
        if self.slots > 1:
            return self._overlap([], None)
        while not self.stopping:
            records = self.next_records()
            if records is None:
                return False
            awaitable = self._work_off(records)
            if awaitable is not None:
                return self._overlap(records, awaitable)
            self.port.running(0, 0, 0.0)
            self.port.flush()
            self._await_pending(None)
        return True

    def close(self) -> None:
        """Close the environment, unless an event loop did, and take leave of the parent."""
        if not self._closed:
            self.close_environment(None)
        self.port.flush()
        self.port.say(BYE)

    def close_environment(self, run: Callable[[Any], Any] | None) -> None:
        """Close the environment; what that leaves to be awaited is awaited by ``run``."""
        self._closed = True
        self.environment.close()
        self._await_pending(run)

    def _await_pending(self, run: Callable[[Any], Any] | None) -> None:
        """Await what removing entries from the environment left to be awaited."""
        pending = self.environment.take_pending()
        if pending:
            from offloop.child.overlap import await_all, finish_pending

            finish_pending(pending) if run is None else run(await_all(pending))

    def next_records(self) -> list[Record] | None:
        """Wait for records, and meanwhile let entries of the environment expire when they are due."""
        while True:
            deadline = self.environment.next_deadline()
            timeout = max(0.0, deadline - monotonic()) if deadline is not None else None
            records = self.port.receive(timeout)
            if deadline is not None and monotonic() >= deadline:
                self.environment.expire()
                self._await_pending(None)
            if records is None or records:
                return records

    def _overlap(self, records: list[Record], awaitable: Any) -> bool:
        """Go on with an event loop: from the first awaitable on, or where tasks may overlap."""
        from offloop.child.overlap import Overlap

        return Overlap(self).serve(records, awaitable)

    # -- the hot path ---------------------------------------------------------

    def _work_off(self, records: list[Record]) -> Any:
        """Run tasks in order.

        Returns:
            None when all is done; or the awaitable that a task returned, with
            that task's record and what is behind it left in ``records``.
        """
        port, turns = self.port, self.turns
        sent = monotonic()
        for index, record in enumerate(records):
            if record[0] not in TASKS:
                self.other(record)
            elif turns.begin():
                awaitable = self.run_task(record)
                if awaitable is not None:
                    del records[:index]
                    return awaitable
                if monotonic() - sent > FLUSH_AFTER:
                    port.flush()
                    sent = monotonic()
            else:
                port.note(record, self.environment)
        return None

    def other(self, record: Record) -> None:
        """Take in a record that is no task."""
        if record[0] == STOP:
            self.stopping = True
        else:
            self.port.note(record, self.environment)

    def run_task(self, record: Record) -> Any:
        """Run one task to its end and report its outcome.

        Returns:
            None; or what the task returned, if that is to be awaited.
        """
        port, turns = self.port, self.turns
        id = record[3]
        start = monotonic()
        port.running(0, id, start)
        self.record = record
        later = loaded = value = fn = args = kwargs = None
        try:
            try:
                fn, args, kwargs = port.load(record, self.environment)
                loaded = True
                turns.interruptible = turns.place
                if turns.cancelled:  # requested while the task was being loaded
                    turns.interrupt()
                value = fn(*args, **kwargs)
                if type(value) not in PLAIN:
                    if is_awaitable(value):
                        return value
                    if type(value) is GENERATOR:
                        value = list(value)
            finally:
                turns.interruptible = 0
            if turns.cancelled:
                turns.settle()
            end = monotonic()
            later = self.report(id, value, start, end)
        except BaseException as error:
            try:
                self.report_failure(record, error, start, loaded)
            except TaskCancelled as late:  # it came when the task had just failed, and comes once
                self.report_failure(record, late, start, loaded)
        finally:
            # What the arguments' and the result's finalisers do happens here,
            # and is not blamed on the next task.
            self.record = value = fn = args = kwargs = None
        if later is not None:
            later()
        return None

    def report(self, id: int, value: Any, start: float, end: float) -> Callable[[], None] | None:
        """Report a result, or that it can't be pickled; see `Port.result`."""
        try:
            later = self.port.result(id, value, start, end)
        except TaskCancelled:
            raise
        except BaseException as error:
            self.port.failure(id, unpicklable_result(value, error), start, end)
            return None
        return later and (lambda: self._report_late(later, id, start, end))

    def _report_late(self, later: Callable[[], None], id: int, start: float, end: float) -> None:
        """Report a result whose objects were let go of; what goes wrong fails this task alone."""
        try:
            later()
        except ConnectionError:  # the parent is gone
            raise
        except Exception as error:
            problem = SerializationError(
                f"a result can't be sent: {type(error).__name__}: {safe_text(error)}"
            )
            problem.__cause__ = error
            self.port.failure(id, problem, start, end)

    def report_failure(self, record: Record, error: BaseException, start: float, loaded: Any) -> None:
        """Report what a task, or loading it, raised."""
        turns = self.turns
        turns.interruptible = 0
        if turns.cancelled:
            turns.settle()
        end = monotonic()
        if loaded is None:
            self.port.unloadable(record[3], error, start, end)
            return
        if turns.place in turns.cancelled and isinstance(error, TaskCancelled):
            turns.cancelled.discard(turns.place)
            self.port.cancelled(record[3], start, end)
            return
        self.port.failure(record[3], error, start, end)


def is_awaitable(value: object) -> bool:
    """Whether a task's result is to be awaited, or exhausted asynchronously."""
    return isinstance(value, (CoroutineType, AsyncGeneratorType)) or hasattr(type(value), "__await__")


def unpicklable_result(value: Any, error: BaseException) -> SerializationError:
    """The error for a result that can't be pickled."""
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    result = SerializationError(
        f"a result of type {name} can't be pickled: {type(error).__name__}: {safe_text(error)}"
    )
    result.__cause__ = error
    return result


def safe_text(error: BaseException) -> str:
    """``str(error)``, whatever it does."""
    try:
        return str(error)
    except Exception:
        return "<no text>"
