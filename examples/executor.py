"""Synchronous code on worker processes: `concurrent.futures`, with a pool that heals itself.

Nothing here is asynchronous, and there is no ``if __name__ == "__main__":``.

Run it with ``python examples/executor.py``.
"""

from __future__ import annotations

import os
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool

from offloop import Executor


def count_primes(below: int) -> int:
    """How many primes there are below a number."""
    sieve = bytearray([1]) * below
    sieve[:2] = b"\0\0"
    for number in range(2, int(below**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
    return sum(sieve)


limits = [10**n for n in range(2, 7)]
with Executor(2) as executor:
    # One by one, in order, with items sent in chunks that size themselves.
    for limit, primes in zip(limits, executor.map(count_primes, limits), strict=True):
        print(f"{primes:6} primes below {limit}")

    # A worker that dies fails its own task, and the executor goes on.
    crash = executor.submit(os.abort)
    futures = {executor.submit(count_primes, limit): limit for limit in limits}
    total = sum(future.result() for future in as_completed(futures))
    print(f"{total} in all, while another task crashed its worker:")
    try:
        crash.result()
    except BrokenProcessPool as error:
        print(f"{type(error).__name__}: killed by {error.signal} while running {error.task}")
