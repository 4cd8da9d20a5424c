"""Where features meet: what one does in the way of another."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from contextvars import ContextVar
from typing import Any

import pytest
from support.bounds import fail_after

from offloop import CallableTask, SerializationError, WorkerPool, current_task

request: ContextVar[str] = ContextVar("request", default="nobody's")


def count_to(end: int) -> Any:
    yield from range(end)


async def test_two_streams_read_in_turns_do_not_wait_for_each_other_on_one_worker() -> None:
    async with WorkerPool(4) as pool, fail_after(30):
        for _ in range(10):  # the kind of task is known to be short, and one worker lives
            async for _ in pool.stream(count_to, 3):
                pass
        async with pool.stream(count_to, 1000) as one, pool.stream(count_to, 1000) as two:
            async for item in one:
                assert await anext(two) == item


def say(size: int) -> int:
    task = current_task()
    task.report(size)
    task.channel.send(bytes(size))
    return size


@pytest.mark.parametrize("size", [1, 100_000, 2_000_000])
async def test_what_a_task_said_last_is_heard_before_its_result(size: int) -> None:
    async with WorkerPool(1) as pool:
        for _ in range(20):
            await pool.submit(say, 1)  # short ones: from now on they are sent ahead of time
        for _ in range(5):
            executions = [pool.submit(say, size) for _ in range(6)]
            assert await asyncio.gather(*executions) == [size] * 6
            for execution in executions:
                assert len(await execution.channel.receive()) == size
                assert [report.done async for report in execution.progress()] == [size]


async def test_a_timeout_shorter_than_the_clocks_step_ends_its_task_and_no_other() -> None:
    async with WorkerPool(2) as pool:
        brief = pool.options(timeout=1e-7)
        outcomes = await asyncio.gather(*(brief.submit(abs, n) for n in range(200)), return_exceptions=True)
        assert len(outcomes) == 200
        assert await pool.submit(abs, -1) == 1


def stop_self(really: bool) -> None:
    if really:
        os.kill(os.getpid(), signal.SIGSTOP)


async def test_cancelled_tasks_of_a_lease_are_cancelled_also_when_their_worker_has_to_be_killed() -> None:
    async with WorkerPool(1, cancel_grace=0.2) as pool, pool.get_worker() as worker:
        for _ in range(30):
            await worker.submit(stop_self, False)
        executions = [worker.submit(stop_self, number == 0) for number in range(4)]
        await asyncio.sleep(0.05)  # some are sent, some wait: all shall be cancelled, wherever they are
        for execution in executions:
            execution.cancel()
        await asyncio.wait(executions)
        assert [execution.cancelled() for execution in executions] == [True] * 4


class Touchy:
    """An iterator that nobody may ask for its truth."""

    def __bool__(self) -> bool:
        raise RuntimeError("do not ask")

    def __iter__(self) -> Touchy:
        return self

    def __next__(self) -> str:
        import time

        time.sleep(0.01)
        return "item"


async def test_asking_for_a_stack_never_runs_the_users_code() -> None:
    async with WorkerPool(1) as pool:
        async with pool.stream(Touchy) as stream:
            for _ in range(5):
                await stream.execution.stack()
                await anext(stream)
        assert await pool.submit(abs, -1) == 1


def log_once() -> None:
    logging.getLogger("seams").warning("once")


async def test_handlers_of_a_workers_records_do_not_run_in_the_context_of_another_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(request.get())  # type: ignore[method-assign]
    logger = logging.getLogger("seams")
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "propagate", False)
    try:
        async with WorkerPool(1) as pool:
            for name in "first", "second":
                request.set(name)
                await asyncio.create_task(_logged(pool))
    finally:
        logger.removeHandler(handler)
    assert "first" not in seen[1:]
    assert len(seen) == 2


async def _logged(pool: WorkerPool) -> None:
    await pool.submit(log_once)


class Unbound:
    """A proxy whose target can't be had: here it can't be looked at, and there not be loaded."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__module__":
            raise RuntimeError("no target is bound")
        return super().__getattribute__(name)

    def __call__(self, *args: Any) -> None:
        """It is never called."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


async def test_what_can_not_be_looked_at_nor_loaded_fails_and_takes_nothing_along() -> None:
    async with WorkerPool(1) as pool:
        execution, other = pool.submit(Unbound()), pool.submit(abs, -1)
        with pytest.raises(SerializationError, match="could not be loaded"):
            await execution
        with pytest.raises(SerializationError, match="could not be loaded"):
            await pool.map(Unbound(), [1])
        assert await other == 1


class Counting(WorkerPool):
    """A pool that sees what is enqueued."""

    count = 0

    def enqueue(self, task: Any, **options: Any) -> Any:
        self.count += 1
        return super().enqueue(task, **options)


async def test_options_of_a_pool_go_by_its_own_enqueue() -> None:
    async with Counting(1, factory="thread") as pool:
        seen = pool.options(retries=1)
        await seen.enqueue(CallableTask(abs, -1))
        await seen.map(abs, [-1])
        assert pool.count == 2


async def test_all_that_takes_a_task_tells_its_options() -> None:
    async with WorkerPool(1, factory="thread") as pool:
        names = list(inspect.signature(pool.enqueue).parameters)
        assert names == ["task", "timeout", "priority", "retries", "key"]
        for one in (pool.options(), pool.get_worker(), pool.get_worker().options()):
            assert list(inspect.signature(one.enqueue).parameters) == names
            assert list(inspect.signature(one.map).parameters) == list(inspect.signature(pool.map).parameters)
            with pytest.raises(TypeError, match="enqueue"):
                one.enqueue(CallableTask(abs, -1), bogus=1)  # type: ignore[call-overload]
