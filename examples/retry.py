"""Run tasks again whose worker died: a library that crashes now and then, and one input that always does.

A task runs again only if it is safe to: ``retries`` says so.  What kills every
worker it gets fails in the end, alone.

Run it with ``python examples/retry.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal

from offloop import WorkerCrashed, WorkerPool, current_task


def decode(image: str) -> str:
    """Stands for a library in C that has its bad days."""
    attempt = current_task().attempt
    if image == "poison.png" or (image == "unlucky.png" and attempt == 1):
        os.kill(os.getpid(), signal.SIGSEGV)
    return f"decoded at attempt {attempt}"


async def main() -> None:
    images = ["a.png", "unlucky.png", "poison.png", "b.png", "c.png"]
    async with WorkerPool(2) as pool:
        executions = [pool.options(retries=2).submit(decode, image) for image in images]
        for image, execution in zip(images, executions, strict=True):
            try:
                print(f"{image:12} {await execution}")
            except WorkerCrashed as crash:
                print(f"{image:12} gave up after {execution.attempt} attempts: {crash.signal}")


asyncio.run(main())
