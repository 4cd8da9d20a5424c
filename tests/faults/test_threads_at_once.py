"""Many threads use one thing at once: they switch all the time, and without the GIL they run in parallel."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import pytest
from support import arrays, tasks
from support.gates import Log
from support.threads_at_once import run_and_note, speak_from_threads

from offloop import Execution, Executor, ThreadWorkerFactory, WorkerPool

pytestmark = pytest.mark.usefixtures("restless")
THREADS = 6


def on_threads(work: Callable[[int], None]) -> None:
    """Call ``work(0)``, ``work(1)``… on threads that start together; raise what one of them raised."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(run, range(THREADS)))


@pytest.mark.parametrize("factory", ["thread", "process"])
def test_an_executor_that_many_threads_submit_to_and_cancel(factory: str, log: Log) -> None:
    each = 150
    outcomes: list[Counter[str]] = [Counter() for _ in range(THREADS)]

    def work(number: int) -> None:
        chance = random.Random(number)
        futures: list[tuple[int, Future[int], bool]] = []
        for item in range(number * each, (number + 1) * each):
            future = executor.submit(run_and_note, log.path, item)
            futures.append((item, future, chance.random() < 0.3 and future.cancel()))
        for item, future, cancelled in futures:
            assert future.cancelled() == cancelled
            if cancelled:
                with pytest.raises(CancelledError):
                    future.result(30)
            else:
                assert future.result(30) == -item
            outcomes[number]["cancelled" if cancelled else "done"] += 1

    with Executor(3, factory=factory) as executor:
        on_threads(work)
    total = sum(outcomes, Counter[str]())
    assert total.total() == THREADS * each
    assert len(log.lines()) == len(set(log.lines())) == total["done"], "each ran once, no cancelled one did"


def test_executors_that_come_and_go_in_many_threads() -> None:
    def work(number: int) -> None:
        for item in range(5):
            with Executor(2, factory="thread") as executor:
                assert list(executor.map(abs, range(-item - number, 0))) == [*range(item + number, 0, -1)]

    on_threads(work)


def test_an_executor_that_is_shut_down_while_threads_submit() -> None:
    executor = Executor(2, factory="thread")
    submitted: list[list[Future[int]]] = [[] for _ in range(THREADS)]

    def work(number: int) -> None:
        for item in range(400):
            if number == 0 and item == 100:
                executor.shutdown(wait=False, cancel_futures=True)
            try:
                submitted[number].append(executor.submit(abs, -item))
            except RuntimeError:
                return  # it takes no more

    on_threads(work)
    executor.shutdown()
    for future in chain(*submitted):
        assert future.done()
        assert future.cancelled() or future.exception() is None


async def last_report(execution: Execution[Any]) -> float:
    """How far the task had come when it ended, by what it reported."""
    done = 0.0
    async for progress in execution.progress():
        assert progress.done >= done
        done = progress.done
    return done


async def test_what_the_threads_of_a_task_say_arrives_whole_and_in_order() -> None:
    async with WorkerPool(2, factory=ThreadWorkerFactory()) as pool:
        executions = [pool.submit(speak_from_threads, THREADS, 50) for _ in range(4)]
        reports = [asyncio.ensure_future(last_report(execution)) for execution in executions]

        async def heard(execution: Execution[Any]) -> dict[int, list[int]]:
            said: dict[int, list[int]] = {number: [] for number in range(THREADS)}
            for _ in range(THREADS * 50):
                speaker, item = await execution.channel.receive()
                said[speaker].append(item)
            return said

        for said in await asyncio.gather(*map(heard, executions)):
            assert all(items == list(range(50)) for items in said.values())
        assert await asyncio.gather(*executions) == [THREADS * 50] * 4
        assert await asyncio.gather(*reports) == [THREADS * 50] * 4


async def test_cancels_race_with_the_ends_of_tasks_on_threads() -> None:
    chance = random.Random(1)
    ran: list[int] = []
    async with WorkerPool(4, factory=ThreadWorkerFactory(concurrency=2), cancel_grace=30) as pool:
        for _ in range(40):
            first = len(ran)
            executions = [pool.submit(ran.append, number) for number in range(50)]
            await asyncio.sleep(0)
            chosen = [execution for execution in executions if chance.random() < 0.5]
            for execution in chosen:
                execution.cancel()
                if chance.random() < 0.1:
                    await asyncio.sleep(0)
            results = await asyncio.gather(*executions, return_exceptions=True)
            done = results.count(None)
            assert done + sum(isinstance(result, asyncio.CancelledError) for result in results) == 50
            assert len(ran) - first >= done
            assert len(set(ran[first:])) == len(ran) - first, "none ran twice"
        assert await pool.submit(tasks.echo, 1) == 1
        assert pool.worker_count == 4


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")
async def test_arrays_that_arrive_are_let_go_on_any_thread() -> None:
    async with WorkerPool(1) as pool:
        got: list[Any] = [await pool.submit(arrays.numbers, 1 << 20, item) for item in range(2 * THREADS)]

        def work(number: int) -> None:
            mine = [got[number], got[number + THREADS]]
            got[number] = got[number + THREADS] = None
            views = [array[number:] for array in mine for _ in range(50)]
            random.Random(number).shuffle(views)
            while views:
                del views[-1]

        await asyncio.to_thread(partial(on_threads, work))
        gc.collect()
        again = [await pool.submit(arrays.numbers, 1 << 20, number) for number in range(2 * THREADS)]
        assert [int(array[0]) for array in again] == [*range(2 * THREADS)]
        del again
