"""The libraries for async code, each used as its documentation says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from benchmarks.comparison import tasks
from benchmarks.comparison.library import Library, OnLoop


class Offloop(OnLoop):
    distribution = "offloop"
    guardless = """
import asyncio
from offloop import WorkerPool
def answer(): return 42
async def main():
    async with WorkerPool(1) as pool:
        print(await pool.submit(answer))
asyncio.run(main())
"""

    @staticmethod
    def maps() -> Any:
        from offloop import WorkerPool

        return WorkerPool.map

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        super().__init__(workers)
        from offloop import ProcessWorkerFactory, WorkerPool

        factory = ProcessWorkerFactory(bootstrap=tasks.initialize if initialize else None)
        self.pool = WorkerPool(workers, factory=factory)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self.pool.submit(fn, *args)

    def submit_limited(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        async def limited() -> Any:
            return await self.pool.options(timeout=seconds).submit(fn, *args)

        return asyncio.run_coroutine_threadsafe(limited(), self.loop)

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        results = self.pool.map(fn, numbers)
        while True:
            yield self.wait(_next(results))

    def stream(self, fn: Callable[[], Any]) -> list[Any]:
        async def items() -> list[Any]:
            return [item async for item in self.pool.stream(fn)]

        found: list[Any] = self.wait(items())
        return found


async def _next(results: Any) -> Any:
    return await anext(results)


class Anyio(OnLoop):
    distribution = "anyio"
    guardless = """
import anyio, anyio.to_process
def answer(): return 42
async def main(): print(await anyio.to_process.run_sync(answer))
anyio.run(main)
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        Library.__init__(self, workers, initialize=initialize)
        super().__init__(workers)
        self.workers, self.limiter = workers, None

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        from anyio import CapacityLimiter, to_process

        self.limiter = self.limiter or CapacityLimiter(self.workers)
        return await to_process.run_sync(fn, *args, cancellable=True, limiter=self.limiter)


class Aiomultiprocess(OnLoop):
    distribution = "aiomultiprocess"
    guardless = """
import asyncio
from aiomultiprocess import Pool
async def answer(): return 42
async def main():
    async with Pool(1) as pool:
        print(await pool.apply(answer))
asyncio.run(main())
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        super().__init__(workers)
        self.wait(self.open(workers, initialize))

    async def open(self, workers: int, initialize: bool) -> None:
        from aiomultiprocess import Pool

        self.pool = Pool(workers, initializer=tasks.initialize if initialize else None)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        if asyncio.iscoroutinefunction(fn):
            return await self.pool.apply(fn, args)
        return await self.pool.apply(tasks.in_coroutine, (fn, *args))  # it takes coroutine functions only

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        results = self.wait(self.mapped(tasks.double_async, numbers))
        while True:
            yield self.wait(_next(results))

    async def mapped(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Any:
        return aiter(self.pool.map(fn, numbers))

    @staticmethod
    def maps() -> Any:
        from aiomultiprocess import Pool

        return Pool.map


class TrioParallel(Library):
    distribution = "trio-parallel"
    is_async = True
    guardless = """
import trio, trio_parallel
def answer(): return 42
async def main(): print(await trio_parallel.run_sync(answer))
trio.run(main)
"""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        import trio

        self.workers, self.initialize = workers, initialize
        ready = threading.Event()

        async def main() -> None:
            import trio_parallel

            self.token = trio.lowlevel.current_trio_token()
            self.limiter = trio.CapacityLimiter(workers)
            options = {"init": tasks.initialize} if initialize else {}
            async with trio_parallel.open_worker_context(**options) as self.context:
                ready.set()
                await trio.sleep_forever()

        threading.Thread(target=trio.run, args=(main,), daemon=True).start()
        ready.wait()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        import trio

        future: Future[Any] = Future()
        scope = trio.CancelScope()

        async def call() -> None:
            try:
                with scope:
                    found = await self.context.run_sync(fn, *args, kill_on_cancel=True, limiter=self.limiter)
                    future.set_result(found)
            except BaseException as error:
                future.set_exception(error)

        def start() -> None:
            trio.lowlevel.spawn_system_task(call)

        def cancel() -> bool:
            trio.from_thread.run_sync(scope.cancel, trio_token=self.token)
            return True

        future.cancel = cancel  # type: ignore[method-assign]
        trio.from_thread.run_sync(start, trio_token=self.token)
        return future
