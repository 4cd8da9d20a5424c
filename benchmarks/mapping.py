"""P4: map of a no-op over 200,000 ints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks.model import (
    Case,
    Cell,
    Contender,
    Goal,
    Line,
    Measure,
    Results,
    Sample,
    Session,
    Settings,
    fastest,
)
from benchmarks.work import by_value, echo, echo_coro

OURS = "offloop"
ITEMS = 200_000
CHUNKS = (100, 1_000, 4_000)


@asynccontextmanager
async def ours(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``await pool.map(echo, range(200_000))`` until the list is there, no chunk size given.

    Also as ``async for`` over the results, in input order and as completed, and
    with a function that is defined in ``__main__``.
    """
    from offloop import WorkerPool

    local = by_value(echo)
    async with WorkerPool(settings.workers) as pool:

        async def iterate(**options: Any) -> list[Any]:
            return [item async for item in pool.map(echo, range(ITEMS), **options)]

        async def measure() -> Sample:
            return {
                "list": await _time(lambda: pool.map(echo, range(ITEMS))),
                "iterated": await _time(iterate),
                "unordered": await _time(partial(iterate, ordered=False)),
                "by value": await _time(lambda: pool.map(local, range(ITEMS))),
            }

        yield measure


async def _time(run: Callable[[], Awaitable[list[Any]]]) -> float:
    began = perf_counter()
    results = await run()
    seconds = (perf_counter() - began) / ITEMS
    assert len(results) == ITEMS
    return seconds


def _time_chunks(run: Callable[[int], Any], chunks: Sequence[int] = CHUNKS) -> Sample:
    """Seconds per item with each chunk size, until all results are in a list."""
    sample = {}
    for chunk in chunks:
        began = perf_counter()
        results = list(run(chunk))
        sample[f"chunks of {chunk}"] = (perf_counter() - began) / ITEMS
        assert len(results) == ITEMS
    return sample


@asynccontextmanager
async def process_pool_executor(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``list(executor.map(echo, range(200_000), chunksize=n))``."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(settings.workers) as executor:

        async def measure() -> Sample:
            return _time_chunks(lambda chunk: executor.map(echo, range(ITEMS), chunksize=chunk))

        yield measure


@asynccontextmanager
async def multiprocessing_pool(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``pool.map(echo, range(200_000), n)``."""
    from multiprocessing import Pool

    with Pool(settings.workers) as pool:

        async def measure() -> Sample:
            return _time_chunks(lambda chunk: pool.map(echo, range(ITEMS), chunk))

        yield measure


@asynccontextmanager
async def loky(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``list(executor.map(echo, range(200_000), chunksize=n))``."""
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(settings.workers) as executor:

        async def measure() -> Sample:
            return _time_chunks(lambda chunk: executor.map(echo, range(ITEMS), chunksize=chunk))

        yield measure


@asynccontextmanager
async def mpire(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``pool.map(echo, range(200_000), chunk_size=n)`` on workers that are kept alive."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=settings.workers, keep_alive=True) as pool:
        pool.map(echo, range(100))  # starts its workers

        async def measure() -> Sample:
            return _time_chunks(
                lambda chunk: pool.map(echo, range(ITEMS), iterable_len=ITEMS, chunk_size=chunk)
            )

        yield measure


@asynccontextmanager
async def joblib(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``parallel(delayed(echo)(i) for i in range(200_000))`` with batches of n."""
    from joblib import Parallel, delayed

    call = delayed(echo)

    async def measure() -> Sample:
        sample: Sample = {}
        for chunk in CHUNKS:
            with Parallel(n_jobs=settings.workers, batch_size=chunk, pre_dispatch="all") as parallel:
                sample |= _time_chunks(lambda _: parallel(call(item) for item in range(ITEMS)), [chunk])
        return sample

    yield measure


@asynccontextmanager
async def aiomultiprocess(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``await pool.map(echo_coro, range(5_000))``; it knows no chunks, so that fewer items suffice."""
    from aiomultiprocess import Pool

    count = settings.size(5_000, 2_000)
    async with Pool(processes=settings.workers) as pool:
        await pool.map(echo_coro, range(100))

        async def measure() -> Sample:
            began = perf_counter()
            results = await pool.map(echo_coro, range(count))
            assert len(results) == count
            return {"no chunks": (perf_counter() - began) / count}

        yield measure


PEERS: dict[str, Session] = {
    "ProcessPoolExecutor": process_pool_executor,
    "multiprocessing.Pool": multiprocessing_pool,
    "mpire": mpire,
    "loky": loky,
    "joblib": joblib,
    "aiomultiprocess": aiomultiprocess,
}
#: These wake up regularly even when idle.
RESTLESS = {"mpire", "aiomultiprocess"}
#: The best peer was one of these in every full run; a quick run trusts in that.
LIKELY_BEST = {"multiprocessing.Pool", "ProcessPoolExecutor"}


def lines(results: Results) -> Sequence[Line]:
    """Against the best peer with its best chunk size."""
    best = _best_chunks(results)
    champion = fastest(results, best)
    rest = {label: cell for label, cell in best.items() if champion is None or label != champion[0]}

    def line(what: str, metric: str, goal: Goal | None, others: dict[str, Cell]) -> Line:
        return Line(what, (OURS, metric), champion, others, goal, unit="/s", inverse=True)

    return [
        line("map of a no-op over 200,000 ints", "list", Goal(1.0, at_least=True), rest),
        line("as async for", "iterated", None, {}),
        line("as async for, as completed", "unordered", None, {}),
        line("no-op defined in __main__", "by value", None, {}),
    ]


def _best_chunks(results: Results) -> dict[str, Cell]:
    """For each peer that was measured, its best chunk size, and where to find it."""
    best: dict[str, Cell] = {}
    for name in PEERS:
        metrics = {metric for sample in results.samples.get(name, []) for metric in sample}
        chosen = fastest(results, {metric: (name, metric) for metric in sorted(metrics)})
        if chosen is not None:
            best[f"{name} {chosen[0]}"] = chosen[1]
    return best


CASE = Case(
    "P4",
    "map of a no-op over 200,000 ints, no chunk size given",
    [
        Contender(OURS, ours),
        *(
            Contender(name, session, name in RESTLESS, name not in RESTLESS, optional=name not in LIKELY_BEST)
            for name, session in PEERS.items()
        ),
    ],
    lines,
)
