"""The functions on `offloop` itself: an event loop's global pool and factory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from typing import Any, Literal, Unpack, overload

from offloop.calls import Inputs, MapKeywords, P, R
from offloop.contexts import resolve_factory
from offloop.execution import Execution
from offloop.lease import LeasedWorker
from offloop.mapping import Map
from offloop.protocols import TaskLike
from offloop.streams import Stream
from offloop.task import Task
from offloop.worker import Worker, WorkerFactory
from offloop.workerpool import WorkerPool

#: The attribute by which an event loop holds its `_Defaults`.  In a table of weak keys they
#: would live for ever, and the loop with them, to which its pools refer.
_ATTRIBUTE = "_offloop_defaults"


class _Defaults:
    """What is global to one event loop.

    Attributes:
        pool: the global pool, if it was asked for.
        beside: pools of another kind than that, by their kind.
        factory: the global factory, if it was asked for.
    """

    def __init__(self) -> None:
        self.pool: WorkerPool | None = None
        self.beside: dict[str, WorkerPool] = {}
        self.factory: WorkerFactory | None = None


def _defaults() -> _Defaults:
    """Those of the event loop that runs here."""
    loop = _running_loop()
    found: _Defaults | None = getattr(loop, _ATTRIBUTE, None)
    if found is None:
        found = _Defaults()
        setattr(loop, _ATTRIBUTE, found)
    return found


def pool(new: WorkerPool | None = None, /) -> WorkerPool:
    """This event loop's global pool, which shuts down with its loop.

    Args:
        new: a pool to be the global one from now on; the one before is left as it is.

    Returns:
        The global pool: ``new``, or the one set before, or one made now with the
        global `factory`.

    Raises:
        RuntimeError: no event loop is running here, or ``new`` belongs to another one.
        TypeError: ``new`` is no pool.
    """
    defaults = _defaults()
    _check_pool(new)
    current = new if new is not None else defaults.pool
    if current is None or (new is None and not current.is_running()):
        current = WorkerPool(factory=factory())
    if defaults.pool is not current:
        current.end_with_loop()
        defaults.pool = current
    return current


def _check_pool(new: object) -> None:
    if not (new is None or isinstance(new, WorkerPool)):
        raise TypeError(f"the global pool must be a WorkerPool, not {type(new).__name__}")


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no event loop is running here: these functions are for async code; "
            "from synchronous code use offloop.Executor"
        ) from None


def factory(new: WorkerFactory | str | None = None, /) -> WorkerFactory:
    """This event loop's global factory, which makes the workers of the global pool and of `create_worker`.

    Args:
        new: a factory, or a context's name, to be the global one from now on.
    """
    defaults = _defaults()
    if new is not None or defaults.factory is None:
        defaults.factory = resolve_factory("process" if new is None else new)
    return defaults.factory


def create_worker() -> Worker:
    """A new worker, made by the global `factory`; it is the caller's to shut down."""
    return factory().create()


@overload
def enqueue(
    task: Task[R],
    *,
    timeout: float | None = None,
    priority: int = 0,
    retries: int = 0,
    key: Hashable = None,
) -> Execution[R]: ...
@overload
def enqueue(
    task: TaskLike[Any],
    *,
    timeout: float | None = None,
    priority: int = 0,
    retries: int = 0,
    key: Hashable = None,
) -> Execution[Any]: ...
def enqueue(
    task: TaskLike[Any],
    *,
    timeout: float | None = None,
    priority: int = 0,
    retries: int = 0,
    key: Hashable = None,
) -> Execution[Any]:
    """Queue a task on the global pool; see `Worker.enqueue`."""
    return pool().enqueue(task, timeout=timeout, priority=priority, retries=retries, key=key)


@overload
def submit(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Execution[R]: ...
@overload
def submit(
    fn: Callable[P, AsyncIterator[R] | Iterator[R]], /, *args: P.args, **kwargs: P.kwargs
) -> Execution[list[R]]: ...
@overload
def submit(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Execution[R]: ...
def submit(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Execution[Any]:
    """Queue a call on the global pool; see `Worker.submit`."""
    return pool().submit(fn, *args, **kwargs)


@overload
def map(
    fn: Callable[..., Awaitable[R]],
    *iterables: Inputs,
    return_exceptions: Literal[False] = False,
    **options: Unpack[MapKeywords],
) -> Map[R]: ...
@overload
def map(
    fn: Callable[..., AsyncIterator[R] | Iterator[R]],
    *iterables: Inputs,
    return_exceptions: Literal[False] = False,
    **options: Unpack[MapKeywords],
) -> Map[list[R]]: ...
@overload
def map(
    fn: Callable[..., R],
    *iterables: Inputs,
    return_exceptions: Literal[False] = False,
    **options: Unpack[MapKeywords],
) -> Map[R]: ...
@overload
def map(fn: Callable[..., Any], *iterables: Inputs, **options: Any) -> Map[Any]: ...
def map(  # hides the builtin in this module only: the public name is `offloop.map`
    fn: Callable[..., Any], *iterables: Inputs, **options: Any
) -> Map[Any]:
    """Call ``fn`` over the iterables on the global pool; see `Worker.map`."""
    return pool().map(fn, *iterables, **options)


@overload
def stream(task: Task[list[R]], /) -> Stream[R]: ...
@overload
def stream(task: TaskLike[Any], /) -> Stream[Any]: ...
@overload
def stream(
    task: Callable[P, AsyncIterable[R] | Iterable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> Stream[R]: ...
@overload
def stream(task: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Stream[Any]: ...
def stream(task: TaskLike[Any] | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
    """Run a generator on the global pool, and get its items as they come; see `Worker.stream`."""
    return pool().stream(task, *args, **kwargs)


def get_worker() -> LeasedWorker:
    """Lease a worker of the global pool; see `WorkerPool.get_worker`."""
    return pool().get_worker()


@overload
async def to_process(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def to_process(
    fn: Callable[P, AsyncIterator[R] | Iterator[R]], /, *args: P.args, **kwargs: P.kwargs
) -> list[R]: ...
@overload
async def to_process(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def to_process(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run a function in another process, as `asyncio.to_thread` does in a thread.

    It runs on the global pool where that is one of processes, else on one made
    for the purpose, which ends with the event loop too.

    Returns:
        What ``fn(*args, **kwargs)`` returns.

    Raises:
        What it raises; see the errors of a task.  Cancelling the call cancels the function.
    """
    return await _pool_of("process").submit(fn, *args, **kwargs)


@overload
async def to_interpreter(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def to_interpreter(
    fn: Callable[P, AsyncIterator[R] | Iterator[R]], /, *args: P.args, **kwargs: P.kwargs
) -> list[R]: ...
@overload
async def to_interpreter(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def to_interpreter(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run a function in another interpreter of this process, in parallel with this one.

    It runs on the global pool where that is one of interpreters, else on one
    made for the purpose, which ends with the event loop too.

    Returns:
        What ``fn(*args, **kwargs)`` returns.

    Raises:
        RuntimeError: this Python is older than 3.14.
        What the function raises; see the errors of a task.  Cancelling the call
        cancels the function, as far as an interpreter's can be.
    """
    return await _pool_of("interpreter").submit(fn, *args, **kwargs)


def _pool_of(kind: str) -> WorkerPool:
    """The global pool if its workers live in such a context, else one beside it."""
    defaults = _defaults()
    current = defaults.pool
    if current is not None and current.is_running():
        is_of_kind = current.context == kind
    else:
        is_of_kind = factory().kind == kind
    if is_of_kind:
        return pool()
    found = defaults.beside.get(kind)
    if found is None or not found.is_running():
        found = defaults.beside[kind] = WorkerPool(factory=kind)
        found.end_with_loop()
    return found
