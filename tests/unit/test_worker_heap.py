"""What a worker process does with memory that its tasks have freed."""

from __future__ import annotations

import platform
import resource
import sys

import pytest

from offloop import ProcessWorkerFactory, WorkerPool


def page_faults(rounds: int) -> list[int]:
    """How many pages each round had to ask the system for, to make and free arrays of 4 MB in all."""
    seen: list[int] = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [bytearray(1 << 20) for _ in range(4)]
        del arrays
        seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return seen


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how the C library keeps freed memory")
@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="mimalloc keeps it otherwise")
@pytest.mark.parametrize("start_method", ["template", "exec"])
async def test_arrays_of_one_task_lie_in_the_memory_of_those_before(start_method: str) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        await pool.submit(page_faults, 1)
        assert max(await pool.submit(page_faults, 3)) < 100  # of 1,024
