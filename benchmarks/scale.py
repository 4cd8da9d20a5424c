"""P9: whether a task costs the same however many are queued, and however many workers there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from time import perf_counter

from benchmarks import peers
from benchmarks.model import Case, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import time_gather
from benchmarks.work import noop, noop_coro, stay

OURS = "offloop"
TASK = "create_task"
FEW = 1_000
#: Workers on a cluster.
FEW_THERE, MANY_THERE = 100, (1_000, 10_000)
#: Enough to show asyncio's growth, which levels off well before.
ASYNCIO_MOST = 200_000


def many(settings: Settings) -> int:
    """The long queue: a million, or 100,000 in a quick run."""
    return settings.size(1_000_000, 100_000)


@asynccontextmanager
async def queue_length(settings: Settings) -> AsyncIterator[Measure]:
    """Time a gather of 1,000 no-ops (the median of 20), and of 1,000,000, which are all queued at once."""
    async with peers.offloop(settings.workers) as call:

        async def measure() -> Sample:
            few = [await time_gather(call, noop, FEW) for _ in range(20)]
            return {"few": median(few), "many": await time_gather(call, noop, many(settings))}

        yield measure


@asynccontextmanager
async def create_task(settings: Settings) -> AsyncIterator[Measure]:
    """Time a gather of 1,000 and of up to 200,000 ``asyncio.create_task``: which growth is asyncio's own.

    Garbage collection makes any task dearer when many live; no goal refers to it.
    """
    long = min(many(settings), ASYNCIO_MOST)

    async def cost(count: int) -> float:
        began = perf_counter()
        await asyncio.gather(*[asyncio.create_task(noop_coro()) for _ in range(count)])
        return (perf_counter() - began) / count

    async def measure() -> Sample:
        return {"few": median([await cost(FEW) for _ in range(20)]), "many": await cost(long)}

    yield measure


@asynccontextmanager
async def pool_size(_settings: Settings, *, workers: int) -> AsyncIterator[Measure]:
    """Time a gather of 20,000 no-ops on a pool of which every worker runs already."""
    async with peers.offloop(workers) as call:
        stays = await asyncio.gather(*[call(stay, 1.0) for _ in range(workers)])
        assert len({pid for pid, _ in stays}) == workers

        async def measure() -> Sample:
            return {"cost": await time_gather(call, noop, 20_000)}

        yield measure


@asynccontextmanager
async def cluster_size(_settings: Settings, *, workers: int) -> AsyncIterator[Measure]:
    """Time a gather of 10,000 no-ops, and of one task of 0.2 s for each worker, on a cluster in memory.

    Of which all runs in this one process: the program's side as it is, and in
    place of an engine and its workers as little as can be; calls travel for 1 ms.
    """
    from benchmarks.simulated import Cluster
    from offloop import WorkerPool

    cluster = Cluster(latency=0.001)
    async with WorkerPool(workers, factory=cluster.factory(), min_workers=workers) as pool:
        while pool.idle_worker_count < workers:  # noqa: ASYNC110 - there is nothing that tells
            await asyncio.sleep(0.01)

        async def measure() -> Sample:
            cluster.seconds = float
            small = await time_gather(pool.submit, noop, 10_000)
            cluster.seconds = lambda: 0.2
            each = await time_gather(pool.submit, noop, workers)
            return {"cost": small, "each": max(each - 0.2 / workers, 0.0)}

        yield measure
        pool.kill()


def simulated(workers: int) -> str:
    """The name of such a contender."""
    return f"{workers:,} simulated"


def lines(results: Results) -> Sequence[Line]:
    """Long against short, many against few."""
    count = many(results.settings)
    tasks = min(count, ASYNCIO_MOST)
    return [
        Line(
            f"cost per task, {count:,} queued",
            (OURS, "many"),
            ("1,000 queued", (OURS, "few")),
            {f"{TASK} of {tasks:,}": (TASK, "many"), f"{TASK} of 1,000": (TASK, "few")},
            Goal(1.2),
        ),
        Line(
            "cost per task, 64 workers",
            ("64 workers", "cost"),
            ("2 workers", ("2 workers", "cost")),
            goal=Goal(1.2),
        ),
        *(
            Line(
                f"{what}, cluster of {count:,} workers",
                (simulated(count), metric),
                (f"{FEW_THERE} workers", (simulated(FEW_THERE), metric)),
            )
            for what, metric in [("cost per task", "cost"), ("a call for each task", "each")]
            for count in MANY_THERE
            if simulated(count) in results.samples or not results.settings.quick
        ),
    ]


CASE = Case(
    "P9",
    "cost per task at 1,000 and 1,000,000 queued; with 2 and 64 workers",
    [
        Contender(OURS, queue_length, warm=False),
        Contender(TASK, create_task, warm=False, optional=True),
        Contender("2 workers", partial(pool_size, workers=2)),
        Contender("64 workers", partial(pool_size, workers=64)),
        *(
            Contender(simulated(count), partial(cluster_size, workers=count), optional=count > 1_000)
            for count in (FEW_THERE, *MANY_THERE)
        ),
    ],
    lines,
)
