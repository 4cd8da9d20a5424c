"""Inline workers: what they promise beyond the contract, and where they must not hang or go on."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest
from support import tasks
from support.bounds import LoopRunner, eventually
from support.gates import Gate, Log

import offloop
from offloop import (
    Environment,
    Execution,
    LocalEnvironment,
    TaskFailed,
    WorkerKilled,
    WorkerPool,
    current_task,
)
from offloop.testing import InlineWorkerFactory

inline = InlineWorkerFactory()


def where() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


async def loop_of_the_task() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def test_tasks_run_in_the_caller() -> None:
    async with inline.create() as worker:
        assert await worker.submit(where) == where()
        assert await worker.submit(loop_of_the_task) is asyncio.get_running_loop()


async def who_ran_what(durations: list[float]) -> list[tuple[int, int]]:
    """The worker and the task of each call, in the order in which they began, if they take so long."""
    began: list[tuple[int, int]] = []

    def call(seconds: float) -> None:
        began.append((current_task().worker_id, current_task().task_id))
        time.sleep(seconds)

    async with WorkerPool(3, factory=inline) as pool:
        await asyncio.gather(*(pool.submit(call, seconds) for seconds in durations))
        await asyncio.gather(*(pool.submit(call, seconds) for seconds in durations))
    return began


async def test_which_worker_runs_what_does_not_depend_on_how_long_it_takes() -> None:
    quick = await who_ran_what([0.0] * 20)
    assert [task for _, task in quick] == list(range(1, 41))
    assert {worker for worker, _ in quick} == {1, 2, 3}
    assert await who_ran_what([0.02 if number % 7 == 3 else 0.0 for number in range(20)]) == quick
    assert await who_ran_what([0.003 * number for number in range(20)]) == quick


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_each_task_begins_in_a_turn_of_its_own(concurrency: int) -> None:
    turns = 0

    def count_turns() -> None:
        nonlocal turns
        turns += 1
        if counting:
            loop.call_soon(count_turns)

    loop, counting = asyncio.get_running_loop(), True
    async with InlineWorkerFactory(concurrency=concurrency).create() as worker:
        await worker.submit(tasks.echo, 1)
        loop.call_soon(count_turns)
        seen = await asyncio.gather(*(worker.submit(lambda: turns) for _ in range(8)))
        counting = False
    assert len(set(seen)) == 8


async def test_a_task_can_cancel_the_next_one() -> None:
    async with InlineWorkerFactory(concurrency=2).create() as worker:
        executions: list[Execution[Any]] = []
        executions.append(worker.submit(lambda: executions[1].cancel()))
        executions.append(worker.submit(tasks.echo, 1))
        assert await executions[0] is True
        await asyncio.wait(executions)
        assert executions[1].cancelled()


async def test_a_task_that_cancels_itself_can_find_out() -> None:
    def cancel_me() -> None:
        executions[0].cancel()
        assert current_task().cancelled
        current_task().raise_if_cancelled()

    def go_on() -> str:
        executions[1].cancel()
        return "done"

    async with inline.create() as worker:
        executions: list[Execution[Any]] = [worker.submit(cancel_me), worker.submit(go_on)]
        await asyncio.wait(executions)
        assert executions[0].cancelled()
        assert executions[1].result() == "done"
        assert await worker.submit(lambda: current_task().cancelled) is False


async def test_a_timeout_passes_unnoticed_while_a_sync_task_runs() -> None:
    async with inline.create() as worker:
        assert await worker.options(timeout=0.001).submit(time.sleep, 0.02) is None


async def test_context_variables_of_a_task_are_not_those_of_the_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")

    async def set_it() -> None:
        variable.set("the task's")

    async with inline.create() as worker:
        await worker.submit(variable.set, "the task's")
        await worker.submit(set_it)
        with pytest.raises(LookupError):
            current_task()
    assert variable.get() == "nobody's"


async def test_the_global_pool_can_be_inline() -> None:
    offloop.factory(InlineWorkerFactory())
    assert await offloop.submit(where) == where()
    assert await offloop.create_worker().shutdown() == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [({"concurrency": 0}, ValueError), ({"environment": 3}, TypeError), ({"bootstrap": 3}, TypeError)],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        InlineWorkerFactory(**options)


# --- ends ------------------------------------------------------------------------------------------


async def test_kill_cancels_an_async_task_and_then_closes_the_environment(gate: Gate, log: Log) -> None:
    async def wait() -> None:
        current_task().environment.set("key", "closed", on_delete=lambda v: tasks.append_line(log.path, v))
        try:
            await tasks.apass_gate(gate.path)
        finally:
            tasks.append_line(log.path, "finally")

    worker = inline.create()
    held = worker.submit(wait)
    await gate.arrived()
    worker.kill()
    with pytest.raises(WorkerKilled):
        await held
    await worker.shutdown()
    await eventually(lambda: len(log.lines()) == 2)
    assert log.lines() == ["finally", "closed"]


async def test_nothing_starts_after_kill(log: Log) -> None:
    async with WorkerPool(1, factory=InlineWorkerFactory(concurrency=3)) as pool:
        await pool.submit(tasks.echo, 1)

        def kill() -> Any:
            pool.kill()
            return wait()

        async def wait() -> None:
            await asyncio.sleep(3600)

        executions = [pool.submit(kill), *(pool.submit(tasks.append_line, log.path, n) for n in range(5))]
        outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WorkerKilled] * 6
        # The one that went on as a coroutine is cancelled as well.
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
    assert log.lines() == []


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_bootstrap_can_kill_its_worker(is_async: bool) -> None:
    async def bootstrap(environment: Environment) -> None:
        worker.kill()
        await asyncio.sleep(0)

    worker = InlineWorkerFactory(bootstrap=bootstrap if is_async else lambda _: worker.kill()).create()
    with pytest.raises(WorkerKilled):
        await worker.submit(tasks.echo, 1)
    assert isinstance(await worker.shutdown(), int)


async def test_a_bootstrap_that_never_ends_can_be_killed() -> None:
    async def bootstrap(environment: Environment) -> None:
        begun.set()
        await asyncio.sleep(3600)

    begun = asyncio.Event()
    worker = InlineWorkerFactory(bootstrap=bootstrap).create()
    execution = worker.submit(tasks.echo, 1)
    await begun.wait()
    worker.kill()
    with pytest.raises(WorkerKilled):
        await execution
    await worker.shutdown()


async def test_an_async_task_that_ignores_its_cancellation_is_abandoned_with_a_warning(gate: Gate) -> None:
    async def stubborn() -> None:
        try:
            await tasks.apass_gate(gate.path)
        except asyncio.CancelledError:
            await released.wait()

    released = asyncio.Event()
    async with WorkerPool(1, factory=inline, cancel_grace=0.05) as pool:
        held = pool.submit(stubborn)
        await gate.arrived()
        with pytest.warns(RuntimeWarning, match="abandoned"):  # noqa: PT031
            held.cancel()
            assert await pool.submit(lambda: current_task().worker_id) == 2
            await asyncio.sleep(0)
        assert held.cancelled()
        released.set()


class BrokenEnvironment(LocalEnvironment):
    def close(self) -> NoReturn:
        raise SystemExit("not to be closed")


async def test_an_environment_that_cannot_be_closed_is_a_crash_that_is_told() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    worker = InlineWorkerFactory(environment=BrokenEnvironment).create()
    assert await worker.submit(tasks.echo, 1) == 1
    assert await worker.shutdown() == 1
    assert [repr(error) for error in told] == ["SystemExit('not to be closed')"]


async def test_async_callbacks_are_awaited_before_the_worker_has_ended() -> None:
    async def on_delete(value: str) -> None:
        await asyncio.sleep(0.01)
        deleted.append(value)

    deleted: list[str] = []
    async with inline.create() as worker:
        await worker.enqueue(tasks.Remember("key", "value", on_delete=on_delete))
    assert deleted == ["value"]


def test_a_loop_that_ends_takes_its_inline_workers_along(run_loop: LoopRunner) -> None:
    async def leave_it_running() -> None:
        kept.append(inline.create())
        executions.append(kept[0].submit(asyncio.sleep, 3600))
        await eventually(lambda: executions[0].started_at is not None)

    kept: list[offloop.Worker] = []
    executions: list[Execution[Any]] = []
    with pytest.warns(ResourceWarning, match="never shut down"):
        run_loop(leave_it_running())
    assert executions[0].done()
    assert isinstance(executions[0].exception(), TaskFailed)  # what was cancelled is the task's own task
    assert not kept[0].is_running()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks before Python 3.12")
@pytest.mark.parametrize("kind", ["inline", "process", "thread"])
async def test_eager_tasks_on_the_loop_do_not_confuse_a_worker(kind: str) -> None:
    async def make_eager() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

    async def at_once() -> int:
        return current_task().task_id

    async with WorkerPool(1, factory=inline if kind == "inline" else kind) as pool:
        await pool.submit(make_eager)
        for _ in range(3):
            execution = pool.submit(at_once)
            assert await execution == execution.id
