"""Watch a pool at work: what waits, what runs, how long it takes, what crashed.

Statistics are always counted, so a program can look at them whenever it likes:
here in the middle of the work, for each round of it, and at its end.

Run it with ``python examples/watch_pool.py``; ``--table`` shows the whole table at the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import zlib

from offloop import Execution, Statistics, WorkerPool


def compress(size: int) -> int:
    """Work for a few milliseconds."""
    data = b"".join(str(number).encode() for number in range(size))
    return len(zlib.compress(data, 9))


def report(title: str, statistics: Statistics) -> None:
    """The numbers that an operator would look at first."""
    s = statistics
    print(f"{title}: {s.submitted} tasks, {s.succeeded} succeeded, {s.failed} failed, {s.crashed} crashed")
    print(f"  run   p50 {s.run.p50 * 1e3:7.2f} ms, p99 {s.run.p99 * 1e3:7.2f} ms")
    print(f"  wait  p50 {s.wait.p50 * 1e3:7.2f} ms, p99 {s.wait.p99 * 1e3:7.2f} ms")
    print(f"  busy  {s.busy_fraction:.0%} of the workers' time, {s.restarts} restarts")


async def main() -> None:
    pool = WorkerPool(2, min_workers=2)
    async with pool:
        before = pool.statistics()
        for size in 1_000, 20_000:
            tasks: list[Execution[int]] = [pool.submit(compress, size) for _ in range(20)]
            await tasks[0]
            now = pool.statistics()
            assert now.submitted == now.queued + now.sent + now.done  # at every moment
            await asyncio.gather(*tasks)
            now = pool.statistics()
            report(f"size {size}", now.since(before))
            before = now
        await asyncio.gather(pool.submit(compress, "much"), pool.submit(os._exit, 1), return_exceptions=True)
        await pool.submit(compress, 10)
        report("the rest", pool.statistics().since(before))
        if "--table" in sys.argv:
            print(pool.statistics())
    report("all", pool.statistics())


asyncio.run(main())
