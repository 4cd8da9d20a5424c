"""Factories that make no workers: what waits for one fails, and the pool ends."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support import tasks

from offloop import (
    ProcessWorkerFactory,
    Task,
    ThreadWorkerFactory,
    Worker,
    WorkerFactory,
    WorkerPool,
    WorkerStartError,
)
from offloop.link import Context, Link, LinkOwner


class Unopened(WorkerFactory):
    """There is no place for workers."""

    def context(self) -> Context:
        raise LookupError("nowhere")


class Unconnected(WorkerFactory):
    """There is a place, and no way to it."""

    def context(self) -> Context:
        class Broken(Context):
            def connect(self, number: int, owner: LinkOwner) -> Link:
                raise LookupError("nowhere")

        return Broken()


FACTORIES: list[WorkerFactory] = [
    Unopened(),
    Unconnected(),
    ProcessWorkerFactory(executable="/no such python"),
]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("is_pool", [True, False])
async def test_what_waits_fails_and_the_pool_ends(factory: WorkerFactory, is_pool: bool) -> None:
    worker: Worker = WorkerPool(2, factory=factory) if is_pool else factory.create()
    executions = [worker.submit(tasks.echo, number) for number in range(5)]
    for execution in executions:
        with pytest.raises(WorkerStartError, match="could not start"):
            await execution
    assert await worker.shutdown() == 0


@pytest.mark.parametrize("factory", FACTORIES[:2])
async def test_the_same_while_somebody_looks(factory: WorkerFactory, tmp_path: Any) -> None:
    pool = WorkerPool(1, factory=factory)
    async with pool.trace(tmp_path / "trace.json"):
        with pytest.raises(WorkerStartError):
            await pool.submit(tasks.echo, 1)
        assert pool.statistics().failed_starts == 3
    await pool.shutdown()


async def test_a_pool_whose_factory_works_again_goes_on() -> None:
    class Flaky(ThreadWorkerFactory):
        def context(self) -> Context:
            if next(attempts):
                raise LookupError("not yet")
            return super().context()

    attempts = iter([True, True, False])
    async with WorkerPool(1, factory=Flaky()) as pool:
        assert await pool.submit(tasks.echo, 1) == 1


@pytest.mark.parametrize("nothing", ["", None])
async def test_a_program_that_does_not_know_its_python_is_told_how_to_say_it(
    nothing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = sys.executable
    monkeypatch.setattr(sys, "executable", nothing)
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerStartError, match=r"sys\.executable .*ProcessWorkerFactory\(executable="):
            await pool.submit(tasks.echo, 1)
    async with WorkerPool(1, factory=ProcessWorkerFactory(executable=python)) as pool:
        assert await pool.submit(tasks.echo, 1) == 1


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("memory_limit", -1, ValueError),
        ("memory_limit", "1 GB", TypeError),
        ("native_threads", 0, ValueError),
        ("native_threads", "many", TypeError),
        ("cpu_affinity", [], ValueError),
        ("cpu_affinity", "spred", ValueError),
        ("cpu_affinity", 3, TypeError),
        ("cpu_affinity", ["0"], TypeError),
        ("cpu_affinity", [-1], ValueError),
        ("env", 5, TypeError),
        ("env", None, TypeError),
        ("env", {"N": 1}, TypeError),
        ("env", {"A=B": "1"}, ValueError),
        ("env", {"A": "\0"}, ValueError),
        ("cwd", 3, TypeError),
        ("executable", 3, TypeError),
        ("nice", "x", TypeError),
        ("nice", 1.5, TypeError),
        ("preload", "numpy", TypeError),
        ("preload", None, TypeError),
        ("preload", [3], TypeError),
    ],
)
def test_options_that_the_system_would_misunderstand_are_refused(
    option: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=option):
        ProcessWorkerFactory(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["priority", "retries"])
@pytest.mark.parametrize("value", [None, [], ""])
async def test_options_that_are_no_numbers_are_refused_also_where_they_are_falsy(
    option: str, value: object
) -> None:
    async with WorkerPool(1, factory="thread") as pool:
        with pytest.raises(TypeError, match=option):
            pool.enqueue(tasks.Echo(1), **{option: value})  # type: ignore[arg-type]


async def test_a_task_that_is_broadcast_takes_no_arguments() -> None:
    class Nothing(Task[None]):
        def run(self, environment: object) -> None: ...

    async with WorkerPool(1, factory="thread") as pool:
        with pytest.raises(TypeError, match="takes no arguments"):
            await pool.broadcast(Nothing(), 3)  # type: ignore[call-overload]
