"""Calls that come from where a pool's event loop is not (FAULTS 28): refused, and the pool is unharmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import tasks
from support.gates import Gate

from offloop import Execution, WorkerPool


@pytest.mark.parametrize("factory", ["process", "thread"])
@pytest.mark.parametrize("is_debug", [False, True])
async def test_kill_release_and_cancel_from_another_thread_are_refused(
    factory: str, is_debug: bool, gate: Gate
) -> None:
    asyncio.get_running_loop().set_debug(is_debug)
    async with WorkerPool(1, factory=factory) as pool:
        async with pool.get_worker() as leased:
            running: Execution[object] = leased.submit(tasks.pass_gate, gate.path)
            await gate.arrived()
            calls: list[Callable[[], object]] = [pool.kill, leased.kill, leased.release, running.cancel]
            with ThreadPoolExecutor(1) as thread:
                for call in calls:
                    with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
                        await asyncio.wrap_future(thread.submit(call))
            gate.open()
            await running
        assert await pool.submit(tasks.echo, 1) == 1


@pytest.mark.parametrize("use", ["anext", "aclose", "first", "await"])
@pytest.mark.parametrize("kind", ["stream", "map"])
def test_a_stream_or_map_that_is_used_on_another_loop_is_unharmed(kind: str, use: str) -> None:
    async def begin() -> None:
        nonlocal items
        items = pool.stream(range_of, 2000) if kind == "stream" else pool.map(abs, range(2000))
        assert await anext(items) == 0

    async def elsewhere() -> None:
        with pytest.raises((RuntimeError, TypeError)):  # a stream can't be awaited at all
            await USES[use](items)

    async def go_on() -> None:
        assert [item async for item in items] == [*range(1, 2000)]

    items: Any = None
    pool = WorkerPool(1, factory="thread")
    run_with_another_loop_between(pool, begin, elsewhere, go_on)


def run_with_another_loop_between(
    pool: WorkerPool,
    before: Callable[[], Coroutine[Any, Any, None]],
    elsewhere: Callable[[], Coroutine[Any, Any, None]],
    after: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Use a pool on its event loop, something of it on another one, and the pool again; then end it."""
    with asyncio.Runner() as runner:
        runner.run(before())
        asyncio.run(elsewhere())
        runner.run(after())
        runner.run(_end(pool))


def range_of(count: int) -> Iterator[int]:
    """A generator."""
    yield from range(count)


async def _first(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        break


async def _awaited(items: Any) -> Any:
    return await items


USES: dict[str, Callable[[Any], Any]] = {
    "anext": anext,
    "aclose": lambda items: items.aclose(),
    "first": _first,
    "await": _awaited,
}


def test_kill_from_another_event_loop_is_refused() -> None:
    async def use() -> None:
        assert await pool.submit(tasks.echo, 1) == 1

    async def kill() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            pool.kill()

    pool = WorkerPool(1, factory="thread")
    run_with_another_loop_between(pool, use, kill, use)


def test_kill_is_taken_where_no_event_loop_runs() -> None:
    async def use() -> None:
        assert await pool.submit(tasks.echo, 1) == 1

    pool = WorkerPool(1, factory="thread")
    with asyncio.Runner() as runner:
        runner.run(use())
        pool.kill()
        runner.run(_end(pool))


async def _end(pool: WorkerPool) -> None:
    await pool.shutdown()
