"""`Executor`: a pool of workers for synchronous code, as `concurrent.futures` has them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import current_process
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from offloop.adapters.handed import TaskFuture
from offloop.adapters.initializer import Initializer
from offloop.adapters.loopthread import LoopThread
from offloop.adapters.syncmap import FedRows, Results
from offloop.checks import as_int_or_none
from offloop.contexts import ProcessWorkerFactory, resolve_factory
from offloop.task import CallableTask, not_callable
from offloop.worker import WorkerFactory
from offloop.workerpool import WorkerPool

if TYPE_CHECKING:
    from offloop.adapters.processes import WorkerProcess

R = TypeVar("R")


class _ExecutorPool(WorkerPool):
    """An executor's own pool, which goes by the executor's name: nobody else has made one."""

    def __repr__(self) -> str:
        return super().__repr__().replace("WorkerPool", "Executor", 1)


class Executor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` over a `WorkerPool`: for synchronous code, and for any thread.

    The pool lives on an event loop in a thread of its own.  Nothing is started
    before the first task; workers start as tasks come, and one that dies is
    replaced: only the task that it ran fails.

    Leaving ``with``, `shutdown`, the end of the interpreter and the executor's
    garbage collection all finish what was submitted.  Ctrl-C, in ``with`` or while any of
    these waits, and a program that ends by it, cancel everything: what runs is interrupted.
    (Under ``asyncio.run`` the first Ctrl-C is a cancellation, which what runs here does not take.)

    Args:
        max_workers: the most workers; by default the CPUs that this process may use.
        initializer: called once in each worker, before its first task and behind the
            factory's own ``bootstrap``.  Should it fail, a worker is started anew;
            after three failures in a row what waits fails with `WorkerStartError`.
        initargs: its arguments.
        max_tasks_per_child: what the standard library calls ``max_tasks_per_worker``.
        factory, min_workers, idle_timeout, max_tasks_per_worker, max_memory_per_worker, cancel_grace:
            as of `WorkerPool`.
        queue_limit: how many submitted tasks may wait beside those that workers
            can run; above it `submit` raises `QueueFull`.  None for no limit.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, or out of range.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        factory: WorkerFactory | str = "process",
        min_workers: int = 0,
        idle_timeout: float = 60.0,
        max_tasks_per_worker: int | None = None,
        max_memory_per_worker: int | None = None,
        queue_limit: int | None = None,
        cancel_grace: float = 1.0,
    ) -> None:
        if isinstance(max_workers, int) and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None:
            if max_tasks_per_worker is not None:
                raise TypeError("max_tasks_per_child is max_tasks_per_worker: give one of them")
            max_tasks_per_worker = max_tasks_per_child
        pool = _ExecutorPool(
            max_workers,
            factory=prepared(resolve_factory(factory), initializer, initargs),
            min_workers=min_workers,
            idle_timeout=idle_timeout,
            max_tasks_per_worker=max_tasks_per_worker,
            max_memory_per_worker=max_memory_per_worker,
            cancel_grace=cancel_grace,
        )
        queue_limit = as_int_or_none("queue_limit", queue_limit, 1)
        limit = None if queue_limit is None else queue_limit + pool.max_workers * pool.concurrency
        self._thread = LoopThread(pool, limit)

    @property
    def _max_workers(self) -> int:
        """Libraries read it off the standard library's executors, dask among them."""
        return self._thread.pool.max_workers

    @property
    def _processes(self) -> dict[int, WorkerProcess]:
        """Worker processes by pid, once those that are starting have started; for whoever looks there."""
        from offloop.adapters.processes import processes_of

        return processes_of(self._thread)

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[R]:
        """Have ``fn(*args, **kwargs)`` called in a worker.

        Args:
            fn: a function; what a coroutine function returns is awaited in the worker.
            *args: its arguments.
            **kwargs: its keyword arguments; every keyword belongs to ``fn``.

        Returns:
            The future of the result.  It is running from when it is handed to a
            worker, which may be shortly before it runs, and can be cancelled until
            then.  Its callbacks are called in the executor's thread, as the standard library's are in
            the one that manages its workers: they must not block, and can run no event loop.

        Raises:
            TypeError: ``fn`` is not callable.
            RuntimeError: the executor was shut down, the interpreter is ending, or this
                process was forked from the one that made the executor.
            QueueFull: the ``queue_limit`` is reached.
            OSError: this is the first use, and there are no descriptors for the executor's event loop.
        """
        future: TaskFuture[R] = self._thread.submit(CallableTask.of(fn, args, kwargs))
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Call ``fn`` with the items of the iterables, side by side, in the workers.

        The calls begin at once, whether or not the results are looked at.  A
        call that fails does not stop the others until the iterator comes to it:
        it raises the error there, and cancels what no worker has got yet.  So
        does leaving the iterator early; with ``buffersize`` even before its first result, else all
        calls are made then.

        Args:
            fn: a function.
            *iterables: its arguments; the shortest ends them.
            timeout: seconds from now until the last result has to be there.
            chunksize: items per chunk; a chunk is one task, and should its worker
                die, all of it fails.  By default it follows measured durations;
                1 makes each item a task of its own.
            buffersize: most items that are pulled from the iterables and whose
                results were not taken yet.  By default the iterables are pulled
                at once, to their end.

        Returns:
            An iterator over the results, in order, for one thread at a time.  It
            raises `TimeoutError` when the timeout has passed, and what a call raised.

        Raises:
            TypeError, ValueError: an argument is of the wrong type, or below 1.
            RuntimeError: as of `submit`.
        """
        if not callable(fn):
            raise TypeError(not_callable(fn))
        chunksize = as_int_or_none("chunksize", chunksize, 1)
        buffersize = as_int_or_none("buffersize", buffersize, 1)
        deadline = None if timeout is None else monotonic() + timeout
        self._thread.check_open()
        star = len(iterables) != 1
        rows = zip(*iterables, strict=False) if star else iter(iterables[0])
        source: list[Any] | FedRows
        source, pull = (list(rows), None) if buffersize is None else self._feeding(rows, buffersize)
        results = Results(
            self._thread.pool, fn, source, star=star, chunksize=chunksize, buffersize=buffersize
        )
        self._thread.run(results.deliver(), results.closing)
        thread = self._thread  # the iterator does not keep the executor, unless it pulls
        return results.iterate(deadline, pull, lambda: thread.call(results.cancel))

    def _feeding(self, rows: Iterator[Any], count: int) -> tuple[FedRows, Callable[[], None]]:
        """Rows that begin with ``count`` of these, and a function that adds the next one."""
        first = list(islice(rows, count))
        fed = FedRows(first, ended=len(first) < count)

        def pull() -> None:
            self._thread.check_open()
            try:
                row = next(rows)
            except StopIteration:
                self._thread.call(fed.end)
            else:
                self._thread.call(lambda: fed.put(row))

        return fed, pull

    @property
    def is_running(self) -> bool:
        """Whether it takes tasks: True until it was shut down, or its process was forked."""
        return not self._thread.is_closed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Shut down and wait; after Ctrl-C, cancel everything first, what runs too."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._thread.interrupt()
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, finish what was submitted, and end the workers.

        Args:
            wait: return when all that is done; in a callback of a future, which the
                executor's own thread calls, it is not waited for.
            cancel_futures: cancel what was not handed to a worker instead of finishing it.
        """
        self._thread.close(cancel=cancel_futures)
        if wait:
            self._thread.join()

    def kill_workers(self) -> None:
        """Kill the workers at once, and shut down without waiting.

        What was submitted and has not ended fails with `WorkerKilled`.
        """
        self._thread.call(self._thread.pool.kill)
        self._thread.close()

    def __del__(self) -> None:
        thread: LoopThread | None = self.__dict__.get("_thread")
        if thread is not None:
            thread.close()

    def __repr__(self) -> str:
        return f"<Executor {self._thread}>"


def prepared(
    factory: WorkerFactory, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> WorkerFactory:
    """The factory, with a bootstrap that runs its own one and then the initializer.

    Raises:
        TypeError: the initializer is not callable, or the factory is not a dataclass with a ``bootstrap``.
    """
    if initializer is not None and not callable(cast("object", initializer)):
        raise TypeError("initializer must be a callable")
    authkey = bytes(current_process().authkey) if isinstance(factory, ProcessWorkerFactory) else None
    if initializer is None and authkey is None:
        return factory
    options: Any = factory  # a dataclass, or `replace` refuses it
    if not hasattr(options, "bootstrap"):
        raise TypeError(f"{type(factory).__name__} has no bootstrap, which initializer= needs")
    bootstrap = Initializer(options.bootstrap, initializer, tuple(initargs), authkey)
    replaced: WorkerFactory = dataclasses.replace(options, bootstrap=bootstrap)
    return replaced
