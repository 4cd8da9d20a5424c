"""P3: moving 100 MB to a worker and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks import peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import quantile
from benchmarks.work import echo, echo_touched, length, make_array, read_pages

OURS = "offloop"
MEMCPY = "warm memcpy"
EXECUTOR = "ProcessPoolExecutor"
#: float64 items: 100 MB.
ITEMS = 12_500_000


@asynccontextmanager
async def move(settings: Settings, *, opener: peers.Opener, repeats: int) -> AsyncIterator[Measure]:
    """Time calls from submit to result, on a warm pool; the median of ``repeats`` calls in a row.

    ``both``: an array there and the same back.  ``first``: the first such call
    of a round, after seconds in which others used the machine.  ``touched``:
    there and back, and each side reads every page of what it got.
    ``argument``: an array there, a number back.  ``result``: nothing there, an
    array that the worker makes (which is timed as well) back.  ``bytes``: a
    bytes object there and back.

    Args:
        settings: of the run.
        opener: opens the pool.
        repeats: calls in a row; one is enough for peers that keep no memory warm.
    """
    array = make_array(ITEMS)
    data = array.tobytes()
    async with opener(settings.workers) as call:

        async def repeat(function: Any, argument: Any, *, read: bool = False) -> float:
            times = [await _time(call, function, argument, read=read) for _ in range(repeats)]
            return quantile(times, 0.5)

        async def measure() -> Sample:
            return {
                "first": await _time(call, echo, array),
                "both": await repeat(echo, array),
                "touched": await repeat(echo_touched, array, read=True),
                "argument": await repeat(length, array),
                "result": await repeat(make_array, ITEMS),
                "bytes": await repeat(echo, data),
            }

        yield measure


async def _time(call: peers.Call, function: Any, argument: Any, *, read: bool = False) -> float:
    began = perf_counter()
    result = await call(function, argument)
    if read:
        read_pages(result)
    seconds = perf_counter() - began
    assert result == ITEMS if isinstance(result, int) else len(result) in {ITEMS, ITEMS * 8}
    assert isinstance(result, int) or result[-1] in {1.0, 63}  # 63: the last byte of a float64 1.0
    return seconds


@asynccontextmanager
async def memcpy(_settings: Settings) -> AsyncIterator[Measure]:
    """Time one copy of 100 MB from one array into another, both touched before; the median of 5 copies."""
    import numpy

    source, target = make_array(ITEMS), make_array(ITEMS)

    async def measure() -> Sample:
        times = []
        for _ in range(5):
            began = perf_counter()
            numpy.copyto(target, source)
            times.append(perf_counter() - began)
        return {"copy": quantile(times, 0.5)}

    yield measure


PEERS = {
    EXECUTOR: partial(move, opener=peers.process_pool_executor, repeats=1),
    "loky": partial(move, opener=peers.loky, repeats=1),
}


def lines(_results: Results) -> Sequence[Line]:
    """All against one copy."""

    def line(what: str, metric: str, goal: Goal | None = None) -> Line:
        others: dict[str, Cell] = {name: (name, metric) for name in PEERS}
        return Line(what, (OURS, metric), (MEMCPY, (MEMCPY, "copy")), others, goal)

    return [
        line("100 MB array there and back", "both", Goal(4.0)),
        line("the first after a pause", "first"),
        line("there and back, both sides read it", "touched"),
        line("there only", "argument"),
        line("back only, made in the worker", "result"),
        line("100 MB of bytes there and back", "bytes"),
    ]


CASE = Case(
    "P3",
    "a 100 MB NumPy array to a worker and back",
    [
        Contender(OURS, partial(move, opener=peers.offloop, repeats=5)),
        Contender(MEMCPY, memcpy),
        *(Contender(name, session, optional=True) for name, session in PEERS.items()),
    ],
    lines,
)
