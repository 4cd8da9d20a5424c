"""MAP: maps whose results, or items, are other than P4's numbers."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from benchmarks import makers
from benchmarks.mapping import CHUNKS
from benchmarks.model import Case, Cell, Contender, Line, Measure, Results, Sample, Settings, fastest

OURS, EXECUTOR, POOL = "offloop", "ProcessPoolExecutor", "multiprocessing.Pool"
ITEMS = 50_000
#: What is mapped over, by what it comes to.
KINDS: dict[str, Callable[[Any], Any]] = {
    "short texts": makers.text,
    "tuples": makers.pair,
    "lists": makers.both,
    "dictionaries": makers.row,
    "nested containers": makers.tree,
    "named tuples": makers.named,
    "dataclasses": makers.record,
    "numbers, of texts": makers.words,
}


def _items(kind: str) -> Sequence[Any]:
    if KINDS[kind] is makers.words:
        return [f"the quick brown fox number {item}" for item in range(ITEMS)]
    return range(ITEMS)


@asynccontextmanager
async def ours(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``await pool.map(function, items)``, per item, no chunk size given."""
    from offloop import WorkerPool

    async with WorkerPool(settings.workers) as pool:

        async def measure() -> Sample:
            sample: Sample = {}
            for kind, function in KINDS.items():
                items = _items(kind)
                gc.collect()
                began = perf_counter()
                results = await pool.map(function, items)
                sample[kind] = (perf_counter() - began) / ITEMS
                assert len(results) == ITEMS
                del results
            return sample

        yield measure


def _time(run: Callable[[Callable[[Any], Any], Sequence[Any], int], Any]) -> Sample:
    """Seconds per item of each kind, with each chunk size, until all results are in a list."""
    sample: Sample = {}
    for kind, function in KINDS.items():
        items = _items(kind)
        for chunk in CHUNKS:
            gc.collect()
            began = perf_counter()
            results = list(run(function, items, chunk))
            sample[f"{kind} {chunk}"] = (perf_counter() - began) / ITEMS
            assert len(results) == ITEMS
            del results
    return sample


@asynccontextmanager
async def executor(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``list(executor.map(function, items, chunksize=n))``."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(settings.workers) as pool:

        async def measure() -> Sample:
            return _time(lambda function, items, chunk: pool.map(function, items, chunksize=chunk))

        yield measure


@asynccontextmanager
async def multiprocessing_pool(settings: Settings) -> AsyncIterator[Measure]:
    """Time ``pool.map(function, items, n)``."""
    from multiprocessing import Pool

    with Pool(settings.workers) as pool:

        async def measure() -> Sample:
            return _time(pool.map)

        yield measure


def lines(results: Results) -> Sequence[Line]:
    """Against the best peer with its best chunk size."""
    found = []
    for kind in KINDS:
        cells: dict[str, Cell] = {
            f"{name} {chunk}": (name, f"{kind} {chunk}") for name in (EXECUTOR, POOL) for chunk in CHUNKS
        }
        champion = fastest(results, cells)
        rest = {name: cell for name, cell in cells.items() if champion is None or name != champion[0]}
        found.append(Line(kind, (OURS, kind), champion, rest, unit="/s", inverse=True))
    return found


CASE = Case(
    "MAP",
    f"maps of {ITEMS:,} items to this and that, no chunk size given",
    [
        Contender(OURS, ours),
        Contender(EXECUTOR, executor),
        Contender(POOL, multiprocessing_pool),
    ],
    lines,
)
