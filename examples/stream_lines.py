"""Parse log files in worker processes, and handle each match while the rest is still being read.

A generator runs in a worker; `stream` gives its items as they come.  The worker
runs only so far ahead, so it does not matter how long the log is; and when the
reader has seen enough, leaving the loop closes the generator, and its file with it.

Run it with ``python examples/stream_lines.py``.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from offloop import WorkerPool


def slow_requests(path: str, limit: float) -> Iterator[tuple[int, str, float]]:
    """The requests of a log that took longer than ``limit`` seconds, one by one."""
    with open(path) as file:
        for number, line in enumerate(file, start=1):
            entry = json.loads(line)
            if entry["seconds"] > limit:
                yield number, entry["path"], entry["seconds"]


def write_log(path: Path, lines: int) -> None:
    """A log in which every thousandth request is slow."""
    with path.open("w") as file:
        for number in range(1, lines + 1):
            seconds = 2.5 if number % 1000 == 0 else 0.01
            file.write(json.dumps({"path": f"/item/{number}", "seconds": seconds}) + "\n")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        write_log(log, 50_000)
        async with WorkerPool(1) as pool:
            total = 0
            async for _ in pool.stream(slow_requests, str(log), 1.0):
                total += 1
            print(f"{total} slow requests in all; the first three:")
            shown = 0
            async for number, path, seconds in pool.stream(slow_requests, str(log), 1.0):
                print(f"line {number}: {path} took {seconds} s")
                shown += 1
                if shown == 3:
                    break  # closes the generator in the worker


asyncio.run(main())
