"""MIX: other tasks than the goals name: of other sizes, that fail, that take a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks import peers
from benchmarks.model import Case, Contender, Line, Measure, Results, Sample, Settings
from benchmarks.work import burn, echo, fail, length, make_array, negative

OURS = "offloop"
EXECUTOR = "ProcessPoolExecutor"
MAP, LARGE = "a map", "large arrays"
#: float64 items of a medium array (100 KB), and of a huge one (400 MB).
MEDIUM, HUGE = 12_500, 50_000_000


@asynccontextmanager
async def mixes(settings: Settings, *, opener: peers.Opener) -> AsyncIterator[Measure]:
    """Time gathers of tasks, each per task, on a warm pool.

    ``fails``: 1,000 tasks that raise.  ``argument``: 500 that take an array of
    100 KB and return a number.  ``changed``: 500 that return another array.
    ``1 ms``, ``20 ms``: 1 s of CPU time in such tasks.

    Args:
        settings: of the run.
        opener: opens the pool.
    """
    array = make_array(MEDIUM)
    async with opener(settings.workers) as call:

        async def gather(function: Any, argument: Any, count: int) -> float:
            began = perf_counter()
            await asyncio.gather(*[call(function, argument) for _ in range(count)], return_exceptions=True)
            return (perf_counter() - began) / count

        async def measure() -> Sample:
            return {
                "fails": await gather(fail, 1, 1_000),
                "argument": await gather(length, array, 500),
                "changed": await gather(negative, array, 500),
                "1 ms": await gather(burn, 0.001, 1_000),
                "20 ms": await gather(burn, 0.02, 50),
            }

        yield measure


@asynccontextmanager
async def large(settings: Settings) -> AsyncIterator[Measure]:
    """Time an array of 400 MB there and back, the second of two in a row, and a copy of it to warm memory."""
    import numpy

    source = make_array(HUGE)
    target = source.copy()
    async with peers.offloop(settings.workers) as call:

        async def measure() -> Sample:
            await call(echo, source)
            began = perf_counter()
            await call(echo, source)
            moved = perf_counter()
            numpy.copyto(target, source)
            return {"moved": moved - began, "copied": perf_counter() - moved}

        yield measure


@asynccontextmanager
async def mapped(settings: Settings) -> AsyncIterator[Measure]:
    """Time a map over 1,000 items of 1 ms of CPU time, per item."""
    from offloop import WorkerPool

    async with WorkerPool(settings.workers) as pool:

        async def measure() -> Sample:
            began = perf_counter()
            await pool.map(burn, [0.001] * 1_000)
            return {"item": (perf_counter() - began) / 1_000}

        yield measure


def lines(_results: Results) -> Sequence[Line]:
    """Against the standard pool."""

    def line(what: str, metric: str) -> Line:
        return Line(what, (OURS, metric), (EXECUTOR, (EXECUTOR, metric)))

    return [
        line("a task that raises", "fails"),
        line("an array of 100 KB there", "argument"),
        line("an array of 100 KB there, another one back", "changed"),
        line("a task of 1 ms of CPU", "1 ms"),
        line("a task of 20 ms of CPU", "20 ms"),
        Line("an item of 1 ms of CPU, of a map", (MAP, "item"), (EXECUTOR, (EXECUTOR, "1 ms"))),
        Line("an array of 400 MB there and back", (LARGE, "moved"), ("a copy of it", (LARGE, "copied"))),
    ]


CASE = Case(
    "MIX",
    "other tasks than the goals name, per task",
    [
        Contender(OURS, partial(mixes, opener=peers.offloop)),
        Contender(EXECUTOR, partial(mixes, opener=peers.process_pool_executor)),
        Contender(MAP, mapped),
        Contender(LARGE, large),
    ],
    lines,
)
