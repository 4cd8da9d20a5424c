"""The libraries for synchronous code, each used as its documentation says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from benchmarks.comparison import tasks
from benchmarks.comparison.library import InThreads, Library


class StandardExecutor(Library):
    guardless = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
def answer(): return 42
with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as executor:
    print(executor.submit(answer).result())
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        self.executor = self.open(workers, {"initializer": tasks.initialize} if initialize else {})

    def open(self, workers: int, options: Any) -> Any:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import (
            get_context,
        )  # the way that is safe with threads, and the default from 3.14 on

        return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"), **options)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = self.executor.submit(fn, *args)
        return future

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        import inspect

        bounded = "buffersize" in inspect.signature(type(self.executor).map).parameters  # from Python 3.14 on
        results: Iterator[int] = self.executor.map(fn, numbers, **({"buffersize": 100} if bounded else {}))
        return results

    @staticmethod
    def maps() -> Any:
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor.map


class Loky(StandardExecutor):
    distribution = "loky"
    guardless = """
from loky import get_reusable_executor
def answer(): return 42
print(get_reusable_executor(max_workers=1).submit(answer).result())
"""

    def open(self, workers: int, options: Any) -> Any:
        from loky import get_reusable_executor

        return get_reusable_executor(max_workers=workers, **options)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        from loky import get_reusable_executor

        if self.executor._flags.broken:  # as its documentation has it: this call gives a new one then
            self.executor = get_reusable_executor(max_workers=2)
        return super().submit(fn, *args)


class MultiprocessingPool(InThreads):
    guardless = """
from multiprocessing import get_context
def answer(): return 42
with get_context("forkserver").Pool(1) as pool:
    print(pool.apply(answer))
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        super().__init__(workers)
        from multiprocessing import get_context

        self.pool = get_context("forkserver").Pool(workers, tasks.initialize if initialize else None)

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply(fn, args)

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        return self.pool.imap(fn, numbers)

    @staticmethod
    def maps() -> Any:
        from multiprocessing.pool import Pool

        return Pool.imap


class Joblib(InThreads):
    distribution = "joblib"
    guardless = """
from joblib import Parallel, delayed
def answer(): return 42
print(Parallel(n_jobs=2)(delayed(answer)() for _ in range(1))[0])
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        super().__init__(workers)
        self.workers = max(2, workers)  # with one it computes in the caller
        self.options: dict[str, Any] = {"n_jobs": self.workers}
        self.backend = {"initializer": tasks.initialize} if initialize else {}

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config("loky", **self.backend, **self.options):
            return Parallel()([delayed(fn)(*args)])[0]

    def submit_limited(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        from joblib import Parallel, delayed

        return self.threads.submit(lambda: Parallel(**self.options, timeout=seconds)([delayed(fn)(*args)])[0])

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        from joblib import Parallel, delayed

        results: Iterator[int] = Parallel(**self.options, return_as="generator")(
            delayed(fn)(number) for number in numbers
        )
        return results


class Pebble(Library):
    distribution = "pebble"
    guardless = """
from multiprocessing import get_context
from pebble import ProcessPool
def answer(): return 42
with ProcessPool(1, context=get_context("forkserver")) as pool:
    print(pool.schedule(answer).result())
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        from multiprocessing import get_context

        from pebble import ProcessPool

        self.pool = ProcessPool(
            workers,
            initializer=tasks.initialize if initialize else None,
            context=get_context("forkserver"),
        )

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.pool.schedule(fn, args=args)

    def submit_limited(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.pool.schedule(fn, args=args, timeout=seconds)

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        results: Iterator[int] = self.pool.map(fn, numbers).result()
        return results

    @staticmethod
    def maps() -> Any:
        from pebble import ProcessPool

        return ProcessPool.map


class Mpire(InThreads):
    distribution = "mpire"
    guardless = """
from mpire import WorkerPool
def answer(): return 42
with WorkerPool(1, start_method="forkserver") as pool:
    print(pool.apply(answer))
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        super().__init__(workers)
        from mpire import WorkerPool

        self.pool = WorkerPool(workers, start_method="forkserver")
        self.options = {"worker_init": tasks.initialize} if initialize else {}

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply(fn, args, **self.options)

    def submit_limited(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.threads.submit(lambda: self.pool.apply(fn, args, task_timeout=seconds))

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        return self.pool.imap(fn, numbers, iterable_len=1_000_000)

    @staticmethod
    def maps() -> Any:
        from mpire import WorkerPool

        return WorkerPool.imap
