"""Follow requests into the workers by a context variable.

What is set where a task is enqueued is set in the task, in whichever process it
runs.  So a function that logs, several calls deep and in a worker, knows which
request it works for, and nobody has to hand that on.

Run it with ``python examples/request_id.py``.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from contextvars import ContextVar

from offloop import WorkerPool

request_id: ContextVar[str] = ContextVar("request_id", default="-")


def log(message: str) -> str:
    """A line of a log, marked with the request that it belongs to."""
    return f"[{request_id.get()}] {message}"


def checksum(data: bytes) -> tuple[int, list[str]]:
    """Work for a worker: a checksum, and what was logged meanwhile."""
    lines = [log(f"{len(data)} bytes came to another process: {os.getpid() != PARENT}")]
    result = zlib.crc32(data)
    lines.append(log(f"checksum {result:08x}"))
    return result, lines


async def handle(pool: WorkerPool, number: int) -> list[str]:
    """Serve one request, beside many others."""
    request_id.set(f"request-{number}")
    lines = [log("received")]
    _, told = await pool.submit(checksum, bytes(number * 1000))
    return [*lines, *told, log("answered")]


PARENT = os.getpid()


async def main() -> None:
    async with WorkerPool(2) as pool:
        for lines in await asyncio.gather(*(handle(pool, number) for number in (1, 2, 3))):
            print("\n".join(lines))
        _, told = await pool.submit(checksum, b"outside of any request")
        print("\n".join(told))


asyncio.run(main())
