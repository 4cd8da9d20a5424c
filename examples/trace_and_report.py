"""Record what a pool does, and make a page of it that shows when what ran where.

Some of the tasks are slow, one fails, and one takes its worker with it: the page shows
the crash, and the worker that came in its place.

Run it with ``python examples/trace_and_report.py``, and open ``trace.html`` in a browser.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import zlib

from offloop import WorkerPool, write_report


def compress(size: int) -> int:
    """Work for a few milliseconds."""
    return len(zlib.compress(b"".join(str(number).encode() for number in range(size)), 9))


def wait_for_somebody(seconds: float) -> None:
    """Be slow without working."""
    time.sleep(seconds)


async def main(path: str) -> None:
    async with WorkerPool(3) as pool, pool.trace(path) as trace:
        work = [pool.submit(compress, 500 * number) for number in range(1, 40)]
        work += [pool.submit(wait_for_somebody, number / 100) for number in range(5)]
        bad = [pool.submit(compress, "much"), pool.submit(os._exit, 3)]
        await asyncio.gather(*work)
        outcomes = await asyncio.gather(*bad, return_exceptions=True)
        print("failed:", ", ".join(type(outcome).__name__ for outcome in outcomes))
        await pool.submit(compress, 1000)
    print(f"{trace.recorded} events in {trace.path}")
    page = path.removesuffix(".json") + ".html"
    write_report(path, page)
    print(f"open {page} in a browser")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "trace.json"))
