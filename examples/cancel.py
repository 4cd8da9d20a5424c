"""Cancel work that runs, in each of the four ways; the running code is interrupted and tidies up.

Run it with ``python examples/cancel.py``.
"""

from __future__ import annotations

import asyncio
import time

from offloop import TaskTimeout, WorkerPool, current_task


def work(name: str) -> None:
    """Block for an hour, in a call that knows nothing of cancellation."""
    environment = current_task().environment
    try:
        time.sleep(3600)
    finally:
        environment["tidied up"] = [*environment.get("tidied up", []), name]


def tidied_up() -> list[str]:
    return current_task().environment.get("tidied up", [])


async def by_hand(pool: WorkerPool) -> str:
    execution = pool.submit(work, "by hand")
    await asyncio.sleep(0.5)
    execution.cancel()
    try:
        await execution
    except asyncio.CancelledError:
        return "the execution was cancelled"
    return "?"


async def by_asyncio_timeout(pool: WorkerPool) -> str:
    try:
        async with asyncio.timeout(0.5):  # seconds from now, waiting in the queue included
            await pool.submit(work, "by asyncio.timeout")
    except TimeoutError:
        return "asyncio's TimeoutError"
    return "?"


async def by_task_group(pool: WorkerPool) -> str:
    async def wait_for_it() -> None:
        await pool.submit(work, "by a failing task group")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_it())
            await asyncio.sleep(0.5)
            raise ValueError("something else failed")
    except ExceptionGroup as failed:
        return f"the group failed with {failed.exceptions[0]!r}, and ended its work"
    return "?"


async def by_option(pool: WorkerPool) -> str:
    try:
        await pool.options(timeout=0.5).submit(work, "by timeout=")  # seconds of running
    except TaskTimeout as error:
        return f"TaskTimeout: {error}"
    return "?"


async def main() -> None:
    async with WorkerPool(1, min_workers=1) as pool:
        await pool.submit(tidied_up)  # now the worker is there
        for way in by_hand, by_asyncio_timeout, by_task_group, by_option:
            print(f"{way.__name__:20} {await way(pool)}")
        print("tidied up:", ", ".join(await pool.submit(tidied_up)))


asyncio.run(main())
