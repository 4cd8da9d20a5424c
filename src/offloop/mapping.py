"""`Map`: a function over iterables on many workers, as an async iterator or a list."""

from __future__ import annotations

import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Sequence,
)
from math import inf
from types import AsyncGeneratorType, TracebackType
from typing import Any, TypeVar, cast

from offloop.checks import as_int_or_none, check_seconds
from offloop.inputs import is_async
from offloop.mapfeed import MapWorker
from offloop.maprun import BLOCK, MapOptions, MapRun
from offloop.progress import ProgressBar, progress_bar
from offloop.reentry import InUseError

R = TypeVar("R")


class Map(AsyncIterator[R], Awaitable[list[R]]):
    """The results of a function over its inputs; what ``map`` returns.

    Iterate over it (``async for``) for the results one by one, or await it for
    their list.  Nothing is pulled from the inputs before that.  It has one
    consumer, and belongs to the event loop that it is first used on.

    Rows are sent in chunks, and a chunk is one task.  Without ``chunksize``
    their size follows measured durations: items that take 2.5 ms or longer go
    alone, unless ``fn`` itself takes long to send, and fast ones by up to 4,096 (1,024
    where they are more than numbers and short texts, and fewer where these take long to
    pickle, or results are large).
    Each result is as it was when its item returned.  An item that raises fails alone.
    If a chunk fails as a whole, since its worker died or a row in it could not be
    pickled, all of its items fail with that error, whose note names them: they may
    have run, and are not run again.

    Leaving early cancels what is outstanding and closes the inputs: async
    iterators with an ``aclose``, and generators.  ``aclose()``, ``async with`` and
    cancelling who awaits the map, or waits in ``async for``, do it at once, and wait
    until it is done.  ``break`` does it when the iterator is garbage-collected,
    which CPython does at once unless a variable holds it.

    If the worker ends meanwhile (or its lease), the map ends with `StatusError` or
    `WorkerKilled`, behind the results that there are; also while it waits for an async input.

    Args:
        worker: a worker or a pool, where chunks are enqueued.
        fn: called as ``fn(item)``, or ``fn(*items)`` for several iterables; a
            coroutine function or a generator function works as well.
        iterables: sync and async iterables, also side by side; the shortest ends them.
        ordered: results come in the order of the inputs; otherwise as completed.
        chunksize: items per chunk, at most ``buffersize``; by default it adapts.
        buffersize: most items that are pulled from the inputs and not yet handed
            to the consumer; results that wait behind a slow one count.  By default
            8,192, or 1,024 per worker, or four of their chunks for each worker, whatever
            is most; set it where items are large.
        timeout: seconds of running time an item may take; each is then a chunk of its own.
        return_exceptions: put failures in the place of results instead of raising
            the first one.  Those of inputs and ``progress`` are raised all the same,
            and so is `WorkerStartError`.
        progress: called with ``(done, total)`` as chunks finish, at most ten times a
            second and once at the end; ``total`` is None while it is not known.  It runs
            on the event loop, and what it raises ends the map.  True draws a bar.

    Raises:
        TypeError: ``fn`` is not callable, there is no iterable, or an argument has the wrong type.
        ValueError: a number is out of range, or ``timeout`` comes with chunks of several items.
        ImportError: ``progress=True`` without the extra ``offloop[cli]``.
    """

    def __init__(
        self,
        worker: MapWorker,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any] | AsyncIterable[Any]],
        *,
        ordered: bool = True,
        chunksize: int | None = None,
        buffersize: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: Callable[[int, int | None], object] | bool | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {type(fn).__name__}")
        if not iterables:
            raise TypeError("map() needs at least one iterable")
        for iterable in iterables:
            is_async(iterable)  # raises TypeError where it is neither
        chunksize = as_int_or_none("chunksize", chunksize, 1)
        buffersize = as_int_or_none("buffersize", buffersize, 1)
        if timeout is not None:
            timeout = check_seconds("timeout", timeout)
        if timeout not in (None, inf) and chunksize is not None and chunksize != 1:
            raise ValueError("timeout= counts the running time of one item; chunksize must be 1 or None")
        self._name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        self._options = MapOptions(
            ordered=ordered,
            chunksize=chunksize,
            buffersize=buffersize,
            timeout=timeout,
            return_exceptions=return_exceptions,
            progress=_progress_callback(progress, self._name),
        )
        self._run = MapRun(worker, fn, tuple(iterables), self._options)
        self._items: AsyncGeneratorType[R, None] = cast("Any", _iterate(self._run))
        self._is_awaited = self._is_iterated = False
        self._is_unused = True

    def __aiter__(self) -> AsyncIterator[R]:  # noqa: PYI034 -- it says why
        """The iterator over the results: the same one each time, until it is closed.

        It is an async generator, for speed (40 ns an item less than an
        ``__anext__`` in Python), and since event loops close those that are
        garbage-collected.

        Raises:
            RuntimeError: somebody waits for a result, or the map was started on another event loop.
        """
        self._run.check_unused()
        self._is_unused = False
        self._is_iterated = True
        if self._items.ag_frame is None and not self._run.is_closed:  # it was used where that is refused
            self._items = cast("Any", _iterate(self._run))
        return self._items

    async def __anext__(self) -> R:
        """The next result.

        Cancelling this call, as `asyncio.wait_for` does, loses none and ends nothing; once an
        ``async for`` over the map was begun, it ends the map as it would there.

        Raises:
            StopAsyncIteration: there are no more, or the map was closed.
            Exception: an item failed, or an input; the map is closed then.
            RuntimeError: somebody waits for a result, or the map was started on another event loop.
        """
        self._run.check_loop()
        self._is_unused = False
        if self._is_iterated and self._items.ag_frame is not None:  # which may hold results of a chunk
            return await self._items.__anext__()
        value: R = await self._run.next_value()
        return value

    def __await__(self) -> Generator[Any, None, list[R]]:
        """Wait for the list of all results, or of those that were not iterated over yet.

        Raises:
            RuntimeError: it was awaited before, somebody waits for a result, or it was started on another
                event loop.
        """
        self._run.check_unused()
        if self._is_awaited:
            raise RuntimeError("a map can be awaited only once")
        self._is_awaited = True
        self._is_unused = False
        return self._collect().__await__()

    async def aclose(self) -> None:
        """Cancel what is outstanding, and wait until it has ended and the inputs are closed.

        A consumer that waits for a result at this moment gets `asyncio.CancelledError`.
        Idempotent.

        Raises:
            Exception: an input raised it while it was being closed.
        """
        try:
            await self._run.aclose()
        finally:
            if not self._items.ag_running:
                await self._items.aclose()

    async def __aenter__(self) -> Map[R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _collect(self) -> list[R]:
        if self._run.is_started:  # the iterator may hold results of a chunk
            return [item async for item in self]
        return cast("list[R]", await _collect(self._run))

    def __del__(self) -> None:
        if self.__dict__.get("_is_unused") and not self._run.is_closed:
            text = f"a map of {self._name} was never awaited nor iterated over: nothing of it has run"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        elif not self.__dict__.get("_is_iterated", True):  # else its iterator hears of its own end
            self._run.abandon()

    def __repr__(self) -> str:
        run = self._run
        if run.is_finished:
            state = "finished"
        elif run.is_closed:
            state = "closed"
        else:
            state = "running" if run.is_started else "not started"
        total = "" if run.total is None else f" of {run.total}"
        order = "ordered" if self._options.ordered else "unordered"
        return (
            f"<Map {self._name} {state} {order} delivered={run.delivered}{total} in_flight={run.in_flight}>"
        )


# Neither of these two refers to the `Map`, so that it is freed, with what it
# holds, as soon as its user drops it.


async def _iterate(run: MapRun) -> AsyncGenerator[Any, None]:
    if run.has_ended():
        return
    try:
        while run.has_opened:
            yield run.take_opened()
        while (values := await run.next_values()) is not None:
            last = values.pop()
            for at in range(0, len(values), BLOCK):
                for value in values[at : at + BLOCK]:
                    yield value
                await run.give_way()
            run.release(len(values) + 1)  # before the last one, so that the next chunk is on its way
            yield last
    except InUseError:
        raise
    except BaseException:
        await run.aclose()
        raise
    await run.aclose()


async def _collect(run: MapRun) -> list[Any]:
    results: list[Any] = []
    try:
        while (values := await run.next_values()) is not None:
            results.extend(values)
            run.release(len(values))
    except GeneratorExit:  # the coroutine is being thrown away, and must not wait any more
        run.cancel()
        raise
    except InUseError:
        raise
    except BaseException:
        await run.aclose()
        raise
    await run.aclose()
    return results


def _progress_callback(
    progress: Callable[[int, int | None], object] | bool | None, title: str
) -> Callable[[int, int | None], object] | ProgressBar | None:
    if progress is None or progress is False:
        return None
    if progress is True:
        return progress_bar(title)
    if not callable(progress):
        raise TypeError(f"progress must be a callable, True or None, not {type(progress).__name__}")
    return progress
