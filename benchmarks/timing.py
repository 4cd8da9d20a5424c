"""The loops that several benchmarks time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from benchmarks.peers import Call


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def time_gather(call: Call, function: Callable[..., Any], count: int) -> float:
    """Seconds per task of a `gather` over ``count`` calls, from the first submit to the last result."""
    began = perf_counter()
    await asyncio.gather(*[call(function) for _ in range(count)])
    return (perf_counter() - began) / count


async def time_gather_ints(call: Call, function: Callable[..., Any], count: int) -> float:
    """The same, where every task takes an int and returns it."""
    began = perf_counter()
    results = await asyncio.gather(*[call(function, number) for number in range(count)])
    seconds = (perf_counter() - began) / count
    assert results == list(range(count))
    return seconds


async def time_each(call: Call, function: Callable[..., Any], count: int) -> list[float]:
    """Seconds from submit to result of each of ``count`` calls, one after the other."""
    times: list[float] = []
    for _ in range(count):
        began = perf_counter()
        await call(function)
        times.append(perf_counter() - began)
    return times
