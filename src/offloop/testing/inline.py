"""Workers in the caller: tasks run on the event loop that they are enqueued on, in a fixed order."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context as ContextVars
from dataclasses import dataclass
from typing import Any, ClassVar

from offloop.child.bootstrap import make_environment, run_bootstrap
from offloop.child.overlap import Overlap
from offloop.child.runner import Runner
from offloop.contexts.doorbell import ring_by_itself
from offloop.contexts.imports import importable
from offloop.contexts.marks import mark_records
from offloop.contexts.packing import Packer
from offloop.contexts.sending import unpicklable_task
from offloop.contexts.thread import ThreadLink, ThreadWorkerFactory
from offloop.environment import Environment
from offloop.link import Context, LinkOwner, S
from offloop.task import provider
from offloop.testing.crossing import Crossing, PicklingPort, SharingPort, new_definitions
from offloop.wire.frames import READY, REFUSED
from offloop.worker import WorkerFactory


@dataclass(frozen=True, kw_only=True)
class InlineWorkerFactory(WorkerFactory):
    """Makes workers that run their tasks in the caller, on its event loop: no process, no thread.

    It is for tests: fast to start, easy to debug, and deterministic.  Which
    worker runs which task, and in which order, does not depend on how long
    anything takes.  Breakpoints, mocks and coverage see the tasks.

    Every worker's task begins in a turn of the event loop of its own, so that
    others may be cancelled between two.  What differs from other contexts:

    * A synchronous task holds up the event loop, as any callback does.  While
      it runs nobody can cancel it, a ``timeout`` passes unnoticed, and what it
      waits for must not depend on the loop.  (If it would wait for a message of
      its caller's, it gets a `RuntimeError`.)
    * An async task that goes on though it was cancelled, or its worker killed,
      can't be ended: it is abandoned, with a `RuntimeWarning`.
    * A task that ends its process ends the program.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file.
        concurrency: how many async tasks of one worker may overlap.
        pickling: whether tasks, results, exceptions and the two options above
            are pickled and loaded on their way, as with processes, so that a
            test finds what can't be.  Else objects are shared.
    """

    environment: Callable[[], Environment] | None = None
    bootstrap: Any = None
    concurrency: int = 1
    pickling: bool = False

    #: How many tasks are sent in advance would depend on measured times.
    prefetch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.check_common(self.environment, self.bootstrap, self.concurrency)

    def context(self) -> Context:
        """The context for one pool."""
        return InlineContext(self)


class InlineContext(Context):
    """The inline workers of one pool."""

    def __init__(self, factory: InlineWorkerFactory) -> None:
        self.slots = factory.concurrency
        self._options = ThreadWorkerFactory(
            environment=factory.environment, bootstrap=factory.bootstrap, concurrency=factory.concurrency
        )
        self._loop = asyncio.get_running_loop()
        self._definitions = new_definitions() if factory.pickling else None
        self._packer = Packer(importable) if factory.pickling else None

    def connect(self, number: int, owner: LinkOwner) -> InlineLink:
        """A link to a new worker."""
        crossing = Crossing(self._definitions) if self._definitions is not None else None
        return InlineLink(self._loop, self._options, number, owner, crossing)

    def pack(self, value: Any) -> Any:
        """A message to a running task, pickled where that is wanted."""
        return self._packer.pack(value) if self._packer is not None else value


class InlineLink(ThreadLink):
    """Both ends of one inline worker: a thread worker whose thread is the caller's.

    It speaks to its port as a thread does, through queues, so that neither end
    ever calls the other from within a call of its own.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: ThreadWorkerFactory,
        number: int,
        owner: LinkOwner,
        crossing: Crossing | None,
    ) -> None:
        ring = ring_by_itself(loop)
        super().__init__(loop, ring, options, number, owner)
        slots = options.concurrency + 1
        self._ends: SharingPort = (
            SharingPort(ring, self._deliver, slots)
            if crossing is None
            else PicklingPort(ring, self._deliver, slots, crossing)
        )
        self._port = self._ends
        self._turns.may_wait = False
        self._starting: asyncio.Task[None] | None = None
        self._overlap: InlineOverlap | None = None

    def start(self) -> None:
        """Set the worker up, in a task of the event loop, and with context variables of its own."""
        mark_records()
        self._starting = _new_task(self._loop, self._set_up(), ContextVars())

    async def _set_up(self) -> None:
        port = self._ends
        try:
            make, bootstrap = port.options(self._factory.environment, self._factory.bootstrap)
            environment = make_environment(make)
            await _run_bootstrap(bootstrap, environment)
        except BaseException as error:  # user code: it may exit, or worse
            port.say(REFUSED, port.seen_by_parent(error))
            return
        if self._over:  # killed by its own bootstrap
            environment.close()
            return
        runner = Runner(port, self._number, environment, self._turns, self._factory.concurrency)
        runner.has_loop = True
        provider.set(runner.current)
        self._overlap = InlineOverlap(runner, self._loop, self._failed_to_close)
        port.say(READY)
        self._overlap.attend()

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Hand tasks over, pickled where that is wanted."""
        failed: list[tuple[S, BaseException]] = []
        ready: list[S] = []
        for item in items:
            try:
                self._ends.prepare(item)
            except BaseException as error:  # pickling the user's objects: they may exit, or worse
                failed.append((item, unpicklable_task(item.task, error)))
            else:
                ready.append(item)
        return failed + super().send(ready)

    def kill(self) -> None:
        """End the worker: nothing of it starts any more, and its async tasks are cancelled."""
        if self._over:
            return
        turns = self._turns
        if any(place in turns.cancelled for place in turns.awaiting):
            # Not here: where warnings are errors, it raises.
            self._loop.call_soon(
                warnings.warn,
                "an async task of an inline worker ignores its cancellation: it is abandoned, and goes on",
                RuntimeWarning,
            )
        self._give_up()
        if self._starting is not None:
            self._starting.cancel()
        if self._overlap is not None:
            self._overlap.give_up()

    def _failed_to_close(self, error: BaseException) -> None:
        """The environment could not be closed: to whoever waits for the worker's end it has crashed."""
        message = "an inline worker's environment could not be closed"
        self._loop.call_exception_handler({"message": message, "exception": error})
        self._finish(1, False)


class InlineOverlap(Overlap):
    """Runs a worker's tasks on an event loop that belongs to the caller.

    Args:
        runner: whose tasks.
        loop: the running event loop.
        on_failure: called with what closing the environment raised.
    """

    #: Each task begins in a turn of the loop of its own.
    budget = float("-inf")

    def __init__(
        self, runner: Runner, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        super().__init__(runner, loop)
        self._on_failure = on_failure
        self._due = self._given_up = False
        self._leaving: asyncio.Task[None] | None = None

    def attend(self) -> None:
        """From now on run what comes, from callbacks of the event loop."""
        self._runner.port.attach(self._loop, self._arrived)

    def give_up(self) -> None:
        """The worker was killed: begin nothing more, and cancel what is under way."""
        self._parent_gone = True
        self._pump()

    def _contained(self, step: Callable[[], None]) -> None:
        """Take a step; what goes wrong in it is told to the caller's loop, which goes on."""
        step()

    def _arrived(self) -> None:
        if not self._parent_gone:
            super()._arrived()

    def _pump(self) -> None:
        """Have the next task begun in a turn of the loop; only one is ever due."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._begin_next, context=self._own)

    def _begin_next(self) -> None:
        self._due = False
        if self._parent_gone:
            self._stop()
        else:
            super()._pump()

    def _stop(self) -> None:
        """There is nothing more to do; for a killed worker: once its async tasks have ended."""
        awaiting = self._runner.turns.awaiting
        if self._parent_gone and not self._given_up:
            self._given_up = True
            self._waiting.clear()
            for cancel in list(awaiting.values()):
                cancel()
        if self._leaving is None and not awaiting:
            self._runner.port.detach(self._loop)
            self._leaving = _new_task(self._loop, self._leave(), self._own)

    async def _leave(self) -> None:
        """Close the environment, and say goodbye."""
        if self._timer is not None:
            self._timer.cancel()
        callbacks: list[Coroutine[Any, Any, None]] = []
        try:
            self._runner.close_environment(callbacks.append)
            for callback in callbacks:
                await callback
        except BaseException as error:  # user code: it may exit, or worse
            self._on_failure(error)
        else:
            self._runner.close()


def _new_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: ContextVars
) -> asyncio.Task[None]:
    """A task as `asyncio` itself makes it, whatever the loop's task factory does."""
    return asyncio.Task(coroutine, loop=loop, context=context)


async def _run_bootstrap(bootstrap: Any, environment: Environment) -> None:
    """Run the bootstrap on this event loop; see `offloop.child.process.run_bootstrap`."""
    if callable(bootstrap):
        result: Any = bootstrap(environment)
        if isinstance(result, Awaitable):
            await result
    else:
        run_bootstrap(bootstrap, environment)
