"""The `map` of an executor: chunks made on the pool's event loop, results taken in any thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from offloop.adapters.broken import as_raised_by_executor
from offloop.changes import Signal
from offloop.mapchunk import Chunk, unpack
from offloop.mapfeed import MapWorker
from offloop.maprun import BUFFER, MapOptions, MapRun


class FedRows(AsyncIterator[Any]):
    """Rows that another thread has `put` on the loop one by one.

    Args:
        first: what is there from the beginning.
        ended: whether that is all.
    """

    def __init__(self, first: list[Any], *, ended: bool) -> None:
        self._rows = deque(first)
        self._ended = ended
        self._news = Signal()

    def put(self, row: Any) -> None:
        """One more row."""
        self._rows.append(row)
        self._news.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._news.set()

    async def __anext__(self) -> Any:
        await self._news.wait_until(lambda: self._rows or self._ended)
        if not self._rows:
            raise StopAsyncIteration
        return self._rows.popleft()


class ChunkRun(MapRun):
    """A run that hands its chunks over unopened.

    So a failure ends nothing until its consumer comes to it: as with the
    standard library, whoever looks at no result has every call made.  And what
    was handed to a worker is not interrupted when the consumer leaves early.
    """

    def __init__(
        self, worker: MapWorker, fn: Callable[..., Any], rows: Any, options: MapOptions, *, star: bool
    ) -> None:
        super().__init__(worker, fn, (rows,), options)
        self._star = star

    def _open(self, chunk: Chunk) -> list[Any]:
        return [chunk]

    def stop(self) -> None:
        """Cancel what waits; what is in hand is still delivered.  Idempotent."""
        if self._feed is not None:
            self._feed.stop(spare=_is_in_hand)

    def cancel(self) -> None:
        """Cancel what waits, and deliver no more.  Idempotent."""
        self.stop()
        super().cancel()


def _is_in_hand(execution: asyncio.Future[Any]) -> bool:
    return getattr(execution, "worker_id", None) is not None


class Results:
    """The results of one map, from the loop to its consumer.

    Args:
        worker: the pool.
        fn: the function.
        rows: a list of rows, or `FedRows`.
        star: whether a row is a tuple of arguments, else it is the argument.
        chunksize: items per chunk, or None to adapt.
        buffersize: most rows that are there at a time, or None.
    """

    def __init__(
        self,
        worker: MapWorker,
        fn: Callable[..., Any],
        rows: list[Any] | FedRows,
        *,
        star: bool,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        # Where everything is there already, nothing is won by holding it back.
        self._rows = rows
        limit = buffersize or max(BUFFER, len(rows) if isinstance(rows, list) else 0)
        options = MapOptions(chunksize=chunksize, buffersize=limit)
        self._run = ChunkRun(worker, fn, rows, options, star=star)
        self._queue: SimpleQueue[Chunk | BaseException | None] = SimpleQueue()

    async def deliver(self) -> None:
        """On the loop: run the map, and put its chunks into the queue in order."""
        try:
            while (chunks := await self._run.next_values()) is not None:
                self._run.release(len(chunks[0].rows))
                self._queue.put(chunks.pop())  # no reference stays here while it waits for the next one
            self._queue.put(None)
        except asyncio.CancelledError:
            self._queue.put(CancelledError())
        except Exception as error:
            self._queue.put(as_raised_by_executor(error))
        await self._run.aclose()

    def cancel(self) -> None:
        """On the loop: the consumer has left."""
        self._run.cancel()

    def closing(self, cancel: bool) -> None:
        """On the loop: no rows will come any more, and those that wait may be cancelled."""
        if cancel:
            self._run.stop()
        elif isinstance(self._rows, FedRows):
            self._rows.end()

    def iterate(
        self, deadline: float | None, pull: Callable[[], object] | None, leave: Callable[[], object]
    ) -> Iterator[Any]:
        """In any thread: the results in order.

        Args:
            deadline: monotonic seconds at which waiting ends, or None.
            pull: called before each result, to make up for it with a further row; None if all rows are there.
            leave: called if the consumer leaves before the end.  One who takes no result at all has not
                left, unless there is ``pull``: then the rest would wait for them for ever.

        Raises:
            TimeoutError: the deadline has passed.
            BaseException: what a call raised; that ends the results.
        """
        results = self._iterate(deadline, pull, leave)
        if pull is not None:
            next(results)  # only a generator that has begun runs its `finally` when it is dropped
        return results

    def _iterate(
        self, deadline: float | None, pull: Callable[[], object] | None, leave: Callable[[], object]
    ) -> Iterator[Any]:
        finished = False
        try:
            if pull is not None:
                yield None  # for `iterate`
            while (chunk := self._next(deadline)) is not None:
                values, failure = unpack(chunk, return_exceptions=False)
                del chunk
                values.reverse()
                while values:
                    if pull is not None:
                        pull()
                    yield values.pop()  # no reference stays here
                if isinstance(failure, asyncio.CancelledError):
                    raise CancelledError
                if failure is not None:
                    try:
                        raise as_raised_by_executor(failure)
                    finally:
                        del failure  # no cycle through its traceback
            finished = True
        finally:
            if not finished:
                leave()

    def _next(self, deadline: float | None) -> Chunk | None:
        """The next chunk; None at the end."""
        timeout = None if deadline is None else max(0.0, deadline - monotonic())
        try:
            item = self._queue.get(timeout=timeout)
        except Empty:
            raise TimeoutError from None
        if isinstance(item, BaseException):
            try:
                raise item
            finally:
                del item  # no cycle through its traceback
        return item
