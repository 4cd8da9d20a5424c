"""`offloop.Executor`: failures, the initializer, options."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
from concurrent.futures import (
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import pytest
from support import tasks

import offloop
from offloop import (
    Executor,
    ProcessWorkerFactory,
    SerializationError,
    ThreadWorkerFactory,
    WorkerCrashed,
    WorkerKilled,
    WorkerPool,
    WorkerStartError,
)
from offloop.adapters.loopthread import LoopThread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.gates import Gate, Log

    from offloop import WorkerFactory


# -- failures -------------------------------------------------------------------------------------


def test_a_crash_is_a_broken_pool_for_its_task_and_for_nobody_else() -> None:
    with Executor(2) as executor:
        crash = executor.submit(os.abort)
        others = [executor.submit(abs, -i) for i in range(20)]
        with pytest.raises(WorkerCrashed, match="SIGABRT") as raised:
            crash.result()
        assert isinstance(raised.value, BrokenProcessPool)
        assert [future.result() for future in others] == list(range(20))
        assert executor.submit(abs, -1).result() == 1


def test_its_errors_survive_pickling() -> None:
    with Executor(1) as executor:
        error = executor.submit(os._exit, 3).exception()
    copied = pickle.loads(pickle.dumps(error))
    assert isinstance(copied, BrokenProcessPool)
    assert isinstance(copied, WorkerCrashed)
    assert isinstance(error, WorkerCrashed)
    assert (copied.exit_code, copied.pid, str(copied)) == (3, error.pid, str(error))


def test_what_cannot_be_pickled_is_a_pickling_error() -> None:
    with Executor(1) as executor:
        for future in executor.submit(id, threading.Lock()), executor.submit(tasks.new_lock):
            error = future.exception()
            assert isinstance(error, pickle.PicklingError)
            assert isinstance(error, SerializationError)
            assert not isinstance(error, BrokenProcessPool)


def test_what_cannot_be_loaded_is_a_broken_pool_as_in_the_standard_library() -> None:
    with Executor(1) as executor:
        task = executor.submit(id, tasks.FailsOnLoad(tasks.fail, ValueError("bomb")))
        result = executor.submit(tasks.FailsInParent, tasks.home())
        for error in task.exception(), result.exception():
            assert isinstance(error, BrokenProcessPool)
            assert isinstance(error, SerializationError)
        assert executor.submit(abs, -1).result() == 1


def test_killing_the_workers_fails_what_is_outstanding(gate: Gate) -> None:
    executor = Executor(1)
    running = executor.submit(tasks.pass_gate, gate.path)
    gate.wait_arrived()
    waiting = executor.submit(abs, 1)
    executor.kill_workers()
    for future in running, waiting:
        error = future.exception(30)
        assert isinstance(error, WorkerKilled)
        assert isinstance(error, BrokenProcessPool)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()


def test_a_broken_event_loop_is_told_to_whoever_submits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(thread: LoopThread) -> None:
        raise OSError("no descriptors")

    monkeypatch.setattr(LoopThread, "_serve", fail)
    executor = Executor(1)
    error = executor.submit(abs, 1).exception(30)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, OSError)
    with pytest.raises(RuntimeError, match="event loop has ended"):
        executor.submit(abs, 1)
    executor.shutdown()


def test_an_object_that_interrupts_as_it_is_loaded_ends_nothing() -> None:
    with Executor(1) as executor:
        error = executor.submit(tasks.FailsOnLoad, tasks.fail_by_name, "KeyboardInterrupt").exception(30)
        assert isinstance(error, SerializationError)
        assert executor.submit(abs, -1).result() == 1


# -- the initializer ------------------------------------------------------------------------------

state: dict[str, Any] = {}


def initialize(log: str, **_: object) -> None:
    tasks.append_line(log, "initialized")
    state["log"] = log


def get_state() -> Any:
    return state.get("log")


async def initialize_later(log: str) -> None:
    await asyncio.sleep(0)
    initialize(log)


@pytest.mark.parametrize("initializer", [initialize, initialize_later])
def test_the_initializer_runs_once_in_a_worker_before_its_tasks(
    factory: WorkerFactory, log: Log, initializer: Callable[..., object]
) -> None:
    with Executor(1, factory=factory, initializer=initializer, initargs=(log.path,)) as executor:
        assert [executor.submit(get_state).result() for _ in range(3)] == [log.path] * 3
    state.clear()
    assert log.lines() == ["initialized"]


def test_the_initializer_comes_behind_the_factorys_own_bootstrap(log: Log, tmp_path: Path) -> None:
    script = tmp_path / "bootstrap.py"
    script.write_text(f"from support.tasks import append_line\nappend_line({log.path!r}, 'bootstrap')\n")
    for kind in ProcessWorkerFactory, ThreadWorkerFactory:
        with Executor(1, factory=kind(bootstrap=script), initializer=initialize, initargs=(log.path,)) as e:
            e.submit(abs, 1).result()
    state.clear()
    assert log.lines() == ["bootstrap", "initialized"] * 2


def test_an_initializer_that_fails_fails_what_waits_and_is_tried_again(log: Log, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()

    def fail_at_flag() -> None:
        if flag.exists():
            raise ValueError("error in initializer")

    with Executor(1, initializer=fail_at_flag) as executor:
        error = executor.submit(abs, -1).exception()
        assert isinstance(error, WorkerStartError)
        assert isinstance(error, BrokenProcessPool)
        assert "ValueError: error in initializer" in error.traceback
        flag.unlink()
        assert executor.submit(abs, -1).result() == 1


def test_an_initializer_is_a_callable_and_needs_a_factory_with_a_bootstrap() -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Executor(1, initializer=3)  # type: ignore[arg-type]  # that is what is tested

    class Bare(offloop.WorkerFactory):
        def context(self) -> Any:
            raise NotImplementedError

    with pytest.raises(TypeError, match="Bare has no bootstrap"):
        Executor(1, factory=Bare(), initializer=print)


# -- options --------------------------------------------------------------------------------------


def test_it_takes_every_option_of_a_pool_with_the_same_default() -> None:
    ours = inspect.signature(Executor.__init__).parameters
    pools = inspect.signature(WorkerPool.__init__).parameters
    assert {name: ours[name].default for name in pools} == {n: p.default for n, p in pools.items()}


@pytest.mark.parametrize("number", [0, -1])
def test_the_number_of_workers_is_above_zero(number: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        Executor(number)


def test_options_are_checked_when_it_is_made() -> None:
    with pytest.raises(TypeError, match="max_workers must be an int"):
        Executor("2")  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(ValueError, match="queue_limit must be at least 1"):
        Executor(queue_limit=0)
    with pytest.raises(TypeError, match="give one of them"):
        Executor(max_tasks_per_child=1, max_tasks_per_worker=1)


def test_a_worker_is_replaced_after_its_number_of_tasks() -> None:
    with Executor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


def test_above_the_queue_limit_a_submit_is_refused(gate: Gate) -> None:
    with Executor(1, queue_limit=2) as executor:
        futures = [executor.submit(tasks.pass_gate, gate.path) for _ in range(3)]
        with pytest.raises(offloop.QueueFull):
            executor.submit(abs, 1)
        futures[2].cancel()
        futures.append(executor.submit(tasks.pass_gate, gate.path))
        gate.open()
        wait(futures)
        assert executor.submit(abs, -1).result() == 1


def test_its_processes_are_those_that_take_tasks() -> None:
    with Executor(2) as executor:
        assert executor._processes == {}
        pid = executor.submit(os.getpid).result()
        processes = executor._processes
        assert [*processes] == [pid]
        assert processes[pid].is_alive()
        assert executor._max_workers == 2
    processes[pid].join(30)
    assert not processes[pid].is_alive()
    assert executor._processes == {}


def test_a_new_thread_that_cannot_start_is_the_callers_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    executor = Executor(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            executor.submit(abs, 1)
    assert executor.submit(abs, -1).result() == 1
    executor.shutdown()
