"""A chunk of a map as its sender sees it: what it came to, and what its rows and results weigh."""

from __future__ import annotations

import asyncio
import pickle
import reprlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from offloop.child.chunk import is_light
from offloop.errors import WorkerStartError
from offloop.hiding import hides_arguments
from offloop.wire.exceptions import add_note

if TYPE_CHECKING:
    from offloop.child.keeping import Outcome

#: Parts of a container that are looked at.
PARTS = 8
#: So many of the first rows are looked at, as every tenth may be another one, and so many of all.
SAMPLE = 64
#: So many of the first rows, and so many of all, are pickled on trial; given up at so many bytes.
TRIED = 16
TRIAL = 1 << 16


class Chunk:
    """Some rows on their way through a worker.

    Attributes:
        start: the index of the first row within the map.
        rows: the rows, at least one.
        is_done: whether the worker has finished it.
        outcome: what came back, if it was not the chunk as a whole that failed.
        error: why it failed as a whole, or None.
        rest: the chunk that follows it in the place of rows that this one had before, or None.
        is_bet: whether its worker may give some of its rows back.
    """

    __slots__ = ("error", "is_bet", "is_done", "outcome", "rest", "rows", "start")

    def __init__(self, start: int, rows: Sequence[Any]) -> None:
        self.start = start
        self.rows = rows
        self.is_done = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.rest: Chunk | None = None
        self.is_bet = False

    def split(self, count: int) -> Chunk:
        """Keep ``count`` rows, fewer than there are; returns the chunk of the others."""
        others = Chunk(self.start + count, self.rows[count:])
        others.rest, self.rest = self.rest, others
        self.rows = self.rows[:count]
        return others

    def finish(self, execution: asyncio.Future[Any]) -> Chunk | None:
        """Keep what the execution came to; returns the rows that were not begun, if there are any."""
        self.is_done = True
        if execution.cancelled():
            self.error = asyncio.CancelledError()
        else:
            self.error = execution.exception()
            if self.error is None:
                self.outcome = outcome = cast("Outcome", execution.result())
                if len(outcome[1]) < len(self.rows):
                    return self.split(len(outcome[1]))
        return None


def unpack(chunk: Chunk, *, return_exceptions: bool) -> tuple[list[Any], BaseException | None]:
    """The results of a chunk that is done, and the failure to raise after them.

    Failures get a note that says which item they belong to.  Nobody knows
    which item of a chunk was running when its worker died, or could not be
    pickled: then all of them fail, and the note says so.
    """
    error = chunk.error
    if error is not None:
        add_note(error, _describe(chunk, 0, len(chunk.rows) - 1))
        if isinstance(error, WorkerStartError):  # no item's failure; the next ones would be tried, too
            return [], error
        return ([error] * len(chunk.rows), None) if return_exceptions else ([], error)
    assert chunk.outcome is not None, "the chunk is done"
    _, values, failures = chunk.outcome
    for index, error in sorted(failures.errors.items()) if failures is not None else ():
        add_note(error, _describe(chunk, index, index))
        if not return_exceptions:
            return values[:index], error
        values[index] = error
    return values, None


def _describe(chunk: Chunk, first: int, last: int) -> str:
    if first == last:
        where, text = f"item {chunk.start + first} of map", _short(chunk.rows[first])
    else:
        where = f"one of items {chunk.start + first} to {chunk.start + last} of map"
        text = f"{_short(chunk.rows[first])} to {_short(chunk.rows[last])}"
    return where if hides_arguments() else f"{where}: {text}"


def _short(item: object) -> str:
    """A short text for a row; it never raises, whatever the row's ``repr`` does."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    try:
        return shortener.repr(item)
    except BaseException:  # user code: it may exit
        return f"<{type.__getattribute__(type(item), '__name__')}>"


def are_light(rows: Sequence[Any]) -> bool:
    """Whether rows take next to no time to pickle, as far as a sample tells."""
    if type(rows) is range:
        return True
    step = max(1, len(rows) // SAMPLE)
    return all(map(is_light, rows[:SAMPLE])) and all(map(is_light, rows[::step]))


def seconds_to_pickle(rows: Sequence[Any]) -> float | None:
    """About how long it takes to pickle rows, from a trial of some; None where that is long, or fails."""
    sample = rows
    if len(rows) > 2 * TRIED:
        sample = [*rows[:TRIED], *rows[TRIED :: len(rows) // TRIED]]
    trial = _Trial()
    began = time.perf_counter()
    try:
        pickle.Pickler(trial, 5, buffer_callback=trial.lend).dump(sample)
    except Exception:
        return None
    return (time.perf_counter() - began) / len(sample) * len(rows)


class _Trial:
    """A file for no more than `TRIAL` bytes, those of buffers counted."""

    def __init__(self) -> None:
        self._left = TRIAL

    def write(self, data: bytes) -> None:
        self._take(len(data))

    def lend(self, buffer: pickle.PickleBuffer) -> None:
        self._take(buffer.raw().nbytes)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise OverflowError


def weight_of(value: object, depth: int = 2) -> int:
    """About how many bytes an array, a text or whatever lends its memory has, or a container of some."""
    if type(value) is str:
        return len(value)
    if depth and (type(value) is list or type(value) is tuple):
        parts = cast("Sequence[object]", value)
        seen = parts[:PARTS]
        return sum(weight_of(part, depth - 1) for part in seen) * len(parts) // max(1, len(seen))
    if depth and type(value) is dict:
        return weight_of([*cast("dict[object, object]", value).values()], depth - 1)
    try:
        with memoryview(value) as view:  # type: ignore[arg-type]  # whether it can is the question
            return view.nbytes
    except Exception:
        return 0
