"""What an execution that has ended keeps alive: nothing, without a collection of garbage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from weakref import ref

import pytest
from support.bounds import eventually

import offloop
from offloop import WorkerPool

pytestmark = pytest.mark.usefixtures("without_collections")


class Argument:
    """It can be watched."""


def give(argument: object) -> Iterator[int]:
    yield from range(1000)


def fail(argument: object) -> None:
    raise ValueError


def report(argument: object) -> None:
    offloop.current_task().report(1)


def say(argument: object) -> None:
    offloop.current_task().channel.send("hello")


# Ways to use a task


async def stream(pool: WorkerPool, argument: object) -> None:
    async for _ in pool.stream(give, argument):
        pass


async def leave_a_stream(pool: WorkerPool, argument: object) -> None:
    async for _ in pool.stream(give, argument):
        break


async def broadcast(pool: WorkerPool, argument: object) -> None:
    try:
        await pool.broadcast(fail, argument)
    except ValueError:
        pass


async def follow(pool: WorkerPool, argument: object) -> None:
    execution = pool.submit(report, argument)
    assert [progress.done async for progress in execution.progress()] == [1]
    await execution


async def listen(pool: WorkerPool, argument: object) -> None:
    execution = pool.submit(say, argument)
    assert [message async for message in execution.channel] == ["hello"]
    await execution


@pytest.mark.parametrize("use", [stream, leave_a_stream, broadcast, follow, listen])
async def test_nothing_of_it(use: Callable[[WorkerPool, Any], Awaitable[None]]) -> None:
    argument = Argument()
    kept = ref(argument)
    async with WorkerPool(1) as pool:
        await pool.submit(abs, 1)
        await use(pool, argument)
        del argument
        await pool.submit(abs, 2)
        await eventually(lambda: kept() is None)
