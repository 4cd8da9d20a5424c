"""Worker: what runs a queue of tasks; and the one implementation over any context."""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from offloop.calls import Calls
from offloop.checks import check_int, check_options
from offloop.dispatcher import BROKEN, FORKED, KILLED, OPEN, Dispatcher
from offloop.errors import WorkerKilled
from offloop.execution import Execution
from offloop.policy import Policy
from offloop.protocols import TaskLike
from offloop.registry import refuse_elsewhere, tell_witnesses
from offloop.scheduling.state import Limits
from offloop.streams import Stream
from offloop.watched import Watched

if TYPE_CHECKING:
    from offloop.calls import Inputs
    from offloop.link import Context
    from offloop.mapping import Map
    from offloop.observe.statistics import Statistics

#: The most async tasks of one worker that may overlap: each has its place in the page shared with it.
MAX_CONCURRENCY = 1_999


class Worker(Calls, Watched, ABC):
    """Runs tasks, first in, first out, higher ``priority`` first.

    A worker starts itself at its first task, or on ``async with``; it belongs
    to the event loop it is first used on.
    """

    _dispatcher: Dispatcher

    @property
    def concurrency(self) -> int:
        """How many async tasks of one worker may overlap; the factory's option."""
        return self._dispatcher.policy.limits.slots

    @abstractmethod
    def is_running(self) -> bool:
        """Whether it takes tasks: True until it was shut down, killed, or crashed."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether no task is queued or running."""

    def options(
        self,
        *,
        timeout: float | None = None,
        priority: int = 0,
        retries: int = 0,
        key: Hashable = None,
    ) -> Worker:
        """This same worker with other defaults for `submit`, `map`, `stream` and `enqueue`.

        Args:
            timeout, priority, retries, key: as for `enqueue`.
        """
        return WorkerWithOptions(self, check_options(timeout, priority, retries, key))

    async def shutdown(self, *, cancel_pending: bool = False) -> int:
        """Finish what is queued, stop, and return the exit code.

        Args:
            cancel_pending: cancel what has not started instead of finishing it.

        Returns:
            0; or a process's exit status, or minus the number of the signal
            that ended it.  The same value every time.

        Cancelling this call leaves the shutdown under way; call it again to wait for it.
        """
        return await self._dispatcher.wait_closed(cancel_pending=cancel_pending)

    def kill(self) -> None:
        """End it at once, without blocking; what is outstanding fails with `WorkerKilled`.

        Raises:
            RuntimeError: called from another thread or event loop.
        """
        refuse_elsewhere(self._dispatcher)
        self._dispatcher.kill()

    async def __aenter__(self) -> Self:
        self._dispatcher.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._dispatcher.status == FORKED:
            return  # the process that was forked ends them
        if kind is not None:
            self._dispatcher.cancel_all(running=True)
        try:
            await self.shutdown()
        except asyncio.CancelledError:  # while it finished what was queued
            self._dispatcher.cancel_all(running=True)
            await self.shutdown()
            raise

    def _watch(self, tell: Callable[[Exception], object]) -> Callable[[], object]:
        """Have ``tell`` called once this takes no more tasks, with what becomes of whoever waits here then.

        Returns:
            A function that ends that.

        Raises:
            StatusError: it takes no more tasks now.
        """
        self._check_open()
        watchers = self._dispatcher.room.watchers
        watchers[tell] = self._check_still
        return partial(watchers.pop, tell, None)

    def _check_still(self) -> None:
        """Raise what becomes of whoever waits here if this takes no more tasks."""
        if self._dispatcher.status == KILLED:
            raise WorkerKilled("The worker was killed")
        self._check_open()

    def _check_open(self) -> None:
        """Raise `StatusError` if this takes no more tasks."""
        self._dispatcher.check_open()

    def _state(self) -> str:
        """A word for `repr`."""
        status = self._dispatcher.status
        if status == OPEN:
            return "idle" if self.is_idle() else "running"
        if status == FORKED:
            return "of another process"
        return "crashed" if status == BROKEN else "shut down"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can't be sent to a worker: send only what the task needs (was it an "
            "attribute of self?), or use offloop.pool() there"
        )

    def __del__(self) -> None:
        dispatcher = self.__dict__.get("_dispatcher")
        if dispatcher is not None and dispatcher.owner() is self and dispatcher.abandoned():
            tell_witnesses(repr(self))
            try:
                warnings.warn(f"{self!r} was never shut down", ResourceWarning, source=self, stacklevel=2)
            finally:  # where warnings are errors, it raises
                dispatcher.abandon()


class WorkerFactory(ABC):
    """Makes workers of one kind: a context and its options."""

    #: Whether its workers' memory can be told apart, as ``max_memory_per_worker`` needs.
    limits_memory: ClassVar[bool] = False
    #: Whether its workers are sent tasks in advance, as many as the measured times of such tasks allow.
    prefetch: ClassVar[bool] = True
    #: Seconds that a task and its outcome travel, as a rule; that much more is sent in advance.
    latency: ClassVar[float] = 0.0
    #: Whether there is room for a worker that replaces another before that has ended.
    has_spare: ClassVar[bool] = True

    @abstractmethod
    def context(self) -> Context:
        """Open the context in which one pool's workers live, on the running event loop."""

    @property
    def kind(self) -> str:
        """The name of the context, such as ``"process"``; by default what the class is called."""
        return type(self).__name__.removesuffix("WorkerFactory").lower()

    @property
    def slots(self) -> int:
        """How many async tasks of one worker may overlap."""
        return getattr(self, "concurrency", 1)

    def limiting_memory(self) -> WorkerFactory:
        """The factory for a pool that limits its workers' memory: this one.

        Raises:
            ValueError: the memory of its workers can't be told apart.
        """
        if not self.limits_memory:
            raise ValueError(
                "max_memory_per_worker needs workers that are processes: "
                f"those of {type(self).__name__} share their memory with others"
            )
        return self

    def create(self) -> Worker:
        """A new worker; it starts at its first task."""
        return ContextWorker(self)

    @staticmethod
    def check_common(environment: object, bootstrap: object, concurrency: object) -> None:
        """Refuse bad values of the options that all factories have."""
        if environment is not None and not callable(environment):
            raise TypeError("environment must be a class or a function without arguments")
        if check_int("concurrency", concurrency, 1) > MAX_CONCURRENCY:
            raise ValueError(f"concurrency must be at most {MAX_CONCURRENCY}, not {concurrency}")
        if bootstrap is None or callable(bootstrap):
            return
        if not isinstance(bootstrap, str) and not hasattr(bootstrap, "__fspath__"):
            raise TypeError("bootstrap must be a callable or the path to a Python file")


class ContextWorker(Worker):
    """A single worker, over whatever context its factory has."""

    def __init__(self, factory: WorkerFactory) -> None:
        limits = Limits(
            max_workers=1,
            min_workers=1,
            idle_timeout=float("inf"),
            slots=factory.slots,
            prefetch=factory.prefetch,
            latency=factory.latency,
            has_spare=factory.has_spare,
        )
        self._dispatcher = Dispatcher(factory, Policy(limits, heal=False), self)

    def is_running(self) -> bool:
        """Whether it takes tasks: True until it was shut down, killed, or crashed."""
        return self._dispatcher.status == OPEN

    def is_idle(self) -> bool:
        """Whether no task is queued or running."""
        return not self._dispatcher.outstanding

    def __repr__(self) -> str:
        outstanding, kind = self._dispatcher.outstanding, self._dispatcher.factory.kind
        return f"<Worker {self._state()} outstanding={outstanding} context={kind}>"


class CheckedWorker(Worker):
    """One that looks whether it takes a task before its dispatcher does, which has other workers, too."""

    @abstractmethod
    def _check(self) -> None:
        """Raise `StatusError` if this takes no more tasks, whatever the dispatcher says."""

    if not TYPE_CHECKING:  # they are typed as a `Worker`'s

        @wraps(Worker.enqueue)
        def enqueue(self, task: TaskLike[Any], **options: Any) -> Execution[Any]:
            self._check()
            return super().enqueue(task, **options)

        @wraps(Worker.submit)
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Execution[Any]:
            self._check()
            return super().submit(fn, *args, **kwargs)

    def _stream(self, task: TaskLike[Any], options: dict[str, Any]) -> Stream[Any]:
        self._check()
        return super()._stream(task, options)

    def _check_open(self) -> None:
        self._check()
        super()._check_open()


class WorkerWithOptions(CheckedWorker):
    """A worker seen with other defaults for `enqueue` and what is built on it.

    Args:
        worker: it.
        defaults: they, checked already.
    """

    def __init__(self, worker: Worker, defaults: dict[str, Any]) -> None:
        self._worker = worker
        self._dispatcher = worker._dispatcher
        self._defaults = defaults
        self._usual = {**(worker._usual or {}), **defaults}

    def _check(self) -> None:
        if isinstance(self._worker, CheckedWorker):
            self._worker._check()

    def options(self, **options: Any) -> Worker:
        """The worker with these defaults, where they are given, and the present ones where not."""
        return WorkerWithOptions(self._worker, check_options(**{**self._defaults, **options}))

    if not TYPE_CHECKING:  # they are typed as a `Worker`'s

        @wraps(Worker.enqueue)
        def enqueue(self, task: TaskLike[Any], **options: Any) -> Execution[Any]:
            return self._worker.enqueue(task, **{**self._defaults, **options})

        @wraps(Worker.map)
        def map(
            self, fn: Callable[..., Any], *iterables: Inputs, timeout: float | None = None, **options: Any
        ) -> Map[Any]:
            if timeout is None:
                timeout = self._defaults["timeout"]
            return super().map(fn, *iterables, timeout=timeout, **options)

    def is_running(self) -> bool:
        """As of the worker itself."""
        return self._worker.is_running()

    def is_idle(self) -> bool:
        """As of the worker itself."""
        return self._worker.is_idle()

    def statistics(self) -> Statistics:
        """As of the worker itself."""
        return self._worker.statistics()

    async def shutdown(self, *, cancel_pending: bool = False) -> int:
        """As of the worker itself."""
        return await self._worker.shutdown(cancel_pending=cancel_pending)

    def kill(self) -> None:
        """As of the worker itself."""
        self._worker.kill()

    async def __aenter__(self) -> Self:
        await self._worker.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._worker.__aexit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._defaults.items() if value)
        return f"<{self._worker!r} with {given or 'no options'}>"
