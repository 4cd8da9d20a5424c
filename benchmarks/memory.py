"""P7: what an idle worker and a queued task keep in memory."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from benchmarks import bare, peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.work import noop, stay, wait_for_lock

OURS = "offloop"


@asynccontextmanager
async def footprint(
    settings: Settings, *, opener: peers.Opener, full: int, quick: int
) -> AsyncIterator[Measure]:
    """Weigh the workers of a pool in a fresh process, and its queue.

    ``idle``: proportional set size (PSS) of a worker that ran a few tasks and
    is idle, the mean of the workers.  ``all``: PSS of all processes below this
    one, helpers included.  ``queued``: with every worker busy, ``full`` no-ops
    without arguments are submitted; what tracemalloc counts for them, per task:
    the payload is nothing, so that all of it, the future included, is overhead.
    """
    count = settings.size(full, quick)

    async def measure() -> Sample:
        async with opener(settings.workers) as call:
            stays = await asyncio.gather(*[call(stay, 0.2) for _ in range(settings.workers)])
            workers = {pid for pid, _ in stays}
            assert len(workers) == settings.workers
            family = [child.pid for child in psutil.Process().children(recursive=True)]
            sample = {
                "idle": mean(proportional_set_size(pid) for pid in workers),
                "all": float(sum(proportional_set_size(pid) for pid in family)),
            }
            with _locked() as path:
                blockers = [call(wait_for_lock, path) for _ in range(settings.workers)]
                # One turn after another, so that the blockers are in the workers' hands.
                while not await _all_wait(path, settings.workers):
                    pass
                sample["queued"], queued = _weigh_queue(call, count)
                for future in queued:
                    future.cancel()
            await asyncio.gather(*blockers)
            return sample

    yield measure


def proportional_set_size(pid: int) -> int:
    """PSS of a process in bytes: its own pages, and its share of each shared one."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no line Pss")


@contextmanager
def _locked() -> Iterator[str]:
    """The path of a file that is locked for as long as the context lasts."""
    with tempfile.NamedTemporaryFile() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.name


async def _all_wait(path: str, workers: int) -> bool:
    """Whether so many processes wait for this lock."""
    await asyncio.sleep(0.01)
    inode = f":{Path(path).stat().st_ino} "  # noqa: ASYNC240
    lines = Path("/proc/locks").read_text().splitlines()  # noqa: ASYNC240
    return sum(" -> " in line and inode in line for line in lines) >= workers


def _weigh_queue(call: peers.Call, count: int) -> tuple[float, list[asyncio.Future[Any]]]:
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    queued: list[asyncio.Future[Any]] = [asyncio.ensure_future(call(noop)) for _ in range(count)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before - queued.__sizeof__()) / count, queued


PEERS = {
    "ProcessPoolExecutor": partial(footprint, opener=peers.process_pool_executor, full=5_000, quick=2_000),
    'ProcessPoolExecutor("forkserver")': partial(
        footprint, opener=peers.forkserver_executor, full=5_000, quick=2_000
    ),
    "loky": partial(footprint, opener=peers.loky, full=5_000, quick=2_000),
}


def lines(_results: Results) -> Sequence[Line]:
    """Absolute sizes, with the peers' beside them."""

    def line(what: str, metric: str, limit: float | None) -> Line:
        others: dict[str, Cell] = {name: (name, metric) for name in PEERS}
        goal = None if limit is None else Goal(limit, of_value=True)
        return Line(what, (OURS, metric), others=others, goal=goal, unit="B")

    return [
        line("idle worker, PSS", "idle", 2e6),
        Line("the same of a bare template", (bare.NAME, "idle"), unit="B"),
        line("queued task without payload", "queued", 1024),
        line("two workers and helpers, PSS", "all", None),
    ]


CASE = Case(
    "P7",
    "memory of an idle worker and of a queued task",
    [
        Contender(
            OURS,
            partial(footprint, opener=peers.offloop, full=100_000, quick=20_000),
            fresh=True,
            warm=False,
        ),
        Contender(
            bare.NAME,
            partial(footprint, opener=bare.opened, full=5_000, quick=2_000),
            fresh=True,
            warm=False,
        ),
        *(Contender(name, session, fresh=True, warm=False, optional=True) for name, session in PEERS.items()),
    ],
    lines,
)
