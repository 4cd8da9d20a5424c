"""How an `offloop.Executor` ends: shut down, dropped, with its interpreter, in a fork."""

from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest
from support import tasks
from support.scripts import run_script

from offloop import Executor

if TYPE_CHECKING:
    from pathlib import Path

    from support.gates import Gate, Log

    from offloop import WorkerFactory


# -- shutdown -------------------------------------------------------------------------------------


def test_a_shutdown_finishes_what_was_submitted(factory: WorkerFactory) -> None:
    executor = Executor(2, factory=factory)
    futures = [executor.submit(abs, -i) for i in range(100)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [*range(100)]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()


def test_a_shutdown_need_not_be_waited_for(gate: Gate) -> None:
    executor = Executor(1)
    future = executor.submit(tasks.pass_gate, gate.path, "passed")
    executor.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result() == "passed"
    executor.shutdown()


def test_an_executor_that_never_started_shuts_down_at_once() -> None:
    executor = Executor(1)
    executor.shutdown(wait=True, cancel_futures=True)
    executor.shutdown()


def test_a_shutdown_may_cancel_what_no_worker_has(gate: Gate) -> None:
    executor = Executor(1)
    running = executor.submit(tasks.pass_gate, gate.path, "passed")
    gate.wait_arrived()
    waiting = [executor.submit(abs, i) for i in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert wait(waiting, 30).not_done == set()
    assert all(future.cancelled() for future in waiting)
    gate.open()
    assert running.result() == "passed"
    executor.shutdown()


def test_a_second_shutdown_may_still_cancel(gate: Gate) -> None:
    executor = Executor(1)
    running = executor.submit(tasks.pass_gate, gate.path, "passed")
    gate.wait_arrived()
    waiting = executor.submit(abs, 1)
    executor.shutdown(wait=False)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        waiting.result(30)
    gate.open()
    assert running.result() == "passed"
    executor.shutdown()


def test_leaving_with_an_error_finishes_what_was_submitted_too() -> None:
    futures: list[Future[int]] = []

    def leave() -> None:
        with Executor(1) as executor:
            futures.append(executor.submit(abs, -1))
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert futures[0].done()
    assert futures[0].result() == 1


@pytest.mark.parametrize("cancel", [False, True])
def test_shutdowns_and_submits_of_many_threads_lose_nothing(log: Log, cancel: bool) -> None:
    executor = Executor(2)
    start = threading.Barrier(6)
    refusals: list[str] = []

    def submit_until_refused(name: int) -> list[Future[None]]:
        futures: list[Future[None]] = []
        start.wait()
        for number in range(3000):
            try:
                futures.append(executor.submit(tasks.append_line, log.path, f"{name}-{number}"))
            except RuntimeError as error:
                refusals.append(str(error))
                break
        return futures

    def shut_down() -> None:
        start.wait()
        executor.shutdown(cancel_futures=cancel)

    with ThreadPoolExecutor(6) as threads:
        submitters = [threads.submit(submit_until_refused, name) for name in range(4)]
        closers = [threads.submit(shut_down) for _ in range(2)]
        for closer in closers:
            closer.result()
        futures = [future for submitter in submitters for future in submitter.result()]
    assert set(refusals) <= {"cannot schedule new futures after shutdown"}
    assert all(future.done() for future in futures)
    ran = [future for future in futures if not future.cancelled()]
    assert all(future.result() is None for future in ran)
    assert len(log.lines()) == len(ran)
    assert cancel or len(ran) == len(futures)


# -- dropped --------------------------------------------------------------------------------------


def test_an_executor_that_is_dropped_finishes_and_its_thread_ends() -> None:
    before = set(threading.enumerate())
    futures = [Executor(1).submit(abs, -i) for i in range(3)]
    gc.collect()
    assert [future.result() for future in futures] == [0, 1, 2]
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert set(threading.enumerate()) == before


# -- the interpreter's end ------------------------------------------------------------------------


NO_THREADS_AT_EXIT = pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2),
    reason="CPython 3.12.0 and 3.12.1 start no thread once the main thread has ended (gh-113964)",
)


@pytest.mark.parametrize("kind", ["process", pytest.param("thread", marks=NO_THREADS_AT_EXIT)])
def test_what_is_pending_is_finished_at_exit_without_noise(tmp_path: Path, kind: str) -> None:
    done = run_script(
        f"""
        import sys, time
        from offloop import Executor

        def work(number):
            time.sleep(0.01)
            print(number, flush=True)

        executor = Executor(1, factory={kind!r})
        for number in range(5):
            executor.submit(work, number)
        executor.map(work, range(5, 8))
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(number) for number in range(8)]


@pytest.mark.parametrize("end", ["executor.shutdown(wait=False)", "del executor", "raise SystemExit(3)"])
def test_a_program_may_end_in_any_way_with_tasks_pending(tmp_path: Path, end: str) -> None:
    done = run_script(
        f"""
        from offloop import Executor
        executor = Executor(2)
        for number in range(4):
            executor.submit(print, number, flush=True)
        {end}
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (3 if "SystemExit" in end else 0, "")
    assert sorted(done.stdout.split()) == ["0", "1", "2", "3"]


def test_a_submit_at_exit_is_refused(tmp_path: Path) -> None:
    done = run_script(
        """
        import atexit
        from offloop import Executor

        def submit():
            for executor in used, fresh:
                try:
                    executor.submit(abs, 1)
                except RuntimeError as error:
                    print(error)

        atexit.register(submit)
        used, fresh = Executor(1), Executor(1)
        used.submit(abs, 1).result()
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "cannot schedule new futures after shutdown",
        "cannot schedule new futures after interpreter shutdown",
    ]


def test_a_daemon_thread_that_submits_does_not_hold_up_the_end(tmp_path: Path) -> None:
    done = run_script(
        """
        import threading
        from offloop import Executor

        executor, begun = Executor(1), threading.Event()

        def submit_for_ever():
            try:
                while True:
                    executor.submit(abs, 1).result()
                    begun.set()
            except RuntimeError:
                pass

        threading.Thread(target=submit_for_ever, daemon=True).start()
        begun.wait()
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- forks ----------------------------------------------------------------------------------------


def test_a_forked_child_is_refused_clearly_and_the_parent_goes_on(tmp_path: Path) -> None:
    done = run_script(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: this process has threads
        import time
        from offloop import Executor

        executor, unused = Executor(1), Executor(1)
        executor.submit(abs, 1).result()
        pending = [executor.submit(time.sleep, 0.5), executor.submit(abs, -7)]
        child = os.fork()
        if child == 0:
            for use in (lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1]), pending[1].result):
                try:
                    use()
                except RuntimeError as error:
                    print(error)
            executor.shutdown()
            print(unused.submit(abs, -3).result(), Executor(1).submit(abs, -4).result())
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(pending[1].result(), executor.submit(abs, -2).result())
        """,
        tmp_path,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "this executor belongs to the process that was forked; make a new one here",
        "this executor belongs to the process that was forked; make a new one here",
        "this task belongs to the process that was forked",
        "3 4",
        "5",
        "7 2",
    ]
