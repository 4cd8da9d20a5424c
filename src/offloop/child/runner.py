"""The runner: runs a worker's tasks, one after the other, whatever the context."""

from __future__ import annotations

import _thread
from contextvars import copy_context
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from offloop.child.faults import unpicklable
from offloop.child.running import RunningTask
from offloop.child.streaming import stream
from offloop.child.turns import Turns
from offloop.errors import SerializationError, TaskCancelled
from offloop.task import provider
from offloop.wire.frames import BYE, READY, STOP, STREAMED, TASKS, Record
from offloop.wire.tracebacks import brief

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

    from offloop.child.memory import MemoryGuard
    from offloop.child.overlap import Overlap
    from offloop.child.protocols import Call, Port
    from offloop.environment import Environment
    from offloop.protocols import TaskContext

#: Outcomes wait at most this long, in seconds, for others to be sent with; and never behind a task
#: that is expected to take longer, which the scheduler relies on (`SHORT` there).
FLUSH_AFTER = 0.001
#: Seconds of the longest wait at a time: neither sockets nor queues take any number.
LONGEST = 86_400.0
#: Results of these types are neither awaited nor exhausted.
PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
#: Results of this type are exhausted.
GENERATOR: type[Any] = GeneratorType


class Runner:
    """Runs the tasks that its port receives.

    Args:
        port: the conversation with the parent.
        number: the worker's number within its pool.
        environment: the worker's store.
        turns: what this thread shares with the one that serves cancel and recall.
        slots: how many async tasks may overlap.
        memory: looks at this process's memory between tasks, where that is limited.
    """

    def __init__(
        self,
        port: Port,
        number: int,
        environment: Environment,
        turns: Turns,
        slots: int = 1,
        memory: MemoryGuard | None = None,
    ) -> None:
        self.port = port
        self.number = number
        self.environment = environment
        self.turns = turns
        self.slots = slots
        self.memory = memory
        #: Whether an event loop runs, which a stream must not hold up.
        self.has_loop = False
        self.record: Record | None = None
        #: In which the awaitable that `run_task` returned is to be awaited, if not in the worker's own.
        self.context: Context | None = None
        self._own = copy_context()  # with what was set for all tasks of this worker
        self._own.run(provider.set, self.current)
        self.stopping = False
        self._closed = False
        #: Async tasks under way, by id.
        self.async_tasks: dict[int, Any] = {}
        turns.thread = _thread.get_ident()
        turns.stack_of = self._stack_of

    def current(self) -> TaskContext | None:
        """The context of the running task, for `offloop.current_task`."""
        record = self.record
        return RunningTask(self, record, self.turns.place) if record is not None else None

    def serve(self) -> bool:
        """Run tasks until told to stop (True) or until the parent is gone (False)."""
        provider.set(self.current)
        self.port.say(READY)
        if self.slots > 1:
            from offloop.child.overlap import Overlap

            return Overlap(self).serve([], None)
        while not self.stopping:
            records = self.next_records()
            if records is None:
                return False
            while (awaitable := self._work_off(records)) is not None:
                overlap = self._overlap(records[0], awaitable)
                if overlap is not None:
                    return overlap.serve(records, awaitable)
                del records[0], awaitable
            del records  # a thread's hold the tasks themselves, and the next ones may be long in coming
            self.port.running(0, 0, 0.0)
            self.flush()
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

            if run is None:
                self.contain(lambda: finish_pending(pending))
            else:
                run(await_all(pending))

    def contain(self, call_back: Callable[[], object]) -> None:
        """Have the environment call back between two tasks, where there is none to fail by what escapes."""
        try:
            call_back()
        except Exception:  # of the environment itself, which logs what its callbacks raise
            raise
        except BaseException as error:
            from offloop.environment.loops import logger

            logger().error("on_delete failed", exc_info=error)

    def next_records(self) -> list[Record] | None:
        """Wait for records, and meanwhile let entries of the environment expire when they are due."""
        while True:
            deadline = self.environment.next_deadline()
            timeout = min(max(0.0, deadline - monotonic()), LONGEST) if deadline is not None else None
            records = self.port.receive(timeout)
            if deadline is not None and monotonic() >= deadline:
                self.contain(self.environment.expire)
                self._await_pending(None)
            if records is None or records:
                return records

    def _overlap(self, record: Record, awaitable: Any) -> Overlap | None:
        """What goes on with an event loop, from a task's awaitable on; the task fails if none can be made."""
        start = monotonic()
        try:
            from offloop.child.overlap import Overlap

            return Overlap(self)
        except BaseException as error:
            if type(awaitable) is CoroutineType:
                awaitable.close()  # or Python warns that it was never awaited
            self.report_failure(record, error, start, loaded=True)
            return None

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
                    self.flush()
                    sent = monotonic()
            else:
                port.note(record, self.environment)
        return None

    def flush(self) -> None:
        """Send outcomes, and look at the memory where it is limited."""
        self.port.flush()
        if self.memory is not None and self.turns.place:
            self.memory.check()

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
        if record[5] > FLUSH_AFTER:
            port.flush()
        start = monotonic()
        port.running(0, id, start)
        self.record = record
        later = loaded = value = fn = args = kwargs = None
        try:
            try:
                fn, args, kwargs = port.load(record, self.environment)
                if record[1] & STREAMED or port.variables is not None:
                    fn, args, kwargs = self._wrapped(record, fn, args, kwargs)
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
            later = self.report(id, value, start, monotonic())
        except BaseException as error:
            try:
                self.report_failure(record, error, start, loaded)
            except TaskCancelled as late:  # it came when the task had just failed, and comes once
                self.report_failure(record, late, start, loaded)
        finally:
            # Finalisers of the arguments and the result run here, and are not blamed on the next task.
            self.record = value = fn = args = kwargs = None
        if later is not None:
            later()
        return None

    def _wrapped(self, record: Record, *call: Any) -> Call:
        """The call that makes a call as a stream, or in the context that came with it, or both."""
        if record[1] & STREAMED:
            fn, args, kwargs = call
            call = (lambda: stream(self, record, fn(*args, **kwargs))), (), {}
        variables = self.port.variables
        return self._within(variables.context(self._own), *call) if variables is not None else call

    def _within(
        self, context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call:
        """The call that makes a call in a context, in which its result is exhausted or to be awaited, too."""

        def call() -> Any:
            value = context.run(fn, *args, **kwargs)
            if type(value) is GENERATOR:
                return context.run(list, value)
            if is_awaitable(value):
                self.context = context
            return value

        return call, (), {}

    def report(self, id: int, value: Any, start: float, end: float) -> Callable[[], None] | None:
        """Report a result, or that it can't be pickled; see `Port.result`."""
        if self.turns.lives:
            self.end_live(id)
        try:
            later = self.port.result(id, value, start, end)
        except TaskCancelled:
            raise
        except BaseException as error:
            self.port.failure(id, unpicklable("a result", value, error), start, end)
            return None
        return later and (lambda: self._report_late(later, id, start, end))

    def _report_late(self, later: Callable[[], None], id: int, start: float, end: float) -> None:
        """Report a result whose objects were let go of; what goes wrong fails this task alone."""
        try:
            later()
        except ConnectionError:  # the parent is gone
            raise
        except Exception as error:
            problem = SerializationError(f"a result can't be sent: {brief(error)}")
            problem.__cause__ = error
            self.port.failure(id, problem, start, end)

    def _stack_of(self, id: int) -> str:
        from offloop.child.stacks import stack_of

        return stack_of(self, id)

    def end_live(self, id: int) -> None:
        """A task has ended: what it still had to say goes before its outcome."""
        turns = self.turns
        live = turns.lives.pop(id, None)
        if live is not None:
            live.end()
        for late in list(turns.lives.values()):
            if late.place < turns.place and late.place not in turns.awaiting:
                del turns.lives[late.id]  # a thread of a task asked for it just when the task ended

    def report_failure(self, record: Record, error: BaseException, start: float, loaded: Any) -> None:
        """Report what a task, or loading it, raised."""
        turns = self.turns
        turns.interruptible = 0
        self.context = None  # it may have failed when it had just returned an awaitable
        if turns.cancelled:
            turns.settle()
        end = monotonic()
        if turns.lives:
            self.end_live(record[3])
        if loaded is None:
            self.port.unloadable(record[3], error, start, end)
            return
        if turns.place in turns.cancelled and issubclass(type(error), TaskCancelled):
            turns.cancelled.discard(turns.place)
            self.port.cancelled(record[3], start, end)
            return
        self.port.failure(record[3], error, start, end)


def is_awaitable(value: object) -> bool:
    """Whether a task's result is to be awaited, or exhausted asynchronously."""
    return isinstance(value, (CoroutineType, AsyncGeneratorType)) or hasattr(type(value), "__await__")
