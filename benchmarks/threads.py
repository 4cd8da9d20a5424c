"""P11: thread workers, many tasks at once and one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from benchmarks import peers
from benchmarks.model import Case, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import quantile, time_each, time_gather
from benchmarks.work import noop

OURS = "offloop"
EXECUTOR = "ThreadPoolExecutor"


@asynccontextmanager
async def submit(settings: Settings, *, opener: peers.Opener) -> AsyncIterator[Measure]:
    """Time a gather of 20,000 no-op calls, and 2,000 calls one after the other."""
    async with opener(settings.workers) as call:

        async def measure() -> Sample:
            gathered = await time_gather(call, noop, settings.size(20_000, 10_000))
            times = await time_each(call, noop, settings.size(2_000, 1_000))
            return {"noop": gathered, "p50": quantile(times, 0.5), "p99": quantile(times, 0.99)}

        yield measure


def lines(_results: Results) -> Sequence[Line]:
    """Against the standard library's threads."""
    return [
        Line(
            "threads: no-op submits gathered, rate",
            (OURS, "noop"),
            (EXECUTOR, (EXECUTOR, "noop")),
            goal=Goal(3.0, at_least=True),
            unit="/s",
            inverse=True,
        ),
        Line("threads: one task, p50", (OURS, "p50"), (EXECUTOR, (EXECUTOR, "p50")), goal=Goal(1.0)),
        Line("threads: one task, p99", (OURS, "p99"), (EXECUTOR, (EXECUTOR, "p99"))),
    ]


CASE = Case(
    "P11",
    "thread workers: gather of no-ops, and one after the other",
    [
        Contender(OURS, partial(submit, opener=peers.offloop_threads)),
        Contender(EXECUTOR, partial(submit, opener=peers.thread_pool_executor)),
    ],
    lines,
)
