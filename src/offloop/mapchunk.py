"""A chunk of a map as its sender sees it, and what its rows and results weigh."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from offloop.child.chunk import is_light

if TYPE_CHECKING:
    from offloop.child.keeping import Outcome

#: Parts of a container that are looked at.
PARTS = 8
#: Rows that are looked at, if there are so many.
SAMPLE = 256


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


def are_light(rows: Sequence[Any]) -> bool:
    """Whether rows take next to no time to pickle, as far as a sample tells."""
    return type(rows) is range or all(map(is_light, rows[:: max(1, len(rows) // SAMPLE)]))


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
