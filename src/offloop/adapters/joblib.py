"""joblib's ``Parallel`` on offloop's workers: the only module that imports joblib.

Executors outlive a call, as loky's do: the next call with the same options
finds its workers warm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from offloop.cpus import usable_cpus

if TYPE_CHECKING:  # workers load this module, and have no executor
    from offloop.adapters.futures import Executor
    from offloop.adapters.handed import TaskFuture

_parallel: Any = import_module("joblib.parallel")  # which has no types

#: Seconds after which idle workers retire, as with loky.
IDLE_TIMEOUT = 300.0

Key = tuple[tuple[str, Any], ...]
#: Callbacks, each with its future, and at the end None.
Due: TypeAlias = SimpleQueue[tuple[Callable[[Future[Any]], object], Future[Any]] | None]

_logger = logging.getLogger("offloop")


class SharedExecutors:
    """Executors by their options: each is kept while it is used, and the one used last beyond that."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._shared: dict[Key, _Shared] = {}

    def acquire(self, **options: Any) -> Executor:
        """The executor with these options, until `release`."""
        from offloop.adapters.futures import Executor
        from offloop.contexts import ProcessWorkerFactory

        key: Key = tuple(sorted((name, _hashable(value)) for name, value in options.items()))
        with self._lock:
            found = self._shared.get(key)
            if found is None or not found.executor.is_running:
                self._end_unused()
                env = dict(options.pop("env"))
                factory = ProcessWorkerFactory(env=env, native_threads=None)
                found = self._shared[key] = _Shared(Executor(factory=factory, **options))
            found.users += 1
        return found.executor

    def release(self, executor: Executor) -> None:
        """One user less; the workers stay for the next one."""
        with self._lock:
            for each in self._shared.values():
                if each.executor is executor:  # else it had ended, and another one is in its place
                    each.users -= 1

    def close(self) -> None:
        """End all, and wait for their ends."""
        with self._lock:
            ended = [*self._shared.values()]
            self._shared.clear()
        for each in ended:
            each.executor.shutdown()

    def _end_unused(self) -> None:
        for key, each in [*self._shared.items()]:
            if not each.users:
                del self._shared[key]
                each.executor.shutdown(wait=False)


class _Shared:
    """An executor, and how many calls use it."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.users = 0


shared = SharedExecutors()


class Callbacks:
    """Calls joblib back when a batch has ended, in a thread of its own, until `end`.

    A callback pulls the next batches out of the user's generator.  That may block, and run an event
    loop: on the executor's one it would hold up everybody's results, and could run none.  As it may
    block for ever, the thread is a daemon: the program ends without it.
    """

    def __init__(self) -> None:
        self._due: Due = SimpleQueue()
        threading.Thread(target=_call_back, args=(self._due,), name="offloop-joblib", daemon=True).start()

    def add(self, callback: Callable[[Future[Any]], object], future: Future[Any]) -> None:
        """Have it called; after the end nothing comes of it, as joblib would do nothing then."""
        self._due.put((callback, future))

    def end(self) -> None:
        """End the thread, behind what is due."""
        self._due.put(None)


def _call_back(due: Due) -> None:
    while (item := due.get()) is not None:
        callback, future = item
        try:
            callback(future)
        except BaseException:  # SystemExit of the user's generator, too
            _logger.exception("exception calling a callback of %r", future)
        del item, callback, future  # no result stays here while it waits


class OffloopBackend(_parallel.AutoBatchingMixin, _parallel.ParallelBackendBase):  # type: ignore[misc]  # no types
    """Runs the batches of a ``joblib.Parallel`` in offloop's worker processes.

    Large arrays go through shared memory, a worker that dies fails its batch
    alone, and a call that is aborted, by an error or its timeout, interrupts what
    runs.  Calls nested in a task use threads, and in those they are sequential.

    Args:
        nesting_level: how deep the call is nested; joblib's to say.
        inner_max_num_threads: the size of OpenMP and BLAS thread pools in a worker; by
            default the CPUs are shared out among the workers.
        **options: other options of `offloop.Executor`, except ``factory``.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        base: Any = super()
        base.__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = {"idle_timeout": IDLE_TIMEOUT, **options}
        self._executors: list[Executor] = []  # the last one is the present call's
        self._callbacks: Callbacks | None = None  # from the first to the last of several calls at once
        self._outstanding: set[TaskFuture[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at a time, for what the user asked for."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(usable_cpus() + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: object = None,
        require: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_: Any,
    ) -> int:
        """Get ready for a call; joblib's options about memory maps do not matter here."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise _parallel.FallbackToBackend(_parallel.SequentialBackend(nesting_level=self.nesting_level))
        options: dict[str, Any] = {"env": self._prepare_worker_env(n_jobs=n_jobs), **self._options}
        if initializer is not None:
            options |= {"initializer": initializer, "initargs": initargs}
        self._executors.append(shared.acquire(max_workers=n_jobs, **options))
        if self._callbacks is None:
            self._callbacks = Callbacks()
        self.parallel = parallel
        return n_jobs

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """Send a batch; the callback gets its future."""
        future = cast("TaskFuture[Any]", self._executors[-1].submit(run_batch, func))
        self._outstanding.add(future)
        future.add_done_callback(self._outstanding.discard)
        if callback is not None and self._callbacks is not None:
            future.add_done_callback(partial(self._callbacks.add, callback))
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """The results of a batch that has ended."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what waits and interrupt what runs; the workers live on."""
        for future in [*self._outstanding]:
            future.interrupt()

    def terminate(self) -> None:
        """The call is over."""
        if self._executors:
            shared.release(self._executors.pop())
        if not self._executors and self._callbacks is not None:
            self._callbacks.end()
            self._callbacks = None
        self.reset_batch_stats()


def _hashable(value: Any) -> Any:
    """Something that stands for an option in a key: itself, or where it can't, that very object."""
    if isinstance(value, dict):
        return tuple(sorted(cast("dict[str, Any]", value).items()))
    try:
        hash(value)
    except TypeError:
        return ("id", id(value))
    return value


def run_batch(batch: Callable[[], Any]) -> Any:
    """In a worker: run a batch, in which ``Parallel(backend="offloop")`` works as well."""
    register()
    return batch()


def register() -> None:
    """Tell joblib of the backend."""
    if _parallel.BACKENDS.get("offloop") is not OffloopBackend:
        _parallel.register_parallel_backend("offloop", OffloopBackend)
