"""P6: how close a batch of tasks comes to the time that its work takes."""

from __future__ import annotations

import asyncio
import heapq
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks import peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.work import burn, noop, pause

OURS = "offloop"
BARE = "bare processes"
EXECUTOR = "ProcessPoolExecutor"
#: Seconds of CPU time of each of the equal tasks.
EQUAL = 0.005
#: Seconds, and how many of 20 tasks take so long: 70, 25 and 5 %.
MIX = ((0.0002, 14), (0.002, 5), (0.1, 1))


def equal_count(settings: Settings) -> int:
    """How many equal tasks."""
    return settings.size(400, 200)


def mixed_durations(settings: Settings) -> list[float]:
    """Seconds of each task of the heavy-tailed mix, in an order that is random and always the same."""
    times = settings.size(600, 200) // 20
    durations = [seconds for seconds, count in MIX for _ in range(count * times)]
    random.Random(1).shuffle(durations)
    return durations


def list_schedule(durations: Iterable[float], workers: int) -> float:
    """Makespan in seconds of greedy list scheduling: each task, in order, to the worker free first.

    Graham, "Bounds on multiprocessing timing anomalies", 1969.
    """
    free = [0.0] * workers
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


@asynccontextmanager
async def makespan(settings: Settings, *, opener: peers.Opener) -> AsyncIterator[Measure]:
    """Time batches of tasks, gathered: from the first submit to the last result, on a warm pool.

    ``equal``: 400 tasks that use 5 ms of CPU time each; its ``ideal`` is
    their sum divided by the workers.  ``slept``: the heavy-tailed mix, sleeping.
    ``burnt``: the mix using CPU time.  Their ``greedy`` is list scheduling of
    the times that the tasks, as measured within them, really took: sleeps are
    longer than asked for, and so are tasks on CPUs that others use as well.
    """
    mix = mixed_durations(settings)
    equal = [EQUAL] * equal_count(settings)
    async with opener(settings.workers) as call:
        await asyncio.gather(*[call(noop) for _ in range(100)])

        async def measure() -> Sample:
            equally, _ = await _run(call, burn, equal)
            slept, sleeps = await _run(call, pause, mix)
            burnt, burns = await _run(call, burn, mix)
            return {
                "equal": equally,
                "equal ideal": sum(equal) / settings.workers,
                "slept": slept,
                "slept greedy": list_schedule(sleeps, settings.workers),
                "burnt": burnt,
                "burnt greedy": list_schedule(burns, settings.workers),
            }

        yield measure


async def _run(
    call: peers.Call, function: Callable[[float], float], durations: list[float]
) -> tuple[float, list[float]]:
    """Makespan, and how long each task took."""
    began = perf_counter()
    taken = await asyncio.gather(*[call(function, seconds) for seconds in durations])
    return perf_counter() - began, taken


WORK = """
import sys
from benchmarks.work import burn
print(flush=True)
for line in sys.stdin:
    count, seconds = line.split()
    for _ in range(int(count)):
        burn(float(seconds))
    print(flush=True)
"""


@asynccontextmanager
async def bare(settings: Settings) -> AsyncIterator[Measure]:
    """Time the equal tasks in plain processes, each with its share in a loop: what this machine gives."""
    share = equal_count(settings) // settings.workers
    processes = [
        subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(settings.workers)
    ]
    pipes = [(process.stdin, process.stdout) for process in processes]

    async def measure() -> Sample:
        began = perf_counter()
        for stdin, _ in pipes:
            assert stdin is not None
            stdin.write(f"{share} {EQUAL}\n")
        for _, stdout in pipes:
            assert stdout is not None
            stdout.readline()
        return {"equal": perf_counter() - began}

    for _, stdout in pipes:
        assert stdout is not None
        stdout.readline()  # it is ready
    yield measure
    for process in processes:
        process.communicate()


PEERS = {EXECUTOR: partial(makespan, opener=peers.process_pool_executor)}


def lines(_results: Results) -> Sequence[Line]:
    """Against the arithmetic, and against the machine."""

    def others(metric: str) -> dict[str, Cell]:
        return {name: (name, metric) for name in PEERS}

    at_least = Goal(0.97, at_least=True)
    return [
        Line(
            "equal tasks of 5 ms of CPU, share of the ideal",
            (OURS, "equal"),
            ("sum / workers", (OURS, "equal ideal")),
            others("equal"),
            at_least,
            inverse=True,
        ),
        Line(
            "the same, share of what bare processes reach",
            (OURS, "equal"),
            (BARE, (BARE, "equal")),
            goal=at_least,
            inverse=True,
        ),
        Line(
            "heavy-tailed mix, sleeping, makespan",
            (OURS, "slept"),
            ("list scheduling", (OURS, "slept greedy")),
            others("slept"),
            Goal(1.05),
        ),
        Line(
            "heavy-tailed mix, using CPU, makespan",
            (OURS, "burnt"),
            ("list scheduling", (OURS, "burnt greedy")),
            others("burnt"),
            Goal(1.05),
        ),
    ]


CASE = Case(
    "P6",
    "equal CPU tasks of 5 ms, and a heavy-tailed mix",
    [
        Contender(OURS, partial(makespan, opener=peers.offloop), warm=False),
        Contender(BARE, bare, warm=False),
        *(Contender(name, session, warm=False, optional=True) for name, session in PEERS.items()),
    ],
    lines,
)
