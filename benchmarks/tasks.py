"""P1: what a task costs when many are submitted at once and gathered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks import peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import time_gather, time_gather_ints
from benchmarks.work import by_value, echo, echo_coro, noop, noop_coro

OURS = "offloop"
TASK = "create_task"
EXECUTOR = "ProcessPoolExecutor"


@asynccontextmanager
async def submit(
    settings: Settings, *, opener: peers.Opener, full: int, quick: int, local: bool = False
) -> AsyncIterator[Measure]:
    """Time a gather of ``full`` no-op calls, and one of calls that take an int and return it.

    The clock runs from the first submit to the last result; the pool is warm.
    Slow peers get fewer tasks: the cost per task is what is compared.

    Args:
        settings: of the run.
        opener: opens the pool.
        full: number of tasks.
        quick: the same, in a quick run.
        local: the functions travel by value, as if they were defined in ``__main__``.
    """
    nothing, same = (by_value(noop), by_value(echo)) if local else (noop, echo)
    count = settings.size(full, quick)
    async with opener(settings.workers) as call:
        await time_gather(call, nothing, 100)
        await time_gather_ints(call, same, 100)

        async def measure() -> Sample:
            return {
                "noop": await time_gather(call, nothing, count),
                "int": await time_gather_ints(call, same, count),
            }

        yield measure


@asynccontextmanager
async def create_task(_settings: Settings) -> AsyncIterator[Measure]:
    """Time a gather of 20,000 ``asyncio.create_task`` of a no-op coroutine: the limit set by asyncio."""
    count = 20_000

    async def measure() -> Sample:
        began = perf_counter()
        await asyncio.gather(*[asyncio.create_task(noop_coro()) for _ in range(count)])
        nothing = perf_counter() - began
        began = perf_counter()
        await asyncio.gather(*[asyncio.create_task(echo_coro(number)) for number in range(count)])
        return {"noop": nothing / count, "int": (perf_counter() - began) / count}

    yield measure


PEERS = {
    EXECUTOR: partial(submit, opener=peers.process_pool_executor, full=2_000, quick=1_000),
    "loky": partial(submit, opener=peers.loky, full=1_000, quick=500),
    "pebble": partial(submit, opener=peers.pebble, full=1_000, quick=500),
    "anyio": partial(submit, opener=peers.anyio, full=1_000, quick=500),
    "aiomultiprocess": partial(submit, opener=peers.aiomultiprocess, full=2_000, quick=1_000),
}
#: These wake up regularly even when idle.
RESTLESS = {"pebble", "aiomultiprocess"}


def lines(_results: Results) -> Sequence[Line]:
    """Against asyncio's own tasks, against the standard pool, and variants."""
    noops: dict[str, Cell] = {name: (name, "noop") for name in PEERS}
    ints: dict[str, Cell] = {name: (name, "int") for name in PEERS}
    return [
        Line("no-op submits gathered, per task", (OURS, "noop"), (TASK, (TASK, "noop")), noops, Goal(1.0)),
        Line(
            "their rate, times that of the executor",
            (OURS, "noop"),
            (EXECUTOR, noops[EXECUTOR]),
            goal=Goal(20.0, at_least=True),
            unit="/s",
            inverse=True,
        ),
        Line("with an int argument and result", (OURS, "int"), (TASK, (TASK, "int")), ints),
        Line("no-op defined in __main__", (f"{OURS} by value", "noop"), (TASK, (TASK, "noop"))),
    ]


CASE = Case(
    "P1",
    "cost per task of gather over 20,000 no-op submits",
    [
        Contender(OURS, partial(submit, opener=peers.offloop, full=20_000, quick=20_000)),
        Contender(TASK, create_task),
        Contender(
            f"{OURS} by value", partial(submit, opener=peers.offloop, full=20_000, quick=20_000, local=True)
        ),
        *(
            Contender(name, session, name in RESTLESS, name not in RESTLESS, optional=name != EXECUTOR)
            for name, session in PEERS.items()
        ),
    ],
    lines,
)
