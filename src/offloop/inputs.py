"""The inputs of a `map`: sync and async iterables, alone or side by side."""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from time import perf_counter
from typing import Any, TypeAlias

from offloop.changes import Signal
from offloop.scheduling.chunking import TURN

#: What was raised, or nothing.  It is popped to be raised, as a cycle through its traceback would keep it.
Failure: TypeAlias = list[BaseException]


def failure_of(task: asyncio.Task[None]) -> Failure:
    """What a task that is done has raised."""
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    return [error] if error is not None else []


def is_cancelled(failure: Failure) -> bool:
    """Whether the task was cancelled."""
    return any(isinstance(error, asyncio.CancelledError) for error in failure)


def is_async(iterable: object) -> bool:
    """Whether ``iterable`` has to be read with ``async for``.

    Raises:
        TypeError: it cannot be iterated over at all.
    """
    kind = type(iterable)
    if hasattr(kind, "__aiter__"):
        return True
    if hasattr(kind, "__iter__") or hasattr(kind, "__getitem__"):
        return False
    raise TypeError(f"map() needs iterables or async iterables, not {kind.__name__}")


def known_length(iterables: Sequence[object]) -> int | None:
    """How many rows the iterables have side by side, or None if that is not known."""
    lengths: list[int] = []
    for iterable in iterables:
        if _is_endless(iterable):
            continue
        try:
            lengths.append(len(iterable))  # type: ignore[arg-type]  # whether it has one is the question
        except Exception:
            return None
    return min(lengths, default=None)


def _is_endless(iterable: object) -> bool:
    """Whether it is one of the standard library's infinite iterators, which never end a map."""
    kind: type[Any] = type(iterable)
    return kind is itertools.count or (kind is itertools.repeat and operator.length_hint(iterable, -1) == -1)


def is_sliced(iterable: object) -> bool:
    """Whether it is cut rather than iterated over: rows cost nothing to pull, and nothing goes wrong with it.

    Parts of a range are ranges, pickled and loaded in no time.
    """
    kind = type(iterable)
    return kind is list or kind is tuple or kind is range


class SyncInput:
    """One or more sync iterables, read a chunk at a time.

    Args:
        iterables: what to read; rows of several are tuples, and the shortest ends them.
    """

    def __init__(self, iterables: Sequence[Iterable[Any]]) -> None:
        self._iterables = iterables
        self._iterators: list[Iterator[Any]] = []
        self._rows: Iterator[Any] | None = None
        self._whole: Any = iterables[0] if len(iterables) == 1 and is_sliced(iterables[0]) else None
        self._taken = 0  # of the whole
        self._ahead: list[Any] = []  # rows read and not taken yet
        #: How many rows were read, of those that are read one by one.
        self.read = 0
        self._error: BaseException | None = None  # that ended it behind them
        self._is_at_end = False

    def take(self, size: int) -> tuple[Sequence[Any], BaseException | None]:
        """The next ``size`` rows.

        Returns:
            The rows, fewer only at the end of the input, and the exception
            that ended it, or None.  Rows before an exception are not lost.
        """
        if self._whole is not None:
            part: Sequence[Any] = self._whole[self._taken : self._taken + size]
            self._taken += len(part)
            return part, None
        self._read(size - len(self._ahead))
        rows = self._ahead[:size]
        del self._ahead[:size]
        if self._error is not None and not isinstance(self._error, Exception):
            self._ahead.clear()  # a Ctrl-C does not wait until all that was read has been sent
        if self._ahead:
            return rows, None
        error, self._error = self._error, None  # no cycle through its traceback
        return rows, error

    def left(self, most: int, step: int, until: float) -> int | None:
        """How many rows are left, if they are fewer than ``most``, and that is known.

        Args:
            most: so many rows are read ahead to find out, at most.
            step: so many at a time.
            until: no more than one step is read after that, by `time.perf_counter`.
        """
        while len(self._ahead) < most and not self._is_at_end:
            self._read(min(step, most - len(self._ahead)))
            if perf_counter() > until:
                break
        return len(self._ahead) if self._is_at_end else None

    def _read(self, count: int) -> None:
        """Read so many rows more, as far as there are any."""
        if count <= 0 or self._is_at_end:
            return
        before = len(self._ahead)
        try:
            if self._rows is None:
                self._rows = self._open()
            self._ahead.extend(itertools.islice(self._rows, count))
            self._is_at_end = len(self._ahead) < before + count
        except BaseException as error:
            self._error, self._is_at_end = error, True
        self.read += len(self._ahead) - before

    def _open(self) -> Iterator[Any]:
        for iterable in self._iterables:
            self._iterators.append(iter(iterable))
        return self._iterators[0] if len(self._iterators) == 1 else zip(*self._iterators, strict=False)

    def close(self) -> None:
        """Close the generators among the inputs; raises what one of them raises."""
        self._error = None  # no cycle through its traceback
        _close_generators(self._iterators)


class AsyncInput:
    """Iterables of which at least one is async, read row by row ahead of who takes the rows.

    Args:
        iterables: what to read, as of `read_rows`.
        has_room: whether one more row may be read.
        on_row: called when a row was read.
        on_end: called when all were read, or `aclose` has ended the reading.

    Attributes:
        rows: those that were read and not taken yet.
        reader: the task that reads them; None once it is done, as what it raises refers to its frames, and
            these to us.
    """

    def __init__(
        self,
        iterables: Sequence[Any],
        has_room: Callable[[], bool],
        on_row: Callable[[], object],
        on_end: Callable[[], object],
    ) -> None:
        self.rows: list[Any] = []
        self._room = Signal()
        self._is_stopped = self._is_leaving = False
        self._failure: Failure = []
        reading = self._read(iterables, has_room, on_row)
        self.reader: asyncio.Task[None] | None = asyncio.create_task(reading, name="offloop map input")
        self.reader.add_done_callback(self._on_done)
        self.reader.add_done_callback(lambda _: on_end())

    @property
    def is_done(self) -> bool:
        """Whether all rows were read and taken."""
        return self.reader is None and not self.rows

    def read_on(self) -> None:
        """There may be room."""
        self._room.set()

    def stop(self) -> None:
        """Read no more, and let go of what was read."""
        self._is_stopped = True
        self.rows.clear()

    async def aclose(self) -> None:
        """Stop, and wait until the inputs are closed; raises what they raise."""
        self.stop()
        has_ended = self.reader is None or self.reader.done()
        if self.reader is not None:
            if not self._is_leaving:
                self.reader.cancel()
            await asyncio.wait([self.reader])
        if self._failure and (has_ended or not is_cancelled(self._failure)):
            raise self._failure.pop()

    async def _read(
        self, iterables: Sequence[Any], has_room: Callable[[], bool], on_row: Callable[[], object]
    ) -> None:
        turn = perf_counter()
        async with aclosing(read_rows(iterables)) as rows:
            async for row in rows:
                if self._is_stopped:  # it woke up before it was cancelled, or the input swallowed that
                    self._is_leaving = True  # a cancellation would cut the input's clean-up short
                    return
                self.rows.append(row)
                on_row()
                if not has_room():
                    await self._room.wait_until(has_room)
                if perf_counter() - turn > TURN:
                    await asyncio.sleep(0)
                    turn = perf_counter()

    def _on_done(self, reader: asyncio.Task[None]) -> None:
        self.reader, self._failure = None, failure_of(reader)


async def read_rows(iterables: Sequence[Any]) -> AsyncGenerator[Any, None]:
    """The rows of iterables of which at least one is async; the shortest ends them.

    On leaving, async iterators are closed, as far as they can be, and so are
    sync generators.
    """
    iterators: list[Any] = []
    try:
        # One that raises here leaves those before it in the list, to be closed.
        iterators.extend(aiter(each) if is_async(each) else iter(each) for each in iterables)
        only = iterators[0] if len(iterators) == 1 else None
        while True:
            try:
                row = await (anext(only) if only is not None else _next_row(iterators))
            except StopAsyncIteration:
                return
            yield row
    finally:
        await _close(iterators)


async def _next_row(iterators: list[Any]) -> tuple[Any, ...]:
    row: list[Any] = []
    for iterator in iterators:
        if hasattr(iterator, "__anext__"):
            row.append(await anext(iterator))
        else:
            try:
                row.append(next(iterator))
            except StopIteration:
                raise StopAsyncIteration from None
    return tuple(row)


async def _close(iterators: list[Any]) -> None:
    async with AsyncExitStack() as closing:  # each of them, whatever another one raises
        for iterator in reversed(iterators):
            if hasattr(iterator, "aclose"):
                closing.push_async_callback(iterator.aclose)
        closing.callback(_close_generators, iterators)


def _close_generators(iterators: Sequence[Any]) -> None:
    # Generators only: a file has a `close` too, and is its owner's to close.
    with ExitStack() as closing:
        for iterator in reversed(iterators):
            if isinstance(iterator, Generator):
                closing.callback(iterator.close)  # pyright: ignore[reportUnknownMemberType] -- of unknown item types
