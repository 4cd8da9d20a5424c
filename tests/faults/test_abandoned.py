"""Pools that nobody shuts down (FAULTS 26): a warning says so, and nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, sys, time
from offloop import WorkerPool

async def main(end):
    pool = WorkerPool(2)
    print(*await asyncio.gather(pool.submit(os.getpid), pool.submit(os.getppid)))
    if end == "busy":
        pool.submit(time.sleep, 60)
        await asyncio.sleep(0)
    elif end == "exit":
        sys.exit(0)
    elif end == "raise":
        raise ValueError("as planned")
    elif end == "kept":
        globals()["kept"] = pool
    elif end == "dropped":
        del pool
        await asyncio.sleep(0)

try:
    asyncio.run(main(sys.argv[1]))
except ValueError:
    pass
"""


@pytest.mark.parametrize("end", ["return", "busy", "exit", "raise", "kept", "dropped"])
def test_an_abandoned_pool_ends_with_its_loop_and_a_warning(end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, end],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stderr.count("ResourceWarning: <WorkerPool") == 1, done.stderr
    assert "unclosed" not in done.stderr
    assert "still running" not in done.stderr
    assert "Traceback" not in done.stderr
    for pid in done.stdout.split():
        assert not os.path.exists(f"/proc/{pid}")
