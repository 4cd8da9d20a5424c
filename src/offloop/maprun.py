"""One run over the inputs of a `Map`: what its consumer waits for and gets."""

from __future__ import annotations

import asyncio
import functools
import math
from asyncio.events import _get_running_loop
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from offloop.changes import Signal
from offloop.child.chunk import run_chunk, run_star_chunk
from offloop.inputs import is_sliced, known_length
from offloop.mapchunk import Chunk, unpack
from offloop.mapfeed import Feed, MapWorker
from offloop.progress import ProgressBar, Reporter
from offloop.reentry import InUseError
from offloop.registry import refuse_elsewhere
from offloop.scheduling.chunking import TURN, Chunker, Past
from offloop.scheduling.estimate import Kind
from offloop.task import CallableTask

#: Results that are handed out before others on the event loop get a turn, if there was none for a while.
BLOCK = 512
#: Chunks outstanding for each worker: one that runs, and enough behind it to
#: cover a turn of a busy event loop.
CHUNKS_PER_WORKER = 4
#: The least default ``buffersize``, and what it grows by with each worker: enough
#: that a slow item does not stall the others.  Fast ones get as much as their chunks take.
BUFFER, BUFFER_PER_WORKER = 8192, 1024


@dataclass(frozen=True, slots=True)
class MapOptions:
    """The options of one map, checked already; `offloop.mapping.Map` describes them."""

    ordered: bool = True
    chunksize: int | None = None
    buffersize: int | None = None
    timeout: float | None = None
    return_exceptions: bool = False
    progress: Callable[[int, int | None], object] | ProgressBar | None = None


class MapRun:
    """Delivers a map's results a chunk at a time; starts when the first is asked for.

    Attributes:
        delivered: how many results the consumer got.
        total: how many there will be, or None if that is not known.
        is_closed: whether it was closed.
        is_finished: whether it came to its end.
    """

    def __init__(
        self, worker: MapWorker, fn: Callable[..., Any], iterables: Sequence[Any], options: MapOptions
    ) -> None:
        self._worker = worker
        self._fn = fn
        self._iterables = iterables
        self._star = len(iterables) > 1  # whether a row is several arguments
        self._options = options
        self._context = copy_context()  # of the call, in which the inputs are pulled and chunks enqueued
        self._chunks: deque[Chunk] = deque()  # to deliver: all sent ones, or, unordered, the done ones
        self._ready = Signal("a map has one consumer, and somebody waits for its results already")
        self._feed: Feed | None = None
        self._failure: BaseException | None = None  # to be raised next
        self._reporter: Reporter | None = None
        self._turn = 0.0  # when its consumer last waited
        self._opened: deque[Any] = deque()  # results of a chunk that `next_value` has not given yet
        self._to_release = 0
        self.delivered = 0
        self.total: int | None = None
        self.is_closed = self.is_finished = False

    @property
    def is_started(self) -> bool:
        """Whether the inputs were begun."""
        return self._feed is not None

    @property
    def in_flight(self) -> int:
        """How many items were pulled and not delivered yet."""
        return self._feed.in_flight if self._feed is not None else 0

    async def next_values(self) -> list[Any] | None:
        """The results of the next chunk; the caller owns the list, and calls `release` for it.

        Returns:
            At least one result, or None at the end.

        Raises:
            BaseException: an item's failure, an input's, or a progress callback's.
            asyncio.CancelledError: the map was closed meanwhile.
            RuntimeError: the map was started on another event loop.
        """
        if self.is_finished:
            return None
        feed = self._started_feed()
        await self.give_way()
        while True:
            if not self._has_news():
                await self._ready.wait_until(self._has_news)
                self._turn = perf_counter()
            if self._failure is not None:
                self._raise_failure()
            self._check_open()
            if not self._has_done_chunk():
                break
            if values := self._open(self._next_chunk()):
                return values
        self.is_finished = True
        feed.check()
        if self._reporter is not None:
            self._reporter.finish()
        return None

    async def next_value(self) -> Any:
        """The next result alone.  Cancelling this call loses nothing, and ends nothing.

        Raises:
            StopAsyncIteration: there are no more, or the run was closed.
            BaseException: as of `next_values`; the run is closed then.
        """
        if self.has_ended():
            raise StopAsyncIteration
        if not self._opened:
            await self._open_next()
        elif not len(self._opened) % BLOCK:
            await self.give_way()
        return self.take_opened()

    def has_ended(self) -> bool:
        """Whether the run was closed; raises the failure that it was closed for, if nobody got that."""
        if self.is_closed and self._failure is not None:
            self._raise_failure()
        return self.is_closed

    async def _open_next(self) -> None:
        """Have the results of another chunk for `next_value`."""
        try:
            values = await self.next_values()
        except InUseError:
            raise
        except BaseException as error:
            if not _is_cancelled_itself(error):
                await self._close_for(error)
            raise
        if values is None:
            await self.aclose()
            raise StopAsyncIteration
        self._opened.extend(values)
        self._to_release = len(values)

    async def _close_for(self, error: BaseException) -> None:
        """Close the run because of a failure, which is raised later if this is cancelled."""
        try:
            await self.aclose()
        except asyncio.CancelledError:
            self._failure = error
            raise

    def check_unused(self) -> None:
        """Refuse a second consumer.

        Raises:
            InUseError: somebody waits for results.
            RuntimeError: the map was started on another event loop.
        """
        self.check_loop()
        self._ready.check_unused()

    @property
    def has_opened(self) -> bool:
        """Whether `next_value` has left results of a chunk."""
        return bool(self._opened)

    def take_opened(self) -> Any:
        """One of these results."""
        value = self._opened.popleft()
        if not self._opened:
            self.release(self._to_release)
        return value

    def abandon(self) -> None:
        """On any thread: nobody can ask for results any more."""
        if self._feed is not None and not self.is_finished and not self.is_closed:
            try:
                self._feed.loop.call_soon_threadsafe(self.cancel)
            except RuntimeError:
                pass  # the loop was closed, and all has ended

    async def give_way(self) -> None:
        """Give others on the event loop their turn, if they had none for a while.

        Raises:
            asyncio.CancelledError: the map was closed meanwhile.
        """
        if perf_counter() - self._turn > TURN:
            await asyncio.sleep(0)
            self._turn = perf_counter()
            self._check_open()

    def _check_open(self) -> None:
        if self.is_closed:
            raise asyncio.CancelledError("the map was closed")

    def release(self, count: int) -> None:
        """Note that the consumer got ``count`` results, which makes room for others."""
        self.delivered += count
        if self._feed is not None:
            self._feed.release(count)

    def cancel(self) -> None:
        """Cancel what is outstanding, and end a consumer's wait.  Idempotent."""
        self.is_closed = True
        self._opened.clear()
        self._chunks.clear()
        self._ready.set()
        if self._feed is not None:
            self._feed.stop()
        if self._reporter is not None:
            self._reporter.close()

    async def aclose(self) -> None:
        """Cancel what is outstanding, and wait until it has ended and the inputs are closed.

        Raises:
            Exception: an input raised it while it was being closed.
            RuntimeError: the map was started on another event loop.
        """
        if not self.is_closed:
            self.check_loop()
        self.cancel()
        if self._feed is not None:
            await self._feed.aclose()

    def _has_news(self) -> bool:
        assert self._feed is not None, "the run has started"
        return self._failure is not None or self.is_closed or self._has_done_chunk() or self._feed.is_done

    def _has_done_chunk(self) -> bool:
        return bool(self._chunks) and self._chunks[0].is_done

    def _next_chunk(self) -> Chunk:
        """The chunk to be opened; whoever raises its failure must not keep it, which would be a cycle."""
        chunk = self._chunks.popleft()
        if chunk.rest is not None and self._options.ordered:
            self._chunks.appendleft(chunk.rest)
        return chunk

    def _raise_failure(self) -> None:
        assert self._failure is not None, "there is one"
        try:
            raise self._failure
        finally:
            self._failure = None  # no cycle through its traceback

    def _open(self, chunk: Chunk) -> list[Any]:
        """The results of a chunk, up to the first failure that is to be raised after them."""
        values, self._failure = unpack(chunk, return_exceptions=self._options.return_exceptions)
        if self._failure is not None and self._feed is not None:
            self._feed.stop()
        return values

    def _on_done(self, chunk: Chunk | None) -> None:
        if chunk is not None and not self._options.ordered and not self.is_closed:
            self._chunks.append(chunk)
        if chunk is not None and self._reporter is not None and not self.is_closed and self._failure is None:
            try:
                self._reporter.add(len(chunk.rows), self.total)
            except Exception as error:
                self._failure = error
        self._ready.set()

    def _started_feed(self) -> Feed:
        self.check_loop()
        if self._feed is None:
            self._feed = self._context.run(self._start, asyncio.get_running_loop())
        return self._feed

    def check_loop(self) -> None:
        """Refuse to be used on another event loop than its worker's, or the one that it was started on.

        Raises:
            RuntimeError: so it is.
        """
        if self._feed is None:
            if (dispatcher := getattr(self._worker, "_dispatcher", None)) is not None:
                refuse_elsewhere(dispatcher)
        elif self._feed.loop is not (_get_running_loop() or self._feed.loop):
            raise RuntimeError(
                "this map belongs to another event loop; offloop.Executor works across threads"
            )

    def _start(self, loop: asyncio.AbstractEventLoop) -> Feed:
        options = self._options
        workers = _parallelism(self._worker)
        iterables = self._iterables
        self.total = known_length(iterables)
        if options.progress is not None:
            self._reporter = Reporter(options.progress, loop.time)
        feed = Feed(
            self._worker,
            functools.partial(CallableTask, run_star_chunk if self._star else run_chunk, self._fn),
            iterables,
            self._chunker(workers, may_bet=all(map(is_sliced, iterables))),
            slots=CHUNKS_PER_WORKER * workers,
            limit=options.buffersize,
            buffer=max(BUFFER, BUFFER_PER_WORKER * workers),
            timeout=options.timeout,
            on_sent=self._chunks.append if options.ordered else lambda _: None,
            on_done=self._on_done,
        )
        self._iterables = ()  # which are the feed's from now on
        return feed

    def _chunker(self, workers: int, *, may_bet: bool) -> Chunker:
        kind_of = getattr(self._worker, "_kind_of", None)
        kind: Kind = kind_of(self._fn) if kind_of is not None else Kind()
        if kind.past is None:
            kind.past = Past()
        return Chunker(
            workers,
            length=self.total,
            chunksize=self._options.chunksize if self._options.timeout in (None, math.inf) else 1,
            window=math.inf if self._options.buffersize is None else self._options.buffersize,
            may_bet=may_bet,
            past=kind.past,
        )


def _is_cancelled_itself(error: BaseException) -> bool:
    """Whether it is the caller's own task that this `asyncio.CancelledError` cancels."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _parallelism(worker: MapWorker) -> int:
    """How many tasks the worker runs at the same time."""
    return max(1, getattr(worker, "max_workers", 1) * getattr(worker, "concurrency", 1))
