"""P11: thread and interpreter workers, many tasks at once and one after the other."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from benchmarks import peers
from benchmarks.model import Case, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import quantile, time_each, time_gather
from benchmarks.work import noop

OURS = "offloop"
EXECUTOR = "ThreadPoolExecutor"
INTERPRETERS = "offloop interpreters"
INTERPRETER_EXECUTOR = "InterpreterPoolExecutor"
#: Whether this Python has interpreters.
HAS_THEM = sys.version_info >= (3, 14)


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
    """Against the standard library's threads, and its interpreters where there are any."""
    found = _lines("threads", OURS, EXECUTOR)
    return [*found, *_lines("interpreters", INTERPRETERS, INTERPRETER_EXECUTOR)] if HAS_THEM else found


def _lines(what: str, ours: str, theirs: str) -> list[Line]:
    return [
        Line(
            f"{what}: no-op submits gathered, rate",
            (ours, "noop"),
            (theirs, (theirs, "noop")),
            goal=Goal(3.0, at_least=True),
            unit="/s",
            inverse=True,
        ),
        Line(f"{what}: one task, p50", (ours, "p50"), (theirs, (theirs, "p50")), goal=Goal(1.0)),
        Line(f"{what}: one task, p99", (ours, "p99"), (theirs, (theirs, "p99"))),
    ]


_CONTENDERS = [
    Contender(OURS, partial(submit, opener=peers.offloop_threads)),
    Contender(EXECUTOR, partial(submit, opener=peers.thread_pool_executor)),
]
if HAS_THEM:
    _CONTENDERS += [
        Contender(INTERPRETERS, partial(submit, opener=peers.offloop_interpreters)),
        Contender(INTERPRETER_EXECUTOR, partial(submit, opener=peers.interpreter_pool_executor)),
    ]

CASE = Case(
    "P11",
    "thread and interpreter workers: gather of no-ops, and one after the other",
    _CONTENDERS,
    lines,
)
