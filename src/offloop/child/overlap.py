"""A worker with an event loop: async tasks, overlapping where the factory's ``concurrency`` allows.

A worker gets its loop at its first awaitable, and keeps it: connections and
background tasks of the user's live on between tasks.  Synchronous tasks then
run on the loop as well, in their order.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _set_running_loop
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Awaitable
from contextvars import copy_context
from time import monotonic
from types import AsyncGeneratorType

from offloop.child.runner import FLUSH_AFTER
from offloop.child.running import RunningTask
from offloop.environment.loops import logger
from offloop.errors import TaskCancelled
from offloop.task import provider
from offloop.wire.frames import TASKS, Record

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from offloop.child.runner import Runner

#: Seconds that asynchronous ``on_delete`` callbacks may take where a worker waits for them.
ON_DELETE_GRACE = 5.0


def as_without_loop(function: Callable[..., Any], *args: Any) -> Any:
    """Call synchronous code of the user's from the event loop that runs: it may run one of its own."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:  # since Python 3.14 a thread has one current task, not one for each loop
        _leave_task(loop, task)
    _set_running_loop(None)
    try:
        return function(*args)
    finally:
        _set_running_loop(loop)
        if task is not None:
            _enter_task(loop, task)


class Overlap:
    """Runs a runner's tasks on an event loop.

    Args:
        runner: whose tasks.
        loop: the event loop; by default one of its own.
    """

    #: Seconds of synchronous tasks after which others on the loop get their turn.
    budget = FLUSH_AFTER

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._runner = runner
        self._loop = loop if loop is not None else asyncio.new_event_loop()
        self._waiting: deque[Record] = deque()
        self._free = list(range(runner.slots, 0, -1))  # ledger slot 0 belongs to the synchronous part
        self._parent_gone = self._over = False
        self._failure: BaseException | None = None  # of the worker itself, which ends by it
        #: What an async task calls that may not have taken its first step yet: a definition's number, or 0.
        self._fresh: int | None = None
        self._gives_way = False  # that step is waited for
        self._timer: asyncio.TimerHandle | None = None
        # What runs on the loop would else leave its context to what comes after it.
        self._own = copy_context()

    def serve(self, records: list[Record], awaitable: Any) -> bool:
        """Run until told to stop (True) or the parent is gone (False).

        Args:
            records: what waits; the first is that of ``awaitable``, where there is one.
            awaitable: what the first task returned, or None.
        """
        runner, loop = self._runner, self._loop
        asyncio.set_event_loop(loop)
        runner.has_loop = True
        self._waiting.extend(records[1:] if awaitable is not None else records)
        if awaitable is not None:
            self._fresh = records[0][2]
            self._begin_async(records[0], awaitable)
        runner.port.attach(loop, self._arrived)
        loop.call_soon(self._pump, context=self._own)
        try:
            while not self._over:  # a task may stop its loop, which is not its to stop
                _undisturbed(loop, loop.run_forever)
            if self._failure is not None:
                raise self._failure  # nothing is tidied up: tasks are under way, whose end could not be told
            runner.port.detach(loop)
            if not self._parent_gone:
                runner.close_environment(self._complete)
            self._complete(_leave(loop))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        return not self._parent_gone

    def _stop(self) -> None:
        """There is nothing more to do."""
        if not self._over:  # else it runs to tidy up
            self._over = True
            self._loop.stop()

    def _complete(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run the loop until that is done."""
        loop = self._loop
        task = loop.create_task(coroutine)
        while not task.done():
            _undisturbed(loop, lambda: loop.run_until_complete(task))

    def _contained(self, step: Callable[[], None]) -> None:
        """Take a step of the worker's own; what goes wrong in it ends the worker, as it does without a loop.

        The loop would log it, and go on with a worker that may have lost tasks, or be deaf.
        """
        try:
            step()
        except ConnectionError:
            self._parent_gone = True
            self._stop()
        except BaseException as error:
            self._failure = error
            self._stop()

    def _arrived(self) -> None:
        self._contained(self._receive)

    def _receive(self) -> None:
        records = self._runner.port.receive(0)
        if records is None:
            self._parent_gone = True
            self._stop()
        elif records:
            self._waiting.extend(records)
            self._own.run(self._pump)

    def _pump(self) -> None:
        self._contained(self._begin_waiting)

    def _begin_waiting(self) -> None:
        """Begin what may begin; yield to async tasks when synchronous ones take long."""
        runner = self._runner
        until = monotonic() + self.budget
        while self._waiting and self._free:
            if self._fresh is not None and (not self._fresh or self._waiting[0][2] != self._fresh):
                self._give_way()
                break
            record = self._waiting.popleft()
            if record[0] not in TASKS:
                runner.other(record)
            elif runner.turns.begin():
                awaitable = as_without_loop(runner.run_task, record)
                if awaitable is not None:
                    self._fresh = record[2]
                    self._begin_async(record, awaitable)
                if monotonic() > until:
                    self._loop.call_soon(self._pump, context=self._own)
                    break
            else:  # taken back: what it borrowed goes back too
                runner.port.note(record, runner.environment)
        runner.port.running(0, 0, 0.0)
        runner.flush()
        runner.environment.adopt_pending()
        self._arm_expiry()
        if runner.stopping and not self._waiting and not runner.turns.awaiting:
            self._stop()

    def _give_way(self) -> None:
        """Have async tasks take their first steps before what may be a synchronous one, which came later."""
        if not self._gives_way:
            self._gives_way = True
            self._loop.call_soon(self._go_on, context=self._own)

    def _go_on(self) -> None:
        self._gives_way, self._fresh = False, None
        self._pump()

    def _begin_async(self, record: Record, awaitable: Any) -> None:
        runner, turns = self._runner, self._runner.turns
        place, slot, start = turns.place, self._free.pop(), monotonic()
        runner.port.running(slot, record[3], start)
        runner.port.running(0, 0, 0.0)
        if record[3] in turns.lives:
            turns.lives[record[3]].slot = slot
        context, runner.context = runner.context or copy_context(), None
        mine = RunningTask(runner, record, place)
        context.run(provider.set, lambda: mine)
        # Not by the loop's task factory, which may be the user's: an eager one would
        # run it to its end before it is noted as under way.
        task = asyncio.Task(
            self._run(record, awaitable, place, slot, start), loop=self._loop, context=context
        )
        runner.async_tasks[record[3]] = task
        turns.awaiting[place] = lambda: self._loop.call_soon_threadsafe(task.cancel)
        if place in turns.cancelled:  # requested before there was anything to cancel
            # After the task's first step: one cancelled before it would never get
            # to the part of `_run` that reports.
            self._loop.call_soon(task.cancel)

    async def _run(self, record: Record, awaitable: Any, place: int, slot: int, start: float) -> None:
        """Await one task to its end and report the outcome; nothing escapes, not even `SystemExit`."""
        runner, turns = self._runner, self._runner.turns
        port = runner.port
        try:
            value = await _settle(awaitable)
        except BaseException as error:
            turns.awaiting.pop(place, None)
            end = monotonic()
            runner.end_live(record[3])
            if place in turns.cancelled and issubclass(type(error), (asyncio.CancelledError, TaskCancelled)):
                port.cancelled(record[3], start, end)
            else:
                port.failure(record[3], error, start, end)
        else:
            turns.awaiting.pop(place, None)
            later = runner.report(record[3], value, start, monotonic())
            del value, awaitable
            if later is not None:
                later()
        turns.cancelled.discard(place)
        del runner.async_tasks[record[3]]
        port.running(slot, 0, 0.0)
        self._free.append(slot)
        self._loop.call_soon(self._pump, context=self._own)

    def _arm_expiry(self) -> None:
        """Have entries of the environment expire when they are due."""
        deadline = self._runner.environment.next_deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._runner.contain(self._runner.environment.expire)
        self._arm_expiry()


async def _settle(value: Awaitable[Any] | AsyncGeneratorType[Any, Any]) -> Any:
    """What an awaitable gives, or the list of what an async generator yields."""
    if isinstance(value, AsyncGeneratorType):
        items = value  # by this name its stack is found
        return [item async for item in items]
    return await value


def _undisturbed(loop: asyncio.AbstractEventLoop, run: Callable[[], object]) -> None:
    """Run a loop; a callback or a subtask that asks for the end of the program does not end the worker.

    asyncio lets these errors out of the loop.  Who awaits such a subtask gets them as well, but
    nobody may: so they are logged.
    """
    try:
        run()
    except (SystemExit, KeyboardInterrupt) as error:
        message = f"{type(error).__name__} in a callback or a subtask"
        # Not by the loop's own handler, which may be the user's, and ask for the end again.
        loop.default_exception_handler({"message": message, "exception": error})


async def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """End the background tasks that the user's code left behind."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()


async def await_all(awaitables: list[Awaitable[Any]]) -> None:
    """Await what removing entries from the environment left to be awaited, for `ON_DELETE_GRACE` at most.

    What is not done by then is cancelled.  That, and a failure, is logged.
    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    done, late = await asyncio.wait(tasks, timeout=ON_DELETE_GRACE)
    for task in late:
        task.cancel()
        logger().error("on_delete was not done after %g s: cancelled", ON_DELETE_GRACE)
    for task in done:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger().error("on_delete failed", exc_info=error)


def finish_pending(awaitables: list[Awaitable[Any]]) -> None:
    """The same for a worker that has no event loop."""
    asyncio.run(await_all(awaitables))
