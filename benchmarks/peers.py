"""Opens pools of offloop and of its peers, behind one kind of function: ``call(fn, *args)`` is awaitable.

Every library is imported in its own function only: each contender has its own process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from benchmarks.work import AS_COROUTINE

Call = Callable[..., Awaitable[Any]]
Opener = Callable[[int], AbstractAsyncContextManager[Call]]


@asynccontextmanager
async def offloop(workers: int) -> AsyncIterator[Call]:
    """offloop's pool of processes."""
    from offloop import WorkerPool

    async with WorkerPool(workers) as pool:
        yield pool.submit


@asynccontextmanager
async def offloop_threads(workers: int) -> AsyncIterator[Call]:
    """offloop's pool of threads."""
    from offloop import WorkerPool

    async with WorkerPool(workers, factory="thread") as pool:
        yield pool.submit


@asynccontextmanager
async def offloop_interpreters(workers: int) -> AsyncIterator[Call]:
    """offloop's pool of interpreters; from Python 3.14 on."""
    from offloop import WorkerPool

    async with WorkerPool(workers, factory="interpreter") as pool:
        yield pool.submit


@asynccontextmanager
async def interpreter_pool_executor(workers: int) -> AsyncIterator[Call]:
    """The standard library's, under ``run_in_executor``; from Python 3.14 on."""
    from importlib import import_module

    futures = import_module("concurrent.futures")
    with futures.InterpreterPoolExecutor(workers) as executor:
        yield _in_executor(executor)


@asynccontextmanager
async def process_pool_executor(workers: int) -> AsyncIterator[Call]:
    """The standard library's, under ``run_in_executor``, with its default start method."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as executor:
        yield _in_executor(executor)


@asynccontextmanager
async def forkserver_executor(workers: int) -> AsyncIterator[Call]:
    """The same, with the start method that is safe in a program with threads."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as executor:
        yield _in_executor(executor)


@asynccontextmanager
async def thread_pool_executor(workers: int) -> AsyncIterator[Call]:
    """The standard library's, under ``run_in_executor``."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as executor:
        yield _in_executor(executor)


@asynccontextmanager
async def loky(workers: int) -> AsyncIterator[Call]:
    """loky's executor, under ``run_in_executor``."""
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as executor:
        yield _in_executor(executor)


@asynccontextmanager
async def pebble(workers: int) -> AsyncIterator[Call]:
    """pebble's pool; its futures are made awaitable with ``wrap_future``."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=workers) as pool:
        yield lambda fn, *args: asyncio.wrap_future(pool.schedule(fn, args))


@asynccontextmanager
async def anyio(workers: int) -> AsyncIterator[Call]:
    """anyio's ``to_process.run_sync``, limited to so many workers."""
    from anyio import CapacityLimiter, to_process

    limiter = CapacityLimiter(workers)

    def call(fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        called: Awaitable[Any] = to_process.run_sync(fn, *args, limiter=limiter)
        return called

    yield call  # its workers end with the event loop


@asynccontextmanager
async def aiomultiprocess(workers: int) -> AsyncIterator[Call]:
    """aiomultiprocess's pool, which runs coroutine functions."""
    from aiomultiprocess import Pool

    async with Pool(processes=workers) as pool:

        def call(fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
            called: Awaitable[Any] = pool.apply(AS_COROUTINE[fn.__name__], args)
            return called

        yield call


def _in_executor(executor: Any) -> Call:
    loop = asyncio.get_running_loop()

    def call(fn: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return loop.run_in_executor(executor, fn, *args)

    return call
