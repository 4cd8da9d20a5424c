"""Worker: what runs a queue of tasks; and the one implementation over any context."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Hashable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from offloop.dispatcher import BROKEN, OPEN, Dispatcher
from offloop.execution import Execution
from offloop.mapping import Map
from offloop.policy import Policy
from offloop.protocols import TaskLike
from offloop.scheduling.state import Limits
from offloop.task import CallableTask

if TYPE_CHECKING:
    from offloop.link import Context

R = TypeVar("R")

#: The most async tasks of one worker that may overlap: each has its place in the page shared with it.
MAX_CONCURRENCY = 1_999


class Worker(ABC):
    """Runs tasks, first in, first out, higher ``priority`` first.

    A worker starts itself at its first task, or on ``async with``; it belongs
    to the event loop it is first used on.
    """

    _dispatcher: Dispatcher
    #: The options that every task gets: a lease's tasks are pinned to its worker.
    _usual: dict[str, Any] | None = None

    @abstractmethod
    def is_running(self) -> bool:
        """Whether it takes tasks: True until it was shut down, killed, or crashed."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether no task is queued or running."""

    def enqueue(
        self,
        task: TaskLike[Any],
        *,
        timeout: float | None = None,
        priority: int = 0,
        retries: int = 0,
        key: Hashable = None,
    ) -> Execution[Any]:
        """Queue a task; it is queued when this returns.

        Args:
            task: any object with a ``run(environment)`` method.
            timeout: seconds that it may run; then it is cancelled and fails
                with `TaskTimeout`.  Time spent waiting does not count.
            priority: higher runs first.
            retries: how often to run it again should its worker die; with 0 it
                runs at most once.
            key: tasks with equal keys go to the same worker for as long as it lives.

        Returns:
            The execution: a future of the result.

        Raises:
            TypeError: ``task`` has no ``run`` method, or ``key`` is not hashable.
            ValueError: ``timeout`` is not above 0, or ``retries`` below 0.
            StatusError: the worker was shut down, killed, or has crashed.
            QueueFull: the pool's ``queue_limit`` is reached.
            RuntimeError: called from another thread or event loop.
        """
        check_task(task)
        if timeout is None and not priority and not retries and key is None:
            return self._dispatcher.enqueue(task, self._usual)
        check_options(timeout, priority, retries, key)
        options = {"timeout": timeout, "priority": priority, "retries": retries, "key": key}
        return self._dispatcher.enqueue(task, {**options, **(self._usual or {})})

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Execution[Any]:
        """Queue a call: ``enqueue(CallableTask(fn, *args, **kwargs))``.

        Every keyword belongs to ``fn``; see `options` for the others.
        """
        return self._dispatcher.enqueue(CallableTask.of(fn, args, kwargs), self._usual)

    def options(
        self,
        *,
        timeout: float | None = None,
        priority: int = 0,
        retries: int = 0,
        key: Hashable = None,
    ) -> Worker:
        """This same worker with other defaults for `submit`, `map` and `enqueue`.

        Args:
            timeout, priority, retries, key: as for `enqueue`.
        """
        check_options(timeout, priority, retries, key)
        return WorkerWithOptions(
            self, {"timeout": timeout, "priority": priority, "retries": retries, "key": key}
        )

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        chunksize: int | None = None,
        buffersize: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: bool | Callable[[int, int | None], object] | None = None,
    ) -> Map[R]:
        """Call ``fn`` with the items of the iterables, in parallel where there are several workers.

        See `offloop.mapping.Map` for the arguments and how to consume it.
        """
        return Map(
            self,
            fn,
            iterables,
            ordered=ordered,
            chunksize=chunksize,
            buffersize=buffersize,
            timeout=timeout,
            return_exceptions=return_exceptions,
            progress=progress,
        )

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
        """End it at once, without blocking; what is outstanding fails with `WorkerKilled`."""
        self._dispatcher.kill()

    async def __aenter__(self) -> Self:
        self._dispatcher.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._dispatcher.cancel_all(running=True)
        await self.shutdown()

    def _state(self) -> str:
        """A word for `repr`."""
        status = self._dispatcher.status
        if status == OPEN:
            return "idle" if self.is_idle() else "running"
        return "crashed" if status == BROKEN else "shut down"

    def __del__(self) -> None:
        dispatcher = self.__dict__.get("_dispatcher")
        if dispatcher is not None and dispatcher.owner() is self and dispatcher.abandoned():
            warnings.warn(f"{self!r} was never shut down", ResourceWarning, source=self, stacklevel=2)
            dispatcher.abandon()


class WorkerFactory(ABC):
    """Makes workers of one kind: a context and its options."""

    @abstractmethod
    def context(self) -> Context:
        """Open the context in which one pool's workers live, on the running event loop."""

    @property
    def slots(self) -> int:
        """How many async tasks of one worker may overlap."""
        return getattr(self, "concurrency", 1)

    def create(self) -> Worker:
        """A new worker; it starts at its first task."""
        return ContextWorker(self)

    @staticmethod
    def check_common(environment: object, bootstrap: object, concurrency: object) -> None:
        """Refuse bad values of the options that all factories have."""
        if environment is not None and not callable(environment):
            raise TypeError("environment must be a class or a function without arguments")
        if not isinstance(concurrency, int) or isinstance(concurrency, bool):
            raise TypeError(f"concurrency must be an int, not {type(concurrency).__name__}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if concurrency > MAX_CONCURRENCY:
            raise ValueError(f"concurrency must be at most {MAX_CONCURRENCY}, not {concurrency}")
        if bootstrap is None or callable(bootstrap):
            return
        if not isinstance(bootstrap, str) and not hasattr(bootstrap, "__fspath__"):
            raise TypeError("bootstrap must be a callable or the path to a Python file")


class ContextWorker(Worker):
    """A single worker, over whatever context its factory has."""

    def __init__(self, factory: WorkerFactory) -> None:
        limits = Limits(max_workers=1, min_workers=0, idle_timeout=float("inf"), slots=factory.slots)
        self._dispatcher = Dispatcher(factory, Policy(limits, heal=False), self)

    def is_running(self) -> bool:
        """Whether it takes tasks: True until it was shut down, killed, or crashed."""
        return self._dispatcher.status == OPEN

    def is_idle(self) -> bool:
        """Whether no task is queued or running."""
        return not self._dispatcher.outstanding

    def __repr__(self) -> str:
        return f"<Worker {self._state()} outstanding={self._dispatcher.outstanding}>"


class WorkerWithOptions(Worker):
    """A worker seen with other defaults for `enqueue` and what is built on it."""

    def __init__(self, worker: Worker, defaults: dict[str, Any]) -> None:
        self._worker = worker
        self._dispatcher = worker._dispatcher
        self._usual = worker._usual
        self._defaults = defaults

    def is_running(self) -> bool:
        """As of the worker itself."""
        return self._worker.is_running()

    def is_idle(self) -> bool:
        """As of the worker itself."""
        return self._worker.is_idle()

    def enqueue(self, task: TaskLike[Any], **options: Any) -> Execution[Any]:
        """As of the worker itself, with these defaults."""
        return self._worker.enqueue(task, **{**self._defaults, **options})

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Execution[Any]:
        """As of the worker itself, with these defaults."""
        task: CallableTask[Any] = CallableTask(fn, *args, **kwargs)
        return self._worker.enqueue(task, **self._defaults)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        **options: Any,
    ) -> Map[R]:
        """As of the worker itself, with these defaults; a timeout counts for each item."""
        if timeout is None:
            timeout = self._defaults["timeout"]
        return super().map(fn, *iterables, timeout=timeout, **options)

    async def shutdown(self, *, cancel_pending: bool = False) -> int:
        """As of the worker itself."""
        return await self._worker.shutdown(cancel_pending=cancel_pending)

    def kill(self) -> None:
        """As of the worker itself."""
        self._worker.kill()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._defaults.items() if value)
        return f"<{self._worker!r} with {given or 'no options'}>"


def check_task(task: object) -> None:
    """Refuse what is no task."""
    if not callable(getattr(task, "run", None)):
        raise TypeError(f"a task needs a run(environment) method, which {type(task).__name__} has not")
    if isinstance(task, type):
        raise TypeError(
            f"a task is an instance, and {task.__name__} is a class: enqueue({task.__name__}(...))"
        )


def check_options(timeout: object, priority: object, retries: object, key: Hashable) -> None:
    """Refuse bad options of `Worker.enqueue`."""
    if timeout is not None:
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
            raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0, not {timeout}")
    for name, value in (("priority", priority), ("retries", retries)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if isinstance(retries, int) and retries < 0:
        raise ValueError(f"retries must not be negative, not {retries}")
    hash(key)
