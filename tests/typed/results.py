"""What type checkers make of a user's program: mypy and pyright read it, nobody runs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

import offloop
from offloop import CallableTask, Environment, Execution, Executor, Stream, Task, WorkerPool
from offloop.mapping import Map

V = TypeVar("V")


def text(number: int) -> str:
    return str(number)


async def atext(number: int) -> str:
    return str(number)


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


async def anumbers(count: int) -> AsyncIterator[float]:
    for number in range(count):
        yield float(number)


def maybe(number: int) -> str | None:
    return None if number else ""


class Length(Task[int]):
    def run(self, environment: Environment) -> int:
        return len(environment)


class AsyncLength(Task[int]):
    async def run(self, environment: Environment) -> int:
        return len(environment)


class Keys(Task[list[str]]):
    def run(self, environment: Environment) -> Iterator[str]:
        yield from environment


@dataclass(slots=True)
class Same(Task[V], Generic[V]):
    value: V

    def run(self, environment: Environment) -> V:
        return self.value


class Plain:
    def run(self, environment: Environment) -> bytes:
        return b""


async def submit(pool: WorkerPool) -> None:
    execution: Execution[str] = pool.submit(text, 1)
    assert_type(await execution, str)
    assert_type(await pool.submit(text, 1), str)
    assert_type(await pool.submit(text, number=1), str)
    assert_type(await pool.submit(atext, 1), str)
    assert_type(await pool.submit(numbers, 1), list[int])
    assert_type(await pool.submit(anumbers, 1), list[float])
    assert_type(await pool.submit(maybe, 1), str | None)
    assert_type(await pool.submit(lambda: 3), int)
    assert_type(await pool.submit(len, "abc"), int)
    assert_type(await pool.submit(Length), Length)
    assert_type(await pool.submit(json.loads, "1"), Any)
    assert_type(await pool.options(timeout=1).submit(text, 1), str)
    assert_type(await pool.get_worker().submit(atext, 1), str)
    assert_type(await asyncio.gather(pool.submit(text, 1), pool.enqueue(Length())), tuple[str, int])
    await pool.submit(text, "1")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]


async def enqueue(pool: WorkerPool) -> None:
    assert_type(await pool.enqueue(Length()), int)
    assert_type(await pool.enqueue(AsyncLength(), timeout=1, priority=1, retries=1, key="key"), int)
    assert_type(await pool.enqueue(Keys()), list[str])
    assert_type(await pool.enqueue(Same(1.5)), float)
    assert_type(await pool.enqueue(Plain()), Any)
    assert_type(await pool.enqueue(CallableTask(text, 1)), str)
    assert_type(await pool.enqueue(CallableTask(atext, 1)), str)
    assert_type(await pool.enqueue(CallableTask(numbers, 1)), list[int])
    assert_type(await pool.get_worker().enqueue(Length()), int)
    assert_type(await pool.broadcast(Length()), list[int])
    assert_type(await pool.broadcast(text, 1), list[str])
    assert_type(await pool.broadcast(atext, 1), list[str])


async def iterate(pool: WorkerPool) -> None:
    results: Map[str] = pool.map(text, [1])
    assert_type(await results, list[str])
    assert_type(await pool.map(atext, [1], ordered=False, chunksize=2), list[str])
    assert_type(await pool.map(numbers, [1], timeout=1.0), list[list[int]])
    assert_type(await pool.map(text, [1], return_exceptions=True), list[str | BaseException])
    async for item in pool.map(text, [1]):
        assert_type(item, str)
    assert_type(pool.stream(numbers, 1), Stream[int])
    assert_type(pool.stream(anumbers, count=1), Stream[float])
    assert_type(pool.stream(Keys()), Stream[str])
    async for number in pool.stream(numbers, 1):
        assert_type(number, int)


async def module_level() -> None:
    assert_type(await offloop.submit(text, 1), str)
    assert_type(await offloop.submit(anumbers, 1), list[float])
    assert_type(await offloop.enqueue(Length(), timeout=1), int)
    assert_type(await offloop.map(atext, [1], buffersize=2), list[str])
    assert_type(offloop.stream(numbers, 1), Stream[int])
    assert_type(await offloop.to_process(text, 1), str)
    assert_type(await offloop.to_process(atext, 1), str)
    assert_type(await offloop.to_interpreter(numbers, 1), list[int])


def synchronous(executor: Executor) -> None:
    assert_type(executor.submit(text, 1).result(), str)
    assert_type(list(executor.map(text, [1])), list[str])
