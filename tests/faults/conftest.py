"""What the tests of faults share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support import tasks
from support.bounds import TEST_BOUND, fail_after

from offloop import WorkerPool


async def _bounded(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async with fail_after(TEST_BOUND):
        return await coroutine


async def _keeper() -> WorkerPool:
    pool = WorkerPool(1)
    await pool.submit(tasks.aecho, 1)
    return pool


@pytest.fixture(scope="module")
def same_loop(request: pytest.FixtureRequest) -> Iterator[Callable[[Coroutine[Any, Any, Any]], None]]:
    """Runs the coroutines of many tests, one after the other, on one event loop.

    A pool there keeps the template of worker processes alive, so that not each test starts its own:
    that takes longer than most faults.
    """
    make_loop = None
    if request.config.getoption("--uvloop"):
        import uvloop

        make_loop = uvloop.new_event_loop
    errors: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
        keeper = runner.run(_keeper())

        def run(coroutine: Coroutine[Any, Any, Any]) -> None:
            errors.clear()
            runner.run(_bounded(coroutine))
            gc.collect()  # a future reports an exception that nobody retrieved when it is collected
            assert not errors, "the event loop was told of errors"

        yield run
        runner.run(keeper.shutdown())
