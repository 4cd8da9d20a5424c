"""The calls of a worker that take a function, each typed by what becomes of what that function returns.

An awaitable is awaited in the worker, and a generator's items become a list,
so ``await pool.submit(fn, 1)`` is not always what ``fn(1)`` is.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, overload

from offloop.checks import check_options, check_task
from offloop.streams import OPTIONS as STREAM, Stream
from offloop.task import CallableTask, Task, not_callable

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher
    from offloop.execution import Execution
    from offloop.mapping import Map
    from offloop.protocols import TaskLike
    from offloop.scheduling.estimate import Kind

P = ParamSpec("P")
R = TypeVar("R")

Inputs: TypeAlias = Iterable[Any] | AsyncIterable[Any]


class MapKeywords(TypedDict, total=False):
    """The options of a map that have no say in the type of its results."""

    ordered: bool
    chunksize: int | None
    buffersize: int | None
    timeout: float | None
    progress: bool | Callable[[int, int | None], object] | None


class Calls:
    """What `Worker` has of this."""

    _dispatcher: Dispatcher
    #: The options that every task gets: a lease's tasks are pinned to its worker.
    _usual: dict[str, Any] | None = None

    @overload
    def enqueue(
        self,
        task: Task[R],
        *,
        timeout: float | None = None,
        priority: int = 0,
        retries: int = 0,
        key: Hashable = None,
    ) -> Execution[R]: ...
    @overload
    def enqueue(
        self,
        task: TaskLike[Any],
        *,
        timeout: float | None = None,
        priority: int = 0,
        retries: int = 0,
        key: Hashable = None,
    ) -> Execution[Any]: ...
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
        if timeout is None and priority == 0 and retries == 0 and key is None:
            return self._dispatcher.enqueue(task, self._usual)
        options = check_options(timeout, priority, retries, key)
        return self._dispatcher.enqueue(task, {**options, **(self._usual or {})})

    @overload
    def submit(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Execution[R]: ...
    @overload
    def submit(
        self, fn: Callable[P, AsyncIterator[R] | Iterator[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Execution[list[R]]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Execution[R]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Execution[Any]:
        """Queue a call: ``enqueue(CallableTask(fn, *args, **kwargs))``.

        Every keyword belongs to ``fn``; see `options` for the others.
        """
        if not callable(fn):
            raise TypeError(not_callable(fn))
        return self._dispatcher.call(fn, args, kwargs, self._usual)

    @overload
    def map(
        self,
        fn: Callable[..., Awaitable[R]],
        *iterables: Inputs,
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapKeywords],
    ) -> Map[R]: ...
    @overload
    def map(
        self,
        fn: Callable[..., AsyncIterator[R] | Iterator[R]],
        *iterables: Inputs,
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapKeywords],
    ) -> Map[list[R]]: ...
    @overload
    # mypy wants a list of results to be one of a function that returns lists, too: the order decides.
    def map(  # type: ignore[overload-overlap]
        self,
        fn: Callable[..., R],
        *iterables: Inputs,
        return_exceptions: Literal[False] = False,
        **options: Unpack[MapKeywords],
    ) -> Map[R]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Awaitable[R]],
        *iterables: Inputs,
        return_exceptions: bool,
        **options: Unpack[MapKeywords],
    ) -> Map[R | BaseException]: ...
    @overload
    def map(
        self,
        fn: Callable[..., AsyncIterator[R] | Iterator[R]],
        *iterables: Inputs,
        return_exceptions: bool,
        **options: Unpack[MapKeywords],
    ) -> Map[list[R] | BaseException]: ...
    @overload
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Inputs,
        return_exceptions: bool,
        **options: Unpack[MapKeywords],
    ) -> Map[R | BaseException]: ...
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Inputs,
        ordered: bool = True,
        chunksize: int | None = None,
        buffersize: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: bool | Callable[[int, int | None], object] | None = None,
    ) -> Map[Any]:
        """Call ``fn`` with the items of the iterables, in parallel where there are several workers.

        See `offloop.mapping.Map` for the arguments and how to consume it.
        """
        from offloop.mapping import Map  # a tenth of all that a pool loads

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

    def _kind_of(self, fn: Callable[..., Any]) -> Kind:
        """What is known of how long ``fn`` takes here; for `map`."""
        return self._dispatcher.kind_of(fn)

    @overload
    def stream(self, task: Task[list[R]], /) -> Stream[R]: ...
    @overload
    def stream(self, task: TaskLike[Any], /) -> Stream[Any]: ...
    @overload
    def stream(
        self, task: Callable[P, AsyncIterable[R] | Iterable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[R]: ...
    @overload
    def stream(self, task: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Stream[Any]: ...
    def stream(self, task: TaskLike[Any] | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Run a generator in a worker, and get its items while it is still running.

        Args:
            task: a generator function or an async generator function, or any
                callable that returns an iterator, called with the arguments; or a task
                whose ``run`` is one.
            *args: the function's positional arguments.
            **kwargs: its keyword arguments.

        Returns:
            An async iterator over the items; see `offloop.Stream`.  The task is
            queued when this returns.

        Raises:
            TypeError: ``task`` is neither callable nor a task, or a task with arguments.
            StatusError, QueueFull, RuntimeError: as for `enqueue`.
        """
        return self._stream(task_of(task, args, kwargs, by="stream"), {})

    def _stream(self, task: TaskLike[Any], options: dict[str, Any]) -> Stream[Any]:
        return Stream(self._dispatcher.enqueue(task, {**options, **STREAM, **(self._usual or {})}))


def task_of(given: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, by: str) -> Any:
    """The task for what is a task or a callable.

    Args:
        given: which.
        args, kwargs: a callable's arguments.
        by: the function that was given them.

    Raises:
        TypeError: it is neither, or a task with arguments.
    """
    if not isinstance(given, type) and callable(getattr(given, "run", None)):
        if args or kwargs:
            raise TypeError(f"a task takes no arguments; {by}(function, ...) passes them on")
        return given
    function: Callable[..., Any] = given
    return CallableTask.of(function, args, kwargs)
