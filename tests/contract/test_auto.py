"""``factory="auto"``: what it picks, and that it says so."""

from __future__ import annotations

import os
import sys

import pytest
from support import tasks

import offloop
from offloop import AutoWorkerFactory, Environment, WorkerPool
from offloop.contexts import auto
from offloop.contexts.interpreter import has_interpreters


@pytest.fixture(params=[True, False], ids=["gil", "no gil"])
def has_gil(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this Python says that it has a GIL, as those before 3.13 can't deny."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: request.param, raising=False)
    return bool(request.param)


async def test_it_picks_what_runs_python_in_parallel_here_else_processes(has_gil: bool) -> None:
    async with WorkerPool(1, factory="auto") as pool:
        is_here = await pool.submit(os.getpid) == os.getpid()
    assert is_here is (not has_gil or has_interpreters())


async def test_it_says_what_it_picked(has_gil: bool) -> None:
    picked = ("interpreter" if has_interpreters() else "process") if has_gil else "thread"
    async with WorkerPool(1, factory="auto") as pool:
        await pool.submit(abs, 1)
        assert f"context={picked}>" in repr(pool)
        assert pool.context == pool.statistics().context == picked
        assert pool.statistics().to_dict()["context"] == picked
        assert f"context  {picked}" in str(pool.statistics())


async def test_a_single_worker_is_where_all_code_runs(has_gil: bool) -> None:
    picked = "process" if has_gil else "thread"
    async with AutoWorkerFactory().create() as worker:
        await worker.submit(abs, 1)
        assert f"context={picked}>" in repr(worker)
        assert worker.statistics().context == picked


def test_a_python_that_cannot_say_has_a_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    assert not auto.is_free_threaded()


async def test_a_limit_of_memory_asks_for_processes(has_gil: bool) -> None:
    async with WorkerPool(1, factory="auto", max_memory_per_worker=1 << 40) as pool:
        assert pool.context == "process"
        assert await pool.submit(os.getpid) != os.getpid()


def set_up(environment: Environment) -> None:
    environment.set("ready", os.getpid())


async def test_its_options_reach_what_it_picked(has_gil: bool) -> None:
    factory = AutoWorkerFactory(environment=offloop.LocalEnvironment, bootstrap=set_up, concurrency=3)
    async with WorkerPool(1, factory=factory) as pool:
        assert pool.concurrency == 3
        assert await pool.enqueue(tasks.Recall("ready"))


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"bootstrap": 3}, {"environment": 3}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        AutoWorkerFactory(**options)  # type: ignore[arg-type]
