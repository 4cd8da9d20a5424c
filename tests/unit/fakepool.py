"""A pool without workers: it runs tasks in the caller, in virtual time, the same way every time."""

from __future__ import annotations

import asyncio
import heapq
import inspect
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from pickling import PicklingTask

from offloop.errors import QueueFull
from offloop.mapping import Map
from offloop.scheduling.estimate import Kinds
from offloop.task import CallableTask

#: Turns of the event loop in which everybody can react before the next task ends.
TURNS = 8


class FakePool:
    """Runs each chunk's items for as many virtual seconds as ``seconds(item)`` says.

    Args:
        workers: how many chunks run at the same time.
        seconds: virtual running time of an item.
        is_manual: tasks end only by `finish`.
        queue_limit: `QueueFull` is raised above so many outstanding tasks.
        pickles: outcomes are pickled, as those of a process are.
        pickling: seconds that sending a chunk is to have taken, or what tells them of its rows.
        takes: how many items a bet of so many runs before it gives back the others; by default it
            decides that itself.
    """

    def __init__(
        self,
        workers: int = 2,
        seconds: Callable[[Any], float] = lambda item: 1e-6,
        *,
        is_manual: bool = False,
        queue_limit: int | None = None,
        pickles: bool = False,
        pickling: float | Callable[[Any], float] = 0.0,
        takes: Callable[[int], int] | None = None,
    ) -> None:
        self.max_workers = workers
        self.seconds = seconds
        self.is_manual = is_manual
        self.queue_limit = queue_limit
        self._task = PicklingTask() if pickles else None
        self.pickling = pickling
        self.takes = takes
        self.now = 0.0
        self.executions: list[asyncio.Future[Any]] = []
        self.chunks: list[list[Any]] = []  # what was run of each
        self.sent: list[int] = []  # how many rows each had
        self.timeouts: list[float | None] = []
        self.most_outstanding = 0
        self.refusals = 0
        self.failures: dict[int, BaseException] = {}  # by number of chunk: how the execution fails
        self._queue: deque[int] = deque()
        self._running: list[tuple[float, int]] = []
        self._is_ticking = False
        self._kind_of = Kinds().of

    @property
    def outstanding(self) -> list[int]:
        return [number for number, execution in enumerate(self.executions) if not execution.done()]

    def forget(self) -> None:
        """Begin to count anew, while nothing is outstanding."""
        self.chunks.clear()
        self.sent.clear()
        self.executions.clear()

    def enqueue(self, task: CallableTask[Any], *, timeout: float | None = None) -> asyncio.Future[Any]:
        if self.queue_limit is not None and len(self.outstanding) >= self.queue_limit:
            self.refusals += 1
            raise QueueFull("full")
        number = len(self.executions)
        execution = asyncio.get_running_loop().create_future()
        execution.task = task  # type: ignore[attr-defined]
        took = self.pickling(task.args[1]) if callable(self.pickling) else self.pickling
        execution.pickling = took  # type: ignore[attr-defined]
        self.executions.append(execution)
        self.sent.append(len(task.args[1]))
        if self.takes is not None and len(task.args) > 2:  # a bet
            fn, rows, _ = task.args
            execution.task = CallableTask(task.fn, fn, rows[: self.takes(len(rows))])  # type: ignore[attr-defined]
        self.chunks.append(execution.task.args[1])  # type: ignore[attr-defined]
        self.timeouts.append(timeout)
        self.most_outstanding = max(self.most_outstanding, len(self.outstanding))
        self._queue.append(number)
        self._schedule()
        return execution

    def finish(self, number: int, seconds: float | None = None) -> None:
        """Run a chunk now; ``seconds`` is how long it says that it took."""
        execution = self.executions[number]
        if execution.done():
            return
        if number in self.failures:
            execution.set_exception(self.failures[number])
            return
        if seconds is None:
            seconds = sum(self.seconds(item) for item in self.chunks[number])
        try:
            with self._task.running() if self._task is not None else nullcontext():
                outcome = execution.task.run(None)
        except BaseException as error:
            execution.set_exception(error)
            return
        if inspect.iscoroutine(outcome):
            self._awaiting = asyncio.ensure_future(self._resolve(execution, outcome, seconds))
        else:
            execution.set_result(self._carried(outcome, seconds))

    async def _resolve(self, execution: asyncio.Future[Any], outcome: Any, seconds: float) -> None:
        result = await outcome
        if not execution.done():
            execution.set_result(self._carried(result, seconds))

    def _carried(self, outcome: Any, seconds: float) -> Any:
        arrived = self._task.arrived(outcome) if self._task is not None else outcome
        return (seconds, *arrived[1:])

    def _schedule(self) -> None:
        if not self.is_manual and not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_soon(self._tick, TURNS)

    def _tick(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._tick, turns - 1)
            return
        self._is_ticking = False
        self._start_queued()
        if self._running:
            self.now, number = heapq.heappop(self._running)
            self.finish(number)
            self._start_queued()
            self._schedule()

    def _start_queued(self) -> None:
        while self._queue and len(self._running) < self.max_workers:
            number = self._queue.popleft()
            if not self.executions[number].done():
                took = sum(self.seconds(item) for item in self.chunks[number])
                heapq.heappush(self._running, (self.now + took, number))


class Source:
    """A sync iterator that counts what is pulled."""

    def __init__(self, items: Any) -> None:
        self._items = iter(items)
        self.pulled = 0

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self.pulled += 1
        return item


class AsyncSource:
    """An async iterator that yields what the test puts in, and counts."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.is_closed = False
        self.pulled = 0

    def __aiter__(self) -> AsyncSource:
        return self

    async def __anext__(self) -> Any:
        item = await self.queue.get()
        if item is StopAsyncIteration:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        self.pulled += 1
        return item

    async def aclose(self) -> None:
        self.is_closed = True


async def turns(count: int = 30) -> None:
    """Let everything that can go on go on, until nothing but the test itself is left to run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until_failure(results: Any) -> tuple[list[Any], Exception | None]:
    """What an async iterator yields, and what it then raises, if it does."""
    got: list[Any] = []
    iterator = aiter(results)
    while True:
        try:
            got.append(await anext(iterator))
        except StopAsyncIteration:
            return got, None
        except Exception as error:
            return got, error


def square(x: int) -> int:
    return x * x


def run_map(pool: Any, fn: Callable[..., Any], *iterables: Any, **options: Any) -> Map[Any]:
    return Map(pool, fn, iterables, **options)


async def collect(results: Map[Any]) -> list[Any]:
    return await results
