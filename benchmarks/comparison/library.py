"""The interface behind which the libraries are.

``submit`` gives a future of the kind that `concurrent.futures` has.  What a
library has no call for is left as it stands in `Library`: the answer is no.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class NotOffered(Exception):
    """The library has no call for this."""


class Library:
    """A library with a pool of workers, open."""

    #: Its name on PyPI, where it has one.
    distribution: str | None = None
    #: A program with a function of its own and without a guard, which prints 42.
    guardless = ""
    #: The function or method whose parameters tell whether there is a bar of progress.
    maps: Callable[[], Any] | None = None
    #: Whether `submit` can be awaited, or is a coroutine.
    is_async = False

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        if initialize:
            raise NotOffered

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        raise NotImplementedError

    def submit_limited(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """The same, with the library's own limit on running time."""
        raise NotOffered

    def map(self, fn: Callable[[int], int], numbers: Iterator[int]) -> Iterator[int]:
        """Results over a long input, as the library gives them soonest."""
        raise NotOffered

    def stream(self, fn: Callable[[], Any]) -> list[Any]:
        raise NotOffered


class InThreads(Library):
    """For libraries whose calls block: each waits in a thread."""

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        super().__init__(workers, initialize=initialize)
        self.threads = ThreadPoolExecutor(8)

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.threads.submit(self.call, fn, *args)


class OnLoop(Library):
    """For libraries of asyncio: an event loop in a thread; cancelling a future cancels the coroutine."""

    is_async = True

    def __init__(self, workers: int, *, initialize: bool = False) -> None:
        self.loop = asyncio.new_event_loop()
        forever = asyncio.Event().wait()  # a main task: anyio ends its workers with it
        threading.Thread(target=self.loop.run_until_complete, args=(forever,), daemon=True).start()

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(self.call(fn, *args), self.loop)
