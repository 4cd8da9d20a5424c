"""``scripts/soak [MINUTES]``: hours of work under random kills, and an account of every task."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import random
import sys
import tempfile
import threading
import time
from typing import NamedTuple

import psutil

from offloop import WorkerPool
from soak.chaos import Chaos
from soak.load import Load, check_history
from soak.waves import Waves

#: Seconds that the last tasks may take to end once nothing more is enqueued or killed.
LAST = 60.0
#: Waves under way at a time.
AT_A_TIME = 3
#: What a flat line may rise: bytes of memory, descriptors, threads.
SLACK = (48 << 20, 16, 4)


class Audit(NamedTuple):
    """What the parent holds."""

    rss: int
    descriptors: int
    threads: int

    @classmethod
    def take(cls) -> Audit:
        """Now."""
        gc.collect()
        me = psutil.Process()
        return cls(me.memory_info().rss, me.num_fds(), threading.active_count())


class Plan(NamedTuple):
    """What a soak does.

    Attributes:
        seconds: how long mixed tasks are enqueued, where ``tasks`` is 0.
        tasks: how many tiny tasks are enqueued in waves, beside the mixed ones.
        workers: how many workers the pool has.
        depth: how many mixed tasks are outstanding.
        every: mean seconds between two signals.
        quiet: print nothing.
    """

    seconds: float = 60.0
    tasks: int = 0
    workers: int = 4
    depth: int = 1000
    every: float = 0.1
    quiet: bool = False


class Soak:
    """One run."""

    def __init__(self, plan: Plan, pool: WorkerPool, noted: str, counted: str) -> None:
        self._plan = plan
        self._pool = pool
        self.load = Load(pool, noted, plan.depth)
        self.waves = Waves(pool, counted, plan.tasks)
        self.chaos = Chaos(plan.every)
        self.audits: list[Audit] = []
        self._began = time.monotonic()

    async def run(self) -> list[str]:
        """Do it; returns what is still open in the end, a line each."""
        stop = asyncio.Event()
        waves = [asyncio.create_task(self.waves.run()) for _ in range(AT_A_TIME)]
        running = [
            *waves,
            asyncio.create_task(self.load.run(stop)),
            asyncio.create_task(self.chaos.run(stop)),
        ]
        watch = asyncio.create_task(self._watch())
        await asyncio.wait([watch, *waves] if self._plan.tasks else [watch])
        stop.set()
        _, pending = await asyncio.wait(running, timeout=LAST)
        wrong = [f"still open: {name} {number}" for number, (name, _) in sorted(self.load.open.items())[:20]]
        for task in (watch, *pending):
            task.cancel()
        if pending:
            wrong.append(f"{len(pending)} of {running} did not end")
            self._pool.kill()
        for task in running:
            if task.done():
                task.result()
        return wrong

    async def _watch(self) -> None:
        """Take an audit twenty times over."""
        for step in range(1, 21):
            while self._progress() < step / 20:
                await asyncio.sleep(min(0.1, self._plan.seconds / 20))
            self.audits.append(audit := Audit.take())
            if not self._plan.quiet:
                self._print(audit)

    def _progress(self) -> float:
        if self._plan.tasks:
            return self.waves.account.begun / self._plan.tasks
        return (time.monotonic() - self._began) / self._plan.seconds

    @property
    def enqueued(self) -> int:
        """How many tasks, all in all."""
        return self.load.enqueued + self.waves.account.begun

    def _print(self, audit: Audit) -> None:
        wrong = len(self.load.wrong) + len(self.waves.account.wrong)
        print(
            f"{time.monotonic() - self._began:6.0f} s  {self.enqueued:>11,} tasks  "
            f"{sum(self.chaos.sent.values()):>6,} signals  {audit.rss / 1e6:6.1f} MB  "
            f"{audit.descriptors} descriptors  {audit.threads} threads  {wrong} wrong",
            flush=True,
        )

    def report(self) -> None:
        """Print all counts."""
        print(f"\n{self.enqueued:,} tasks, {sum(self.chaos.sent.values()):,} signals")
        for counts in (self.chaos.sent, self.load.outcomes, self.waves.account.counts()):
            for what, count in sorted(counts.items()):
                print(f"  {count:>12,}  {what}")


async def soak(plan: Plan) -> list[str]:
    """Run the soak; returns what went wrong, a line each."""
    with (
        tempfile.NamedTemporaryFile(prefix="soak-") as noted,
        tempfile.NamedTemporaryFile(prefix="soak-") as counted,
    ):
        pool = WorkerPool(plan.workers, cancel_grace=0.5)
        run = Soak(plan, pool, noted.name, counted.name)
        wrong = await run.run()
        await pool.shutdown()
        ends = pool.statistics()
        if ends.submitted != ends.done:
            wrong.append(f"{ends.submitted} tasks were enqueued, and {ends.done} counted as ended")
        load, history = run.load, noted.read().decode()
        wrong += load.wrong[:20] + check_history(history, load.finished)[:20] + _left_behind()
        wrong += run.waves.account.check(counted.read())[:20]
    wrong += _rises(run.audits)
    if not plan.quiet:
        run.report()
    return wrong


def _rises(audits: list[Audit]) -> list[str]:
    """Whether the last quarter holds more than the second did; the first is for warming up."""
    quarter = len(audits) // 4
    before, after = audits[quarter : 2 * quarter], audits[-quarter:]
    return [
        f"{name} rose from {low:,} to {high:,}"
        for at, name in enumerate(Audit._fields)
        if (high := min(a[at] for a in after)) > (low := max(a[at] for a in before)) + SLACK[at]
    ]


def _left_behind() -> list[str]:
    left = [f"process {child.pid} is left" for child in psutil.Process().children(recursive=True)]
    return left + [f"segment {name} is left" for name in os.listdir("/dev/shm") if "offloop" in name]


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=1.0)
    parser.add_argument(
        "--tasks", type=int, default=0, help="so many tiny tasks, as long as they take, beside mixed ones"
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--depth", type=int, default=None, help="mixed tasks outstanding (1000; with --tasks 50)"
    )
    parser.add_argument("--every", type=float, default=0.1, help="mean seconds between signals (%(default)s)")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    faulthandler.enable()
    random.seed(arguments.seed)
    depth = arguments.depth or (50 if arguments.tasks else 1000)
    plan = Plan(arguments.minutes * 60, arguments.tasks, arguments.workers, depth, arguments.every)
    wrong = asyncio.run(soak(plan))
    print(
        "\nwrong:\n  " + "\n  ".join(wrong)
        if wrong
        else "\nevery task ended once, as it may; nothing is left"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
