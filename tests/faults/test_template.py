"""The template process dies, or never lives (FAULTS 40): nobody waits for ever."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from support import tasks
from support.bounds import eventually, wait_exit
from support.gates import Gate

from offloop import ProcessWorkerFactory, WorkerCrashed, WorkerKilled, WorkerPool, WorkerStartError
from offloop.contexts import starters, template
from offloop.starts import KILLED_START, MAX_START_FAILURES


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


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


def import_and_count(name: str) -> tuple[int, bool]:
    """Import a module; returns the process id, and whether the module was there before."""
    known = name in sys.modules
    importlib.import_module(name)
    return os.getpid(), known


async def test_what_a_worker_imported_is_loaded_already_in_the_ones_after_it() -> None:
    async with WorkerPool(1) as pool:
        first, known = await pool.submit(import_and_count, "colorsys")
        assert not known
        await pool.recycle()
        second, known = await pool.submit(import_and_count, "colorsys")
        assert second != first
        assert known


async def test_a_module_that_fails_to_load_before_the_fork_costs_nobody_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with WorkerPool(1) as pool:
        assert await pool.submit(abs, -1) == 1
        (process,) = template.TemplateProcess._shared[asyncio.get_running_loop()].values()
        monkeypatch.setattr(template, "is_allowed", lambda name: True)
        process.preload(["offloop.no_such_module", "colorsys"])
        await pool.recycle()
        assert (await pool.submit(import_and_count, "colorsys"))[1]


def kill_template_and_wait() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


async def test_a_task_that_runs_when_the_template_is_killed_fails_alone() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerCrashed):
            await pool.submit(kill_template_and_wait)
        assert await pool.submit(abs, -1) == 1


@pytest.mark.parametrize("method", ["template", "exec"])
async def test_a_module_to_preload_that_is_missing_is_told(
    method: Literal["template", "exec"], capfd: pytest.CaptureFixture[str]
) -> None:
    factory = ProcessWorkerFactory(preload=["no_such_module"], start_method=method)
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(WorkerStartError, match="no_such_module") as caught:
            await pool.submit(abs, -1)
    assert "ModuleNotFoundError: No module named 'no_such_module'" in caught.value.traceback
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("method", ["template", "exec"])
async def test_interpreters_that_a_task_starts_get_the_parent_s_flags(
    method: Literal["template", "exec"],
) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=method)) as pool:
        assert await pool.submit(subprocess._args_from_interpreter_flags) == (
            subprocess._args_from_interpreter_flags()
        )
        assert await pool.submit(flags_of_this_process) == flags_of_this_process()


def flags_of_this_process() -> dict[str, Any]:
    return {name: getattr(sys.flags, name) for name in ("no_site", "safe_path", "optimize", "dev_mode")}


async def test_preloaded_modules_are_there_before_the_first_task() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(preload=["colorsys"])) as pool:
        assert await pool.submit(is_loaded, "colorsys")
        assert not await pool.submit(is_loaded, "sndhdr")


def is_loaded(name: str) -> bool:
    import sys

    return name in sys.modules


SHARING = """
import os, tempfile
directory = tempfile.TemporaryDirectory()

def find():
    with tempfile.TemporaryDirectory() as own:  # of the worker's, as before
        return os.path.isdir(directory.name) and directory.name
"""


async def test_what_a_preloaded_module_made_is_there_until_the_last_worker_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "makes_a_directory.py").write_text(SHARING)
    monkeypatch.syspath_prepend(tmp_path)
    factory = ProcessWorkerFactory(preload=["makes_a_directory"])
    async with WorkerPool(1, factory=factory) as pool:
        found = await pool.submit(call, "makes_a_directory", "find")
        await pool.recycle()
        assert await pool.submit(call, "makes_a_directory", "find") == found != ""
    assert not os.path.exists(found), "the template has removed it"


async def test_workers_draw_other_numbers_though_numpy_was_loaded_before_the_fork() -> None:
    pytest.importorskip("numpy")
    async with WorkerPool(1, factory=ProcessWorkerFactory(preload=["numpy.random"])) as pool:
        first = await pool.submit(call, "numpy.random", "random")
        await pool.recycle()
        assert await pool.submit(call, "numpy.random", "random") != first


def call(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)()


class Killed:
    """Has the first workers, or all, killed before they have run a line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.launched = 0
        self.last = 1 << 30
        self._launch = template.launch
        for module in (template, starters):
            monkeypatch.setattr(module, "launch", self._launch_killed)

    def _launch_killed(self, python: Any, code: str, fds: tuple[int, ...]) -> Any:
        self.launched += 1
        if self.launched <= self.last:
            number = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)[self.launched % 3]
            code = f"import os; os.kill(os.getpid(), {number:d})"
        return self._launch(python, code, fds)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Killed:
    return Killed(monkeypatch)


async def test_workers_that_others_kill_while_they_start_cost_no_task(killed: Killed) -> None:
    killed.last = 7
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method="exec")) as pool:
        assert await pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        assert killed.launched == 8
        assert pool.statistics().failed_starts == 7


async def test_where_every_worker_is_killed_while_it_starts_tasks_fail_in_the_end(killed: Killed) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method="exec")) as pool:
        with pytest.raises(WorkerStartError, match="ended while it was starting, with exit code -"):
            await pool.submit(abs, -1)
        assert killed.launched == MAX_START_FAILURES / KILLED_START


async def test_a_bootstrap_that_may_be_the_death_of_its_worker_is_tried_three_times(killed: Killed) -> None:
    factory = ProcessWorkerFactory(start_method="exec", bootstrap=repr)
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(WorkerStartError):
            await pool.submit(abs, -1)
        assert killed.launched == MAX_START_FAILURES


async def test_a_template_that_was_stopped_goes_on_when_a_worker_is_wanted(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "PATIENCE", 0.01)
    async with WorkerPool(2) as pool:
        os.kill(await pool.submit(parent_of_worker), signal.SIGSTOP)
        held = [pool.submit(tasks.pass_gate, gate.path) for _ in range(2)]
        await gate.arrived()
        await gate.arrived()
        gate.open()
        await asyncio.gather(*held)


async def test_a_template_that_was_stopped_ends_with_its_pool() -> None:
    pool = WorkerPool(1)
    stopped = await pool.submit(parent_of_worker)
    os.kill(stopped, signal.SIGSTOP)
    assert await pool.shutdown() == 0
    assert pool.statistics().crashes == 0, "its worker took its leave, though nobody told how it ended"
    assert wait_exit(stopped, 0)


@pytest.fixture
def hanging_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every template hangs as it starts, as a module of ``preload`` may."""
    launch = template.launch
    hang = "import time; time.sleep(1000)"
    monkeypatch.setattr(template, "launch", lambda python, code, fds: launch(python, hang, fds))
    monkeypatch.setattr(template, "END_GRACE", 0.01)


@pytest.mark.usefixtures("hanging_template")
async def test_a_template_that_hangs_ends_with_a_pool_that_is_killed() -> None:
    pool = WorkerPool(2)
    waiting = [pool.submit(abs, -1) for _ in range(3)]
    await asyncio.sleep(0)
    pool.kill()
    for execution in waiting:
        with pytest.raises(WorkerKilled):
            await execution
    assert await pool.shutdown() == -signal.SIGKILL


@pytest.mark.usefixtures("hanging_template")
async def test_a_template_that_hangs_ends_with_a_pool_that_is_left_in_haste() -> None:
    async def leave() -> None:
        async with WorkerPool(2, cancel_grace=0.01) as pool:
            pool.submit(abs, -1)
            await asyncio.sleep(0)
            raise RuntimeError("left")

    with pytest.raises(RuntimeError, match="left"):
        await leave()


async def test_a_template_that_hangs_and_may_not_be_signalled_ends_with_its_pool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("as it is for a program that has dropped root meanwhile")

    (tmp_path / "hangs_as_it_is_loaded.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(template, "END_GRACE", 0.01)
    monkeypatch.setattr(template, "PATIENCE", 0.01)
    monkeypatch.setattr(os, "kill", refuse)
    pool = WorkerPool(1, factory=ProcessWorkerFactory(preload=["hangs_as_it_is_loaded"]))
    execution = pool.submit(abs, -1)
    await asyncio.sleep(0.02)  # it may be reminded meanwhile
    pool.kill()
    with pytest.raises(WorkerKilled):
        await execution
    assert await pool.shutdown() == -signal.SIGKILL


async def test_a_worker_that_is_forked_after_its_pool_was_killed_ends() -> None:
    async with WorkerPool(1) as other:  # which keeps the template
        shared = await other.submit(parent_of_worker)
        os.kill(shared, signal.SIGSTOP)
        pool = WorkerPool(1)
        pool.submit(abs, -1).cancel()
        execution = pool.submit(abs, -1)
        await asyncio.sleep(0)
        pool.kill()
        with pytest.raises(WorkerKilled):
            await execution
        assert await pool.shutdown() == -signal.SIGKILL
        os.kill(shared, signal.SIGCONT)
        async with WorkerPool(1) as another:
            assert await another.submit(parent_of_worker) == shared, "it has forked the one before, too"
        await eventually(lambda: len(children_of(shared)) == 1)
        assert await other.submit(abs, -1) == 1
