"""Run jobs that misbehave in every way, and tell what became of each.

One job raises, one crashes, one hangs, one returns what can't be pickled, and
one needs two attempts.  Each fails by itself; the good ones are not disturbed.
Of the one that crashed there is a report.

Run it with ``python examples/crash_report.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import offloop


def good() -> int:
    return sum(range(1000))


def raises() -> float:
    return 1 / 0


def crashes() -> None:
    print("something is wrong with this image", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> None:
    time.sleep(3600)


def returns_a_lock() -> Any:
    return threading.Lock()


def needs_two_attempts() -> str:
    attempt = offloop.current_task().attempt
    if attempt == 1:
        os._exit(1)
    return f"done at attempt {attempt}"


JOBS: list[Callable[[], Any]] = [good, raises, crashes, hangs, returns_a_lock, needs_two_attempts, good]


def verdict(outcome: Any) -> str:
    """One line about a result or an exception."""
    if isinstance(outcome, offloop.WorkerCrashed):
        return f"crashed with {outcome.signal or f'exit code {outcome.exit_code}'}"
    if isinstance(outcome, offloop.TaskTimeout):
        return "took too long"
    if isinstance(outcome, offloop.SerializationError):
        return "returned what can't be pickled"
    if isinstance(outcome, Exception):
        return f"raised {type(outcome).__name__}: {outcome}"
    return f"returned {outcome}"


def print_report(crash: offloop.WorkerCrashed) -> None:
    """What is known of a worker that died."""
    print(f"\n{crash}")
    print(f"out of memory: {crash.out_of_memory}; peak: {(crash.peak_rss or 0) / (1 << 20):.0f} MiB")
    print(crash.stack)


async def main() -> None:
    async with offloop.WorkerPool(2) as pool:
        retried = pool.options(timeout=10, retries=1)
        once = pool.options(timeout=1.5)
        jobs = [(retried if job is needs_two_attempts else once).submit(job) for job in JOBS]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    for job, outcome in zip(JOBS, outcomes, strict=True):
        print(f"{job.__name__:20} {verdict(outcome)}")
    for outcome in outcomes:
        if isinstance(outcome, offloop.WorkerCrashed):
            print_report(outcome)


asyncio.run(main())
