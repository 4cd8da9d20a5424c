"""The template process dies, or never lives (FAULTS 40): nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from support.bounds import wait_exit

from offloop import ProcessWorkerFactory, WorkerCrashed, WorkerPool, WorkerStartError
from offloop.contexts import template


def parent_of_worker() -> int:
    return os.getppid()


@pytest.fixture
def dying_template(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every template dies as it starts; the list has what was launched."""
    launched: list[str] = []
    launch = template.launch

    def launch_dying(python: Any, code: str, fds: tuple[int, ...]) -> Any:
        launched.append(code)
        return launch(python, "sys.exit(3)" if "main(" in code else code, fds)

    monkeypatch.setattr(template, "launch", launch_dying)
    return launched


async def test_without_a_template_workers_are_started_one_by_one(dying_template: list[str]) -> None:
    async with WorkerPool(2) as pool:
        assert await pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        assert await pool.submit(parent_of_worker) == os.getpid()
    assert any("main(" in code for code in dying_template)


async def test_exec_starts_workers_of_its_own_that_die_and_are_replaced_as_forked_ones() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method="exec")) as pool:
        assert await pool.submit(parent_of_worker) == os.getpid()
        with pytest.raises(WorkerCrashed) as caught:
            await pool.submit(os._exit, 3)
        assert caught.value.exit_code == 3
        assert await pool.submit(abs, -1) == 1


async def test_a_template_that_is_killed_is_replaced() -> None:
    async with WorkerPool(1) as pool:
        first = await pool.submit(parent_of_worker)
        os.kill(first, signal.SIGKILL)
        assert await asyncio.to_thread(wait_exit, first, 20)
        second = await pool.submit(parent_of_worker)
        assert second not in (first, os.getpid())


def kill_template_and_wait() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


async def test_a_task_that_runs_when_the_template_is_killed_fails_alone() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerCrashed):
            await pool.submit(kill_template_and_wait)
        assert await pool.submit(abs, -1) == 1


async def test_a_module_to_preload_that_is_missing_is_told() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(preload=["no_such_module"])) as pool:
        with pytest.raises(WorkerStartError, match="no_such_module"):
            await pool.submit(abs, -1)


async def test_preloaded_modules_are_there_before_the_first_task() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(preload=["colorsys"])) as pool:
        assert await pool.submit(is_loaded, "colorsys")
        assert not await pool.submit(is_loaded, "sndhdr")


def is_loaded(name: str) -> bool:
    import sys

    return name in sys.modules
