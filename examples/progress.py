"""Show how far several long calculations have come, while they run in worker processes.

A task calls ``current_task().report(done, total)`` as often as it likes;
`Execution.progress` gives the reports as they come.

Run it with ``python examples/progress.py``.
"""

from __future__ import annotations

import asyncio

from offloop import Execution, WorkerPool, current_task


def count_primes(limit: int) -> int:
    """How many primes there are below ``limit``, by trial division."""
    primes: list[int] = []
    for number in range(2, limit):
        if all(number % prime for prime in primes if prime * prime <= number):
            primes.append(number)
        current_task().report(number + 1, limit, f"{len(primes)} primes so far")
    return len(primes)


async def follow(name: str, execution: Execution[int]) -> None:
    """Print a line at each quarter of the way."""
    shown = 0
    async for done, total, message in execution.progress():
        quarter = int(4 * done / total) if total else 0
        if quarter > shown:
            shown = quarter
            print(f"{name}: {25 * quarter} %, {message}")


async def main() -> None:
    async with WorkerPool(2) as pool:
        limits = {"small": 1_000, "large": 4_000}
        executions = {name: pool.submit(count_primes, limit) for name, limit in limits.items()}
        await asyncio.gather(*(follow(name, execution) for name, execution in executions.items()))
        for name, execution in executions.items():
            print(f"{name}: {await execution} primes")


asyncio.run(main())
