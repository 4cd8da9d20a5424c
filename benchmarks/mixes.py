"""MIX: other tasks than the goals name: of other sizes, that fail, that take a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import peers
from benchmarks.model import Case, Cell, Contender, Line, Measure, Results, Sample, Settings
from benchmarks.work import burn, by_value, echo, fail, length, make_array, negative, noop

OURS = "offloop"
EXECUTOR = "ProcessPoolExecutor"
MAP_OF_EXECUTOR = "a map of ProcessPoolExecutor"
MAP, LARGE, MANY, ANEW = "a map", "large arrays", "many large arrays", "functions made anew"
#: float64 items of a medium array (100 KB), and of a huge one (400 MB).
MEDIUM, HUGE = 12_500, 50_000_000
#: float64 items of a large array (20 MB), and how many tasks take one.
LONG, TASKS = 2_500_000, 40
#: Bytes of a text that goes through the socket.
TEXT = 20_000
#: Items of a short map.
SHORT = 300


@asynccontextmanager
async def mixes(settings: Settings, *, opener: peers.Opener) -> AsyncIterator[Measure]:
    """Time gathers of tasks, each per task, on a warm pool.

    ``fails``: 1,000 tasks that raise.  ``argument``: 500 that take an array of
    100 KB and return a number.  ``changed``: 500 that return another array.
    ``text``: 500 that return the text of 20 KB that they take; ``in turn``: 200
    of these, one after the other.
    ``1 ms``, ``20 ms``: 1 s of CPU time in such tasks.

    Args:
        settings: of the run.
        opener: opens the pool.
    """
    array, text = make_array(MEDIUM), "x" * TEXT
    async with opener(settings.workers) as call:

        async def gather(function: Any, argument: Any, count: int) -> float:
            began = perf_counter()
            await asyncio.gather(*[call(function, argument) for _ in range(count)], return_exceptions=True)
            return (perf_counter() - began) / count

        async def in_turn(function: Any, argument: Any, count: int) -> float:
            began = perf_counter()
            for _ in range(count):
                await call(function, argument)
            return (perf_counter() - began) / count

        async def measure() -> Sample:
            return {
                "text": await gather(echo, text, 500),
                "in turn": await in_turn(echo, text, 200),
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
async def many_large(settings: Settings) -> AsyncIterator[Measure]:
    """Time 40 tasks that take an array of 20 MB, per task: one after the other, and all in a gather."""
    array = make_array(LONG)
    async with peers.offloop(settings.workers) as call:
        await asyncio.gather(*[call(length, "short") for _ in range(100)])

        async def measure() -> Sample:
            began = perf_counter()
            for _ in range(TASKS):
                await call(length, array)
            in_turn = perf_counter() - began
            began = perf_counter()
            await asyncio.gather(*[call(length, array) for _ in range(TASKS)])
            return {"in turn": in_turn / TASKS, "gathered": (perf_counter() - began) / TASKS}

        yield measure


@asynccontextmanager
async def mapped(settings: Settings) -> AsyncIterator[Measure]:
    """Time a map over 1,000 items of 1 ms of CPU time, per item, and short maps of no-ops."""
    from offloop import WorkerPool

    async with WorkerPool(settings.workers) as pool:

        async def time_map(function: Any, items: Any) -> float:
            began = perf_counter()
            await pool.map(function, items)
            return perf_counter() - began

        async def measure() -> Sample:
            return {
                "item": await time_map(burn, [0.001] * 1_000) / 1_000,
                "short": median([await time_map(echo, range(SHORT)) for _ in range(11)]),
            }

        yield measure


@asynccontextmanager
async def mapped_by_executor(settings: Settings) -> AsyncIterator[Measure]:
    """Time the same short maps, in chunks of an eighth."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(settings.workers) as executor:

        async def measure() -> Sample:
            seconds: list[float] = []
            for _ in range(11):
                began = perf_counter()
                list(executor.map(echo, range(SHORT), chunksize=-(-SHORT // 8)))
                seconds.append(perf_counter() - began)
            return {"short": median(seconds)}

        yield measure


@asynccontextmanager
async def made_anew(settings: Settings) -> AsyncIterator[Measure]:
    """Time gathers of 2,000 lambdas, per task: of one, of many alike, of many that captured a number.

    And of one that captured a dictionary, which may change from task to task.

    Others can't send them.
    """
    table = {"one": 1, "two": 2}
    async with peers.offloop(settings.workers) as call:

        async def gather(functions: list[Any]) -> float:
            began = perf_counter()
            await asyncio.gather(*map(call, functions))
            return (perf_counter() - began) / len(functions)

        async def measure() -> Sample:
            return {
                "one": await gather([by_value(noop)] * 2_000),
                "alike": await gather([lambda: None for _ in range(2_000)]),
                "captured": await gather([lambda n=n: n for n in range(2_000)]),
                "changing": await gather([lambda: table["one"]] * 2_000),
            }

        yield measure


def lines(_results: Results) -> Sequence[Line]:
    """Against the standard pool."""

    def line(what: str, metric: str) -> Line:
        return Line(what, (OURS, metric), (EXECUTOR, (EXECUTOR, metric)))

    one: tuple[str, Cell] = ("one function", (ANEW, "one"))
    return [
        line("a task that raises", "fails"),
        line("a text of 20 KB there and back", "text"),
        line("the same, one after the other", "in turn"),
        Line("a lambda made for each task", (ANEW, "alike"), one),
        Line("one that captured something", (ANEW, "captured"), one),
        Line("a lambda that uses a dictionary", (ANEW, "changing"), one),
        line("an array of 100 KB there", "argument"),
        line("an array of 100 KB there, another one back", "changed"),
        line("a task of 1 ms of CPU", "1 ms"),
        line("a task of 20 ms of CPU", "20 ms"),
        Line("an item of 1 ms of CPU, of a map", (MAP, "item"), (EXECUTOR, (EXECUTOR, "1 ms"))),
        Line(f"a map over {SHORT} no-ops", (MAP, "short"), (EXECUTOR, (MAP_OF_EXECUTOR, "short"))),
        Line("an array of 400 MB there and back", (LARGE, "moved"), ("a copy of it", (LARGE, "copied"))),
        Line(
            "an array of 20 MB for each of 40 tasks",
            (MANY, "gathered"),
            ("one after the other", (MANY, "in turn")),
        ),
    ]


CASE = Case(
    "MIX",
    "other tasks than the goals name, per task",
    [
        Contender(OURS, partial(mixes, opener=peers.offloop)),
        Contender(EXECUTOR, partial(mixes, opener=peers.process_pool_executor)),
        Contender(MAP, mapped),
        Contender(MAP_OF_EXECUTOR, mapped_by_executor),
        Contender(ANEW, made_anew),
        Contender(LARGE, large),
        Contender(MANY, many_large),
    ],
    lines,
)
