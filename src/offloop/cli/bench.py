"""Carry out ``offloop bench``: the same few loads on offloop and on `ProcessPoolExecutor`."""

from __future__ import annotations

import asyncio
import multiprocessing
import platform
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from statistics import median
from time import perf_counter
from typing import NamedTuple

import offloop
from offloop.cpus import usable_cpus

#: Calls one after the other, whose median time is told.
_CALLS = 200
#: Calls at once: as many as take each side about half a second or less.
_AT_ONCE, _AT_ONCE_STDLIB = 20_000, 2_000
#: Numbers that are mapped over, and the executor's items per chunk; offloop finds its own.
_MAPPED, _CHUNK = 200_000, 512
#: What is sent there and back, in bytes, and how often.
_LARGE, _TIMES = 32 * 2**20, 5


class Timing(NamedTuple):
    """What was measured, in seconds; in the last two, for one of many."""

    first: float
    call: float
    large: float
    at_once: float
    mapped: float


#: How each timing is shown: its name, whether as a rate.
_ROWS = (
    ("first result of a new pool", False),
    ("one call, there and back", False),
    (f"{_LARGE >> 20} MiB of bytes, there and back", False),
    ("small calls at once", True),
    (f"map over {_MAPPED:,} numbers", True),
)


def _negative(number: int) -> int:
    return -number


def _same(data: bytes) -> bytes:
    return data


def measure(workers: int | None) -> int:
    """Measure and print; returns 0."""
    count = workers or usable_cpus()
    method = multiprocessing.get_start_method()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"offloop {offloop.__version__}, {python}, {count} worker{'s' * (count > 1)}", flush=True)
    # First, as it may fork: from here on there are threads.
    stdlib = _measure_stdlib(count)
    own = asyncio.run(_measure_own(count))
    for line in table(own, stdlib, f"ProcessPoolExecutor ({method})"):
        print(line)
    print(f"\nThe executor's map got chunksize={_CHUNK}; offloop finds its own.")
    return 0


def table(own: Timing, stdlib: Timing, other: str) -> Iterator[str]:
    """The lines of the table: each timing of both, and how many times faster the first is."""
    yield f"{'':34}{'offloop':>12}  {other:>28}"
    for (name, is_rate), ours, theirs in zip(_ROWS, own, stdlib, strict=True):
        show = _rate if is_rate else _duration
        yield f"{name:34}{show(ours):>12}  {show(theirs):>28}  {theirs / ours:6.1f} x"


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}/s"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1e6:,.0f} µs"


async def _measure_own(workers: int) -> Timing:
    pool = offloop.WorkerPool(workers)

    async def call() -> None:
        await pool.submit(_negative, 1)

    async def send_large() -> None:
        await pool.submit(_same, bytes(_LARGE))

    async def submit_many() -> None:
        await asyncio.gather(*(pool.submit(_negative, number) for number in range(_AT_ONCE)))

    async def map_many() -> None:
        await pool.map(_negative, range(_MAPPED))

    async def time(load: Callable[[], Awaitable[None]]) -> float:
        began = perf_counter()
        await load()
        return perf_counter() - began

    async with pool:
        first = await time(call)
        await submit_many()  # now all workers are there, and warm
        return Timing(
            first,
            median([await time(call) for _ in range(_CALLS)]),
            median([await time(send_large) for _ in range(_TIMES)]),
            await time(submit_many) / _AT_ONCE,
            await time(map_many) / _MAPPED,
        )


def _measure_stdlib(workers: int) -> Timing:
    executor = ProcessPoolExecutor(workers)

    def call() -> None:
        executor.submit(_negative, 1).result()

    def send_large() -> None:
        executor.submit(_same, bytes(_LARGE)).result()

    def submit_many() -> None:
        wait([executor.submit(_negative, number) for number in range(_AT_ONCE_STDLIB)])

    def map_many() -> None:
        list(executor.map(_negative, range(_MAPPED), chunksize=_CHUNK))

    def time(load: Callable[[], None]) -> float:
        began = perf_counter()
        load()
        return perf_counter() - began

    with executor:
        first = time(call)
        submit_many()
        return Timing(
            first,
            median([time(call) for _ in range(_CALLS)]),
            median([time(send_large) for _ in range(_TIMES)]),
            time(submit_many) / _AT_ONCE_STDLIB,
            time(map_many) / _MAPPED,
        )
