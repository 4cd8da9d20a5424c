"""A chunk of a map as its sender sees it, and what its rows and results weigh."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from offloop.child.chunk import Outcome, is_light
from offloop.inputs import SLICED

#: Rows that are looked at for how dear they are to pickle.
SAMPLE = 16


class Chunk:
    """Some rows on their way through a worker.

    Attributes:
        start: the index of the first row within the map.
        rows: the rows, at least one.
        is_done: whether the worker has finished it.
        outcome: what came back, if it was not the chunk as a whole that failed.
        error: why it failed as a whole, or None.
        rest: the chunk that follows it in the place of rows that this one had before, or None.
    """

    __slots__ = ("error", "is_done", "outcome", "rest", "rows", "start")

    def __init__(self, start: int, rows: Sequence[Any]) -> None:
        self.start = start
        self.rows = rows
        self.is_done = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.rest: Chunk | None = None

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


def are_light(iterables: Sequence[Any]) -> bool:
    """Whether rows take next to no time to pull and to pickle, as far as the first ones tell."""
    return all(
        type(each) is range or (type(each) in SLICED and all(map(is_light, each[:SAMPLE])))
        for each in iterables
    )


def weight_of(value: object) -> int:
    """The bytes of an array, or of whatever else lends its memory; of others 0."""
    try:
        with memoryview(value) as view:  # type: ignore[arg-type]  # whether it can is the question
            return view.nbytes
    except Exception:
        return 0
