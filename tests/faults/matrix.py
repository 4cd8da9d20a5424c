"""The matrix: faults, each in every context where it applies, each followed by innocent tasks.

docs/reliability.md has the table of faults, and says which rows a test is about.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually

from offloop import (
    InterpreterWorkerFactory,
    ProcessWorkerFactory,
    ThreadWorkerFactory,
    WorkerFactory,
    WorkerPool,
)

#: Every local context.  A new one finds its place in `APPLIES`, too.
CONTEXTS: dict[str, Callable[..., WorkerFactory]] = {
    "process": ProcessWorkerFactory,
    "exec": lambda **options: ProcessWorkerFactory(start_method="exec", **options),
    "thread": ThreadWorkerFactory,
}
if sys.version_info >= (3, 14):
    CONTEXTS["interpreter"] = InterpreterWorkerFactory
#: Those whose workers are processes: they may die, and be interrupted in a blocking call.
PROCESSES = ("process", "exec")

#: Where a fault applies: to whatever runs tasks; where objects are pickled; where a worker may die, or
#: be spoilt, by itself.  What only fails is the same in a process however that was started.
APPLIES = {
    "everywhere": ("process", "thread", "interpreter"),
    "pickling": ("process", "interpreter"),
    "sharing": ("thread",),
    "own process": ("process",),
    "any process": PROCESSES,
}


@dataclass(frozen=True)
class Gives:
    """The execution has this result, or, by default, any."""

    value: Any = ...

    def check(self, outcome: Any) -> None:
        assert not issubclass(type(outcome), BaseException), outcome
        assert self.value is ... or outcome == self.value


class Raises:
    """The execution fails with one of these errors, which has this text."""

    def __init__(self, *errors: type[BaseException], match: str = "") -> None:
        self.errors, self.match = errors, match

    def check(self, outcome: Any) -> None:
        assert issubclass(type(outcome), self.errors), outcome
        assert not self.match or re.search(self.match, str(outcome)), outcome


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: the fault, as the test's id says it.
        cause: given a pool of one worker, causes it, and returns what is to end.
        ending: how that has to end.
        where: a key of `APPLIES`.
        worker: "kept", "lost", "kept or lost", or "spoilt": beyond repair, so that tasks behind
            may fail as well, until the pool is recycled.
    """

    name: str
    cause: Callable[[WorkerPool], Awaitable[Any]]
    ending: Gives | Raises
    where: str = "everywhere"
    worker: str = "kept"


def matrix(faults: list[Fault]) -> pytest.MarkDecorator:
    """Parametrise a test by each fault in each context where it applies."""
    cells = [
        pytest.param(context, fault, id=f"{fault.name}-{context}")
        for fault in faults
        for context in APPLIES[fault.where]
        if context in CONTEXTS
    ]
    return pytest.mark.parametrize(("context", "fault"), cells)


async def survive(context: str, fault: Fault, **options: Any) -> None:
    """Cause a fault among innocent tasks, none of which may notice."""
    factory = CONTEXTS[context](**options)
    async with WorkerPool(1, factory=factory, cancel_grace=0.5) as pool:
        before = await pool.submit(tasks.identity)
        outcome, *behind = await asyncio.gather(
            _caused(fault, pool), *(pool.submit(tasks.echo, n) for n in range(3)), return_exceptions=True
        )
        fault.ending.check(outcome)
        del outcome
        if fault.worker == "spoilt":
            await pool.recycle()
        else:
            assert behind == [0, 1, 2]
        after = await pool.submit(tasks.identity)
        if fault.worker in ("kept", "lost"):
            assert (after == before) is (fault.worker == "kept")
        await innocent_tasks_succeed(pool, blocking=context in PROCESSES)


async def _caused(fault: Fault, pool: WorkerPool) -> Any:
    return await fault.cause(pool)


async def innocent_tasks_succeed(pool: WorkerPool, *, blocking: bool) -> None:
    """Tasks of each kind do as they should; a blocking call is interrupted, where that can be."""
    good = [pool.submit(tasks.echo, "good"), pool.submit(tasks.aecho, "good"), pool.submit(lambda: "good")]
    assert await asyncio.gather(*good) == ["good"] * 3
    with pytest.raises(ValueError, match="as it should"):
        await pool.submit(tasks.fail, ValueError("as it should"))
    for waits in [asyncio.sleep, time.sleep] if blocking else [asyncio.sleep]:
        waiting = pool.submit(waits, 60)
        await eventually(lambda: waiting.started_at is not None)  # noqa: B023
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await pool.submit(tasks.echo, "still good") == "still good"
