"""`offloop.Executor`: submit, and its futures."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from concurrent.futures import (
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextvars import copy_context
from multiprocessing import get_context
from multiprocessing.managers import SyncManager
from typing import TYPE_CHECKING, Any

import pytest
from support import tasks, variables

import offloop
from offloop import (
    Executor,
    RemoteTraceback,
    TaskFailed,
)
from offloop.adapters.handed import LazyCondition, TaskFuture
from offloop.contexts.auto import is_free_threaded

if TYPE_CHECKING:
    from support.gates import Gate, Log

    from offloop import WorkerFactory


# -- submitting ---------------------------------------------------------------------------------


def test_a_call_returns_its_result(factory: WorkerFactory) -> None:
    with Executor(2, factory=factory) as executor:
        assert executor.submit(pow, 2, 8).result() == 256
        assert executor.submit(tasks.keywords, self=1, fn=2).result() == {"self": 1, "fn": 2}
        assert executor.submit(tasks.aecho, "awaited").result() == "awaited"
        assert executor.submit(lambda: "by value").result() == "by value"


def test_context_variables_are_those_of_who_submits(factory: WorkerFactory) -> None:
    def submit(value: str) -> Any:
        variables.request_id.set(value)
        return executor.submit(variables.read)

    with Executor(1, factory=factory) as executor:
        executor.submit(tasks.echo, 1).result()
        # In a burst, of which the first one wakes the loop.
        futures = [copy_context().run(submit, value) for value in "abc"]
        futures.append(executor.submit(variables.read))
        assert [future.result() for future in futures] == ["a", "b", "c", "none"]


def test_nothing_starts_before_the_first_submit() -> None:
    threads = set(threading.enumerate())
    executor = Executor(2)
    assert repr(executor) == "<Executor not started workers=0/2 outstanding=0>"
    assert set(threading.enumerate()) == threads
    executor.shutdown()
    assert repr(executor) == "<Executor shut down workers=0/2 outstanding=0>"


def test_a_failure_has_the_workers_traceback_as_its_cause(factory: WorkerFactory) -> None:
    with Executor(1, factory=factory) as executor:
        future = executor.submit(tasks.fail_if_odd, 3)
        with pytest.raises(ValueError, match="3 is odd") as raised:
            future.result()
    cause = raised.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in fail_if_odd" in cause.tb


def test_what_is_no_callable_is_refused_at_once() -> None:
    with Executor(1) as executor, pytest.raises(TypeError, match="fn must be callable, not int"):
        executor.submit(3)  # type: ignore[arg-type]  # that is what is tested


def test_an_exit_of_a_task_is_a_failure_and_ends_nothing() -> None:
    with Executor(1) as executor:
        with pytest.raises(TaskFailed, match="SystemExit: 3"):
            executor.submit(tasks.fail_by_name, "SystemExit", 3).result()
        assert executor.submit(abs, -1).result() == 1


def test_many_threads_submit_at_once() -> None:
    with Executor(2) as executor, ThreadPoolExecutor(8) as threads:
        start = threading.Barrier(8)

        def submit_some(first: int) -> list[int]:
            start.wait()
            futures = [executor.submit(tasks.echo, first + i) for i in range(200)]
            return [future.result() for future in futures]

        found = list(threads.map(submit_some, range(0, 8000, 1000)))
    assert found == [list(range(first, first + 200)) for first in range(0, 8000, 1000)]


def test_a_burst_of_submits_is_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with Executor(1) as executor:
        executor.submit(abs, 1).result()
        loop, held, release = executor._thread._loop, threading.Event(), threading.Event()
        assert loop is not None
        woken: list[object] = []
        wake = loop.call_soon_threadsafe

        def counted(*args: Any, **options: Any) -> Any:
            woken.append(args)
            return wake(*args, **options)

        executor._thread.call(lambda: (held.set(), release.wait(30)))
        held.wait(30)  # the loop looks at nothing until it is released
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        futures = [executor.submit(abs, -i) for i in range(1000)]
        release.set()
        assert [future.result() for future in futures] == list(range(1000))
    assert len(woken) < 10  # the loop may have looked, and been woken again, while results came


def test_it_works_from_an_event_loop() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with Executor(2) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, abs, -i) for i in range(50)))

    assert asyncio.run(main()) == list(range(50))


def test_cancelling_in_an_event_loop_cancels_what_waits(gate: Gate, log: Log) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Executor(1) as executor:
            running = loop.run_in_executor(executor, tasks.pass_gate, gate.path)
            await gate.arrived()
            waiting = loop.run_in_executor(executor, tasks.append_line, log.path, "ran")
            waiting.cancel()
            await asyncio.sleep(
                0
            )  # only its callback, in the loop's next turn, cancels the executor's future
            gate.open()
            await asyncio.wait([running, waiting])
            assert waiting.cancelled()

    asyncio.run(main())
    assert log.lines() == []


def test_an_executor_works_inside_an_executors_task() -> None:
    def outer(depth: int) -> list[int]:
        with offloop.Executor(1) as executor:
            if depth:
                found: list[int] = executor.submit(outer, depth - 1).result()
                return [os.getpid(), *found]
            return [os.getpid(), executor.submit(os.getpid).result()]

    pids = outer(2)
    assert len(set(pids)) == 4


def test_clients_of_a_manager_reach_it_from_a_worker() -> None:
    with SyncManager(ctx=get_context("fork")) as manager, Executor(1) as executor:
        queue = manager.Queue()
        executor.submit(queue.put, "hello").result()
        assert queue.get(timeout=30) == "hello"


def test_no_reference_to_arguments_and_results_stays(factory: WorkerFactory) -> None:
    class Thing:
        pass

    with Executor(1, factory=factory) as executor:
        thing, freed = Thing(), threading.Event()
        weakref.finalize(thing, freed.set)
        future = executor.submit(id, thing)
        future.result()
        del thing
        assert is_set(freed)
        result = executor.submit(set, (1,)).result()
        freed.clear()
        weakref.finalize(result, freed.set)
        del result
        if is_free_threaded():
            executor.submit(abs, 1).result()  # so that the thread that made it runs: it is asleep
        assert is_set(freed)


def is_set(event: threading.Event) -> bool:
    """Whether it is, soon.

    Without the GIL an object that another thread lets go of is freed by the thread
    that made it, between two of its instructions: this one must not wait in C.
    """
    return any(event.wait(0.01) for _ in range(3000))


# -- futures --------------------------------------------------------------------------------------


def test_wait_and_as_completed_work_with_its_futures() -> None:
    with Executor(2) as executor:
        futures = [executor.submit(abs, -i) for i in range(20)]
        assert sorted(future.result() for future in as_completed(futures)) == list(range(20))
        done, not_done = wait(futures)
        assert (done, not_done) == (set(futures), set())


def test_a_task_that_waits_can_be_cancelled_and_one_that_runs_can_not(gate: Gate, log: Log) -> None:
    with Executor(1) as executor:
        running = executor.submit(tasks.pass_gate, gate.path, "passed")
        gate.wait_arrived()
        waiting = executor.submit(tasks.append_line, log.path, "ran")
        assert running.running()
        assert not waiting.running()
        assert not running.cancel()
        assert waiting.cancel()
        assert waiting.cancel()  # still
        assert wait([waiting], 30).done  # who waits for it is told while the other one runs
        gate.open()
        assert running.result() == "passed"
        with pytest.raises(CancelledError):
            waiting.result()
        assert not running.cancel()
    assert log.lines() == []


def test_a_cancelled_task_leaves_the_pools_queue_at_once(gate: Gate) -> None:
    with Executor(1) as executor:
        executor.submit(tasks.pass_gate, gate.path)
        gate.wait_arrived()
        waiting = [executor.submit(abs, i) for i in range(100)]
        for future in waiting:
            future.cancel()
        wait(waiting)
        assert repr(executor) == "<Executor running workers=1/1 outstanding=1>"
        gate.open()


def test_cancelling_while_tasks_are_handed_out_ends_each_future_once(log: Log) -> None:
    with Executor(2) as executor:
        futures = [executor.submit(tasks.append_line, log.path, i) for i in range(2000)]
        cancelled = [future for future in futures if future.cancel()]
        wait(futures)
        assert all(future.cancelled() for future in cancelled)
        kept = [i for i, future in enumerate(futures) if not future.cancelled()]
        assert all(futures[i].result() is None for i in kept)
    assert sorted(map(int, log.lines())) == kept  # what was cancelled never ran


def test_interrupting_reaches_a_task_that_runs(gate: Gate) -> None:
    with Executor(1) as executor:
        future = executor.submit(tasks.pass_gate, gate.path)
        gate.wait_arrived()
        assert isinstance(future, TaskFuture)
        future.interrupt()
        with pytest.raises(CancelledError):
            future.result(30)
        assert executor.submit(abs, -1).result() == 1


def test_callbacks_are_called_in_the_executors_thread_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    names: list[str] = []

    def note(future: Future[int]) -> None:
        names.append(threading.current_thread().name)
        raise ValueError("in a callback")

    def leave(future: Future[int]) -> None:
        raise SystemExit

    with Executor(1) as executor, caplog.at_level(logging.ERROR):
        hold = threading.Event()
        executor._thread.call(lambda: hold.wait(30))
        future = executor.submit(abs, -1)
        future.add_done_callback(note)
        other = executor.submit(abs, -2)
        other.add_done_callback(leave)
        hold.set()
        assert (future.result(), other.result()) == (1, 2)
        assert executor.submit(abs, -3).result() == 3
    assert names == ["offloop-executor"]
    assert [record.name for record in caplog.records] == ["concurrent.futures", "offloop"]


def test_a_callback_may_submit_and_shut_down() -> None:
    executor = Executor(1)
    second: list[Future[int]] = []
    done = threading.Event()

    def go_on(future: Future[int]) -> None:
        second.append(executor.submit(abs, -2))
        executor.shutdown()  # can't wait for the thread that it is called in
        done.set()

    executor.submit(abs, -1).add_done_callback(go_on)
    assert done.wait(30)
    assert second[0].result() == 2
    executor.shutdown()


def test_a_future_waits_as_long_as_it_is_told(gate: Gate) -> None:
    with Executor(1) as executor:
        future = executor.submit(tasks.pass_gate, gate.path, "passed")
        with pytest.raises(TimeoutError):
            future.result(0.01)
        with pytest.raises(TimeoutError):
            future.exception(0)
        gate.open()
        assert future.result() == "passed"


def test_threads_that_wait_for_overlapping_sets_with_other_futures_do_not_block_each_other() -> None:
    def wait_for(start: int) -> None:
        for step in range(500):
            wait([both[(start + step * stride) % len(both)] for stride in (1, 3, 7, 11)], timeout=0)

    with Executor(1, factory="thread") as executor, ThreadPoolExecutor(1) as others:
        both = [each for _ in range(10) for each in (executor.submit(abs, 1), others.submit(abs, 1))]
        both += [TaskFuture() for _ in range(10)]  # which do not end
        both += [Future() for _ in range(10)]
        threads = [threading.Thread(target=wait_for, args=(start,), daemon=True) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def test_how_a_future_is_can_be_asked_while_somebody_has_its_lock(gate: Gate) -> None:
    def look() -> list[bool]:
        return [
            ask() for future in (held, waiting) for ask in (future.done, future.running, future.cancelled)
        ]

    with Executor(1, factory="thread") as executor:
        held, waiting = executor.submit(tasks.pass_gate, gate.path), executor.submit(abs, 1)
        gate.wait_arrived()
        assert waiting.cancel()
        with held._condition, waiting._condition, ThreadPoolExecutor(1) as thread:
            assert thread.submit(look).result(60) == [False, True, False, True, False, True]
        gate.open()
        assert held.result() is None
        assert (held.done(), held.running()) == (True, False)


def test_a_future_has_all_that_its_base_makes() -> None:
    assert vars(TaskFuture()).keys() == vars(Future()).keys()
    kinds = {name: type(value) for name, value in vars(Future()).items()} | {"_condition": LazyCondition}
    assert {name: type(value) for name, value in vars(TaskFuture()).items()} == kinds
    assert vars(TaskFuture())["_state"] == vars(Future())["_state"]
