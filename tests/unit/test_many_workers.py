"""A pool of a thousand workers on a simulated cluster, and of ten thousand: the program is all real."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offloop import WorkerCrashed, WorkerKilled, WorkerPool

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # no part of the installed package

from benchmarks.simulated import Cluster

#: A call there and back takes twice as long.
LATENCY = 0.002


@pytest.fixture
def few_collections() -> Iterator[None]:
    """Among so many objects the garbage collector would take most of the time."""
    gc.disable()
    yield
    gc.enable()


async def wait_ready(pool: WorkerPool, count: int) -> None:
    """Wait until so many workers are idle."""
    while pool.idle_worker_count < count:
        await asyncio.sleep(0.02)


async def test_a_thousand_workers_share_the_tasks_and_each_runs_once(few_collections: None) -> None:
    cluster = Cluster(latency=LATENCY, jitter=LATENCY)
    async with WorkerPool(1000, factory=cluster.factory(), min_workers=1000) as pool:
        await wait_ready(pool, 1000)
        await asyncio.gather(*(pool.submit(abs, number) for number in range(5000)))
        assert cluster.ran == 5000
        assert len(cluster.workers) == pool.worker_count == 1000
        pool.kill()


async def test_tasks_that_take_longer_go_one_to_a_worker(few_collections: None) -> None:
    cluster = Cluster(latency=LATENCY, seconds=lambda: 1.0)
    async with WorkerPool(1000, factory=cluster.factory(), min_workers=1000) as pool:
        await wait_ready(pool, 1000)
        executions = [pool.submit(abs, number) for number in range(1000)]
        await asyncio.wait(executions)
        assert len({execution.worker_id for execution in executions}) == 1000
        pool.kill()


async def test_machines_of_a_thousand_that_die_cost_what_they_ran_and_the_rest_runs_elsewhere(
    few_collections: None,
) -> None:
    cluster = Cluster(latency=LATENCY, seconds=lambda: 0.05)
    async with WorkerPool(1000, factory=cluster.factory(), min_workers=1000) as pool:
        await wait_ready(pool, 1000)
        executions = [pool.submit(abs, number) for number in range(1500)]
        await asyncio.wait(executions, return_when=asyncio.FIRST_COMPLETED)
        for worker in random.Random(1).sample(cluster.workers, 100):
            worker.die()
        outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), WorkerCrashed}
        crashed = sum(outcome is not None for outcome in outcomes)
        assert crashed <= 200  # what ran, and a task behind it that may have begun
        assert cluster.ran >= 1500 - crashed  # the outcome of one that ran may have been lost
        await wait_ready(pool, 1000)
        pool.kill()


async def test_with_retries_nothing_is_lost_though_machines_die_and_fall_silent(
    few_collections: None,
) -> None:
    cluster = Cluster(latency=LATENCY, seconds=lambda: 0.02)
    factory = cluster.factory(lost_after=1.5)
    async with WorkerPool(300, factory=factory, min_workers=300) as pool:
        await wait_ready(pool, 300)
        executions = [pool.options(retries=5).submit(abs, number) for number in range(1500)]
        await asyncio.wait(executions, return_when=asyncio.FIRST_COMPLETED)
        unlucky = random.Random(2).sample(cluster.workers, 40)
        for worker in unlucky[:20]:
            worker.die()
        for worker in unlucky[20:]:
            worker.fall_silent()
        assert await asyncio.gather(*executions) == [None] * 1500
        pool.kill()


async def test_ten_thousand_workers_start_and_run_a_task_each(few_collections: None) -> None:
    cluster = Cluster(latency=LATENCY, seconds=lambda: 1000.0)
    pool = WorkerPool(10_000, factory=cluster.factory(lost_after=100), min_workers=10_000)
    async with pool:
        await wait_ready(pool, 10_000)
        executions = [pool.submit(abs, number) for number in range(10_000)]
        while sum(worker.is_running_task for worker in cluster.workers) < 10_000:
            await asyncio.sleep(0.05)
        assert pool.statistics().sent == 10_000
        pool.kill()
        outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {WorkerKilled}
