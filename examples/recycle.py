"""Live with a library that leaks: workers that grow too large are replaced, and nothing waits or is lost.

Run it with ``python examples/recycle.py``.
"""

from __future__ import annotations

import asyncio
import os
import time

from offloop import WorkerPool, current_task

MIB = 1 << 20


def leaky(number: int) -> tuple[int, int]:
    """Gives its process, and the square; and keeps 30 MiB, as a bad library would."""
    time.sleep(0.02)
    kept = current_task().environment.setdefault("a cache that only grows", [])
    kept.append(bytearray(b"x") * (30 * MIB))
    return os.getpid(), number**2


async def main() -> None:
    async with WorkerPool(2, min_workers=2, max_memory_per_worker=150 * MIB) as pool:
        fewest = 2
        pids, squares = set(), []
        for execution in [pool.submit(leaky, number) for number in range(30)]:
            pid, square = await execution
            pids.add(pid)
            squares.append(square)
            fewest = min(fewest, pool.worker_count)
    print(f"{len(squares)} results, in order: {squares == [n**2 for n in range(30)]}")
    print(f"workers used: {'several' if len(pids) > 2 else 'few'}, and never fewer than {fewest} at a time")


asyncio.run(main())
