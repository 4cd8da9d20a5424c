"""joblib's ``Parallel`` on offloop's workers."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from support import tasks
from support.scripts import run_script

from offloop import RemoteTraceback, WorkerCrashed, register_joblib_backend

joblib = pytest.importorskip("joblib")
from joblib import Parallel, delayed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.gates import Gate, Log


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    """The backend is registered; its executors, which outlive a call, end with the test."""
    register_joblib_backend()
    yield
    from offloop.adapters.joblib import shared

    shared.close()


def parallel(n_jobs: int = 2, **options: Any) -> Any:
    return Parallel(n_jobs=n_jobs, backend="offloop", **options)


def test_results_come_in_order() -> None:
    assert parallel()(delayed(abs)(-i) for i in range(500)) == [*range(500)]


@pytest.mark.parametrize("choose", ["parallel_config", "parallel_backend"])
def test_the_backend_is_chosen_by_name(choose: str) -> None:
    with getattr(joblib, choose)("offloop", n_jobs=2):
        assert joblib.effective_n_jobs() == 2
        pids = Parallel()(delayed(os.getpid)() for _ in range(10))
    assert os.getpid() not in pids


def test_the_number_of_jobs_is_counted_as_joblib_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from offloop.adapters import joblib as adapter

    monkeypatch.setattr(adapter, "usable_cpus", lambda: 4)
    backend = adapter.OffloopBackend()
    assert [backend.effective_n_jobs(n) for n in (3, -1, -2, -9, None)] == [3, 4, 3, 1, 1]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


def test_one_job_runs_here() -> None:
    assert parallel(n_jobs=1)([delayed(os.getpid)()]) == [os.getpid()]


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_may_come_one_by_one(return_as: str) -> None:
    results = parallel(return_as=return_as)(delayed(abs)(-i) for i in range(50))
    assert sorted(results) == [*range(50)]


def test_inputs_are_not_pulled_far_ahead(gate: Gate) -> None:
    pulled: list[int] = []

    def inputs() -> Iterator[Any]:
        for number in range(100):
            pulled.append(number)
            yield delayed(tasks.pass_gate)(gate.path, number)

    results = parallel(pre_dispatch=3, batch_size=1, return_as="generator")(inputs())
    assert len(pulled) == 3
    gate.open()
    assert list(results) == [*range(100)]


def test_inputs_may_run_an_event_loop() -> None:
    async def number_of(item: int) -> int:
        return item

    found = parallel(batch_size=1)(delayed(abs)(-asyncio.run(number_of(item))) for item in range(20))
    assert found == [*range(20)]


def test_an_input_that_blocks_holds_up_no_other_call() -> None:
    is_blocking, goes_on = threading.Event(), threading.Event()

    def inputs() -> Iterator[Any]:
        for number in range(8):
            if number == 6:  # behind what is pulled before the first result
                is_blocking.set()
                goes_on.wait()
            yield delayed(abs)(number)

    with ThreadPoolExecutor(1) as threads:
        blocked = threads.submit(parallel(batch_size=1), inputs())
        is_blocking.wait()
        try:
            assert parallel(batch_size=1)(delayed(abs)(number) for number in range(20)) == [*range(20)]
        finally:
            goes_on.set()
        assert blocked.result() == [*range(8)]


def test_an_error_is_raised_with_the_workers_traceback() -> None:
    with pytest.raises(ValueError, match="7 is odd") as raised:
        parallel()(delayed(tasks.fail_if_odd)(number) for number in (2, 4, 7, 8))
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "in fail_if_odd" in str(raised.value.__cause__)
    assert parallel()([delayed(abs)(-1)]) == [1]


def test_an_error_interrupts_what_runs(gate: Gate, log: Log) -> None:
    def fail_then() -> None:
        tasks.pass_gate(gate.path, arrives=False)
        raise KeyError("first")

    def endless() -> None:
        try:
            gate_two = gate.path
            gate_then_wait(gate_two)
        finally:
            tasks.append_line(log.path, "interrupted")

    def gate_then_wait(path: str) -> None:
        os.write(os.open(f"{path}.tokens", os.O_WRONLY), b".")  # lets the other one fail
        threading.Event().wait()

    with pytest.raises(KeyError, match="first"):
        parallel(batch_size=1)([delayed(fail_then)(), delayed(endless)()])
    from offloop.adapters.joblib import shared

    shared.close()  # waits for the task that was interrupted
    assert log.lines() == ["interrupted"]


def test_a_timeout_interrupts_what_runs(log: Log) -> None:
    def endless() -> None:
        try:
            threading.Event().wait()
        finally:
            tasks.append_line(log.path, "interrupted")

    with pytest.raises(multiprocessing.TimeoutError):  # joblib's
        parallel(timeout=0.3, batch_size=1)([delayed(endless)()] * 2)
    from offloop.adapters.joblib import shared

    shared.close()
    assert set(log.lines()) <= {"interrupted"}


def test_a_crash_fails_the_call_and_the_next_one_works() -> None:
    with pytest.raises(WorkerCrashed, match="SIGABRT"):
        parallel()([delayed(os.abort)()])
    assert parallel()([delayed(abs)(-1)]) == [1]


def test_workers_are_kept_between_calls() -> None:
    calls = [set(parallel(batch_size=1)(delayed(os.getpid)() for _ in range(20))) for _ in range(3)]
    assert len(set.union(*calls)) <= 2


def test_calls_in_many_threads_with_different_options_do_not_end_each_other() -> None:
    def call(number: int) -> list[int]:
        found: list[int] = parallel(n_jobs=2 + number % 2)(delayed(abs)(-i) for i in range(100))
        return found

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(call, range(8))) == [[*range(100)]] * 8


def test_one_context_serves_calls_that_overlap() -> None:
    with joblib.parallel_config("offloop", n_jobs=2):
        first, second = (
            Parallel(batch_size=1, return_as="generator")(delayed(abs)(-i) for i in range(20))
            for _ in range(2)
        )
        assert [next(first), *second, *first] == [0, *range(20), *range(1, 20)]


def test_an_executor_that_ended_while_it_was_used_is_replaced_and_forgotten() -> None:
    from offloop.adapters.joblib import shared

    ended = shared.acquire(max_workers=1, env={})
    ended.shutdown()
    other = shared.acquire(max_workers=1, env={})
    assert other.is_running
    shared.release(ended)
    shared.release(other)
    ended = ref(ended)
    gc.collect()
    assert ended() is None


def test_one_context_serves_several_calls_and_an_instance_too() -> None:
    with parallel() as instance:
        assert instance(delayed(abs)(-i) for i in range(5)) == [*range(5)]
        assert instance(delayed(abs)(-i) for i in range(5)) == [*range(5)]


def test_calls_nested_in_a_task_use_threads_and_then_none() -> None:
    def nest(depth: int) -> list[str]:
        from joblib.parallel import get_active_backend

        name = type(get_active_backend()[0]).__name__
        if depth == 0:
            return [name]
        return [name, *Parallel(n_jobs=2)([delayed(nest)(depth - 1)] * 2)[0]]

    assert parallel()([delayed(nest)(2)])[0] == ["ThreadingBackend", "SequentialBackend", "SequentialBackend"]


def test_a_task_may_ask_for_the_backend_by_name() -> None:
    def nest() -> list[int]:
        found: list[int] = Parallel(n_jobs=2, backend="offloop")(delayed(abs)(-i) for i in range(3))
        return found

    assert parallel()([delayed(nest)()] * 2) == [[0, 1, 2]] * 2


def test_the_initializer_runs_in_each_worker(log: Log) -> None:
    options = {"initializer": tasks.append_line, "initargs": (log.path, "initialized")}
    assert parallel(**options)([delayed(abs)(-1)]) == [1]
    assert set(log.lines()) == {"initialized"}


def test_native_threads_are_shared_out_among_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with joblib.parallel_config("offloop", n_jobs=2, inner_max_num_threads=3):
        assert Parallel()([delayed(os.getenv)("OMP_NUM_THREADS")]) == ["3"]


def test_a_call_may_ask_for_shared_memory_and_gets_threads() -> None:
    found: list[int] = []
    with joblib.parallel_config("offloop", n_jobs=2):
        Parallel(require="sharedmem")([delayed(found.append)(1)])
    assert found == [1]


def test_large_arrays_arrive_whole() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1 << 20)
    doubled = parallel()([delayed(numpy.multiply)(array, 2)] * 3)
    assert all((each == array * 2).all() for each in doubled)


def test_the_interpreters_end_ends_the_workers_without_noise(tmp_path: Path) -> None:
    done = run_script(
        """
        import offloop
        from joblib import Parallel, delayed
        offloop.register_joblib_backend()
        print(Parallel(n_jobs=2, backend="offloop")(delayed(lambda x: x + 1)(x) for x in range(3)))
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2, 3]\n", "")


def test_scikit_learn_runs_on_it() -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.datasets import make_classification
    from sklearn.tree import DecisionTreeClassifier

    inputs, labels = make_classification(100, random_state=0)
    with joblib.parallel_config("offloop"):
        scores = model_selection.cross_val_score(
            DecisionTreeClassifier(random_state=0), inputs, labels, n_jobs=2
        )
    expected = model_selection.cross_val_score(DecisionTreeClassifier(random_state=0), inputs, labels)
    assert list(scores) == list(expected)
