"""The functions on `offloop` itself: an event loop's global pool and factory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Hashable, Iterable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from offloop.contexts import resolve_factory
from offloop.execution import Execution
from offloop.lease import LeasedWorker
from offloop.mapping import Map
from offloop.protocols import TaskLike
from offloop.worker import Worker, WorkerFactory
from offloop.workerpool import WorkerPool

R = TypeVar("R")

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, WorkerPool] = WeakKeyDictionary()
_factories: WeakKeyDictionary[asyncio.AbstractEventLoop, WorkerFactory] = WeakKeyDictionary()


def pool(new: WorkerPool | None = None, /) -> WorkerPool:
    """This event loop's global pool, which shuts down with its loop.

    Args:
        new: a pool to be the global one from now on; the one before is left as it is.

    Returns:
        The global pool: ``new``, or the one set before, or one made now with the
        global `factory`.

    Raises:
        RuntimeError: no event loop is running here.
    """
    loop = _running_loop()
    current = new if new is not None else _pools.get(loop)
    if current is None or (new is None and not current.is_running()):
        current = WorkerPool(factory=factory())
    if _pools.get(loop) is not current:
        _pools[loop] = current
        current.end_with_loop()
    return current


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
    loop = _running_loop()
    if new is not None:
        _factories[loop] = resolve_factory(new)
    return _factories.get(loop) or _factories.setdefault(loop, resolve_factory("process"))


def create_worker() -> Worker:
    """A new worker, made by the global `factory`; it is the caller's to shut down."""
    return factory().create()


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


def submit(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Execution[Any]:
    """Queue a call on the global pool; see `Worker.submit`."""
    return pool().submit(fn, *args, **kwargs)


def map(  # hides the builtin in this module only: the public name is `offloop.map`
    fn: Callable[..., R], *iterables: Iterable[Any] | AsyncIterable[Any], **options: Any
) -> Map[R]:
    """Call ``fn`` over the iterables on the global pool; see `Worker.map`."""
    return pool().map(fn, *iterables, **options)


def get_worker() -> LeasedWorker:
    """Lease a worker of the global pool; see `WorkerPool.get_worker`."""
    return pool().get_worker()


async def to_process(fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    """Run a function in another process, as `asyncio.to_thread` does in a thread.

    It runs on the global pool where that is one of processes, else on one made
    for the purpose, which ends with the event loop too.

    Returns:
        What ``fn(*args, **kwargs)`` returns.

    Raises:
        What it raises; see the errors of a task.  Cancelling the call cancels the function.
    """
    result: R = await pool().submit(fn, *args, **kwargs)
    return result
