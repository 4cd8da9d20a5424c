"""A program as users write them, whose function is its own: P5 runs it as a script.

    program.py offloop|forkserver WORKERS

It prints the seconds from a new pool to the result of a first no-op.  The
standard pool's workers run the script again to find the function; offloop's get
the function itself.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter


def noop() -> None:
    """Nothing."""


async def main(pool: str, workers: int) -> None:
    """Load the library, then measure."""
    if pool == "offloop":
        from offloop import WorkerPool

        began = perf_counter()
        async with WorkerPool(workers) as ours:
            await ours.submit(noop)
            print(perf_counter() - began)
    else:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        began = perf_counter()
        with ProcessPoolExecutor(workers, mp_context=get_context(pool)) as theirs:
            await asyncio.get_running_loop().run_in_executor(theirs, noop)
            print(perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
