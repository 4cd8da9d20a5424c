"""P8: how long the event loop keeps others waiting while a pool is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks import peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import quantile
from benchmarks.work import echo, length, make_array, make_list, noop

OURS = "offloop"
IDLE = "idle loop"
HEAVY = "heavy payloads"
#: Seconds.
GOAL = Goal(0.005, of_value=True)
EXECUTOR = "ProcessPoolExecutor"
#: Seconds that the probe sleeps.
NAP = 0.001
#: Seconds for which arrays move: enough for some hundred naps.
MOVING = 0.5
#: float64 items: 100 MB.
ITEMS = 12_500_000


async def probe(lags: list[float]) -> None:
    """Sleep for 1 ms again and again; note by how many seconds each sleep was longer than that."""
    while True:
        began = perf_counter()
        await asyncio.sleep(NAP)
        lags.append(perf_counter() - began - NAP)


async def lag_during(busy: Awaitable[object]) -> float:
    """The 99th percentile of the probe's overshoot, in seconds, while something is awaited.

    Nothing is subtracted, neither the timer's resolution nor an idle loop's lag.
    """
    lags: list[float] = []
    prober = asyncio.create_task(probe(lags))
    await asyncio.sleep(0)  # the probe's first sleep begins before the work
    await busy
    prober.cancel()
    return quantile(lags, 0.99)


@asynccontextmanager
async def busy(settings: Settings, *, opener: peers.Opener, full: int, quick: int) -> AsyncIterator[Measure]:
    """Probe the loop's lag while a pool works.

    ``tasks``: while the results of no-op tasks pour in, all submitted before
    the probe starts (submitting is the caller's own loop) and gathered.
    ``arrays``: while 100 MB arrays go to a worker and back, one after the other, for 0.5 s.

    Args:
        settings: of the run.
        opener: opens the pool.
        full: number of tasks.
        quick: the same, in a quick run.
    """
    count = settings.size(full, quick)
    array = make_array(ITEMS)
    async with opener(settings.workers) as call:

        async def move() -> None:
            end = perf_counter() + MOVING
            while perf_counter() < end:
                await call(echo, array)

        async def measure() -> Sample:
            gathered = asyncio.gather(*[call(noop) for _ in range(count)])
            return {"tasks": await lag_during(gathered), "arrays": await lag_during(move())}

        yield measure


@asynccontextmanager
async def map_busy(settings: Settings) -> AsyncIterator[Measure]:
    """Probe the loop's lag while ``async for`` goes over ``pool.map(echo, range(1_000_000))``."""
    from offloop import WorkerPool

    async with WorkerPool(settings.workers) as pool:

        async def measure() -> Sample:
            count = settings.size(1_000_000, 300_000)
            return {"map": await lag_during(_iterate(pool.map(echo, range(count))))}

        yield measure


@asynccontextmanager
async def heavy(settings: Settings) -> AsyncIterator[Measure]:
    """Probe the loop's lag while what takes long to pickle, to load or to copy is under way.

    ``lists``: results that are lists of 10,000 numbers, 1,000 of them.
    ``bytes``: 20 that are ``bytes`` of 20 MB.  ``rows``: a map over 1,000
    dictionaries of 1,000 items.
    """
    from offloop import WorkerPool

    rows = [dict.fromkeys(map(str, range(1_000)), number) for number in range(1_000)]
    async with WorkerPool(settings.workers) as pool:

        async def measure() -> Sample:
            lists = asyncio.gather(*[pool.submit(make_list, 10_000) for _ in range(1_000)])
            sample = {"lists": await lag_during(lists)}
            large = asyncio.gather(*[pool.submit(bytes, 20_000_000) for _ in range(20)])
            sample["bytes"] = await lag_during(large)
            sample["rows"] = await lag_during(_iterate(pool.map(length, rows)))
            return sample

        yield measure


async def _iterate(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


@asynccontextmanager
async def idle(_settings: Settings) -> AsyncIterator[Measure]:
    """Probe a loop that does nothing else for half a second."""

    async def measure() -> Sample:
        return {"idle": await lag_during(asyncio.sleep(0.5))}

    yield measure


PEERS = {EXECUTOR: partial(busy, opener=peers.process_pool_executor, full=5_000, quick=2_000)}


def lines(_results: Results) -> Sequence[Line]:
    """Absolute, with an idle loop's lag and the peers' beside it."""

    def line(what: str, ours: Cell, peers_metric: str | None = None, goal: Goal | None = GOAL) -> Line:
        others: dict[str, Cell] = {IDLE: (IDLE, "idle")}
        if peers_metric is not None:
            others |= {name: (name, peers_metric) for name in PEERS}
        return Line(what, ours, others=others, goal=goal)

    return [
        line("loop lag p99, results at full rate", (OURS, "tasks"), "tasks"),
        line("loop lag p99, map at full rate", (f"{OURS} map", "map")),
        line("loop lag p99, 100 MB arrays moving", (OURS, "arrays"), "arrays"),
        line("loop lag p99, lists of 10,000 numbers coming back", (HEAVY, "lists"), goal=None),
        line("loop lag p99, 20 MB of bytes coming back", (HEAVY, "bytes"), goal=None),
        line("loop lag p99, map over dictionaries of 1,000 items", (HEAVY, "rows"), goal=None),
    ]


CASE = Case(
    "P8",
    "event-loop lag while results pour in and while arrays move",
    [
        Contender(OURS, partial(busy, opener=peers.offloop, full=100_000, quick=50_000)),
        Contender(f"{OURS} map", map_busy),
        Contender(HEAVY, heavy),
        Contender(IDLE, idle),
        *(Contender(name, session, optional=True) for name, session in PEERS.items()),
    ],
    lines,
)
