"""`offloop.Executor.map`: the standard library's, with adaptive chunks and 3.14's ``buffersize``."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from support import tasks

from offloop import Executor, WorkerCrashed
from offloop.adapters.broken import WorkerCrashed as BrokenByCrash
from offloop.maprun import CHUNKS_PER_WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.gates import Gate, Log

    from offloop import WorkerFactory


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as executor:
        yield executor


@pytest.fixture
def dropped() -> Iterator[None]:
    """For a test that drops executors: wait for their threads, so that what ends by itself has ended."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)


@pytest.mark.parametrize("options", [{}, {"chunksize": 1}, {"chunksize": 7}, {"buffersize": 5}])
def test_results_come_in_order(factory: WorkerFactory, options: dict[str, int]) -> None:
    with Executor(2, factory=factory) as executor:
        assert list(executor.map(abs, range(-50, 50), **options)) == [*map(abs, range(-50, 50))]
        assert list(executor.map(pow, range(9), range(5), **options)) == [*map(pow, range(5), range(5))]
        assert list(executor.map(lambda pair: pair[0], [(1, 2), (3, 4)], **options)) == [1, 3]
        assert list(executor.map(abs, [], **options)) == []
        assert list(executor.map(abs, **options)) == []


def test_a_failure_is_raised_in_its_place(executor: Executor) -> None:
    results = executor.map(tasks.fail_if_odd, [0, 2, 4, 5, 6], chunksize=2)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(ValueError, match="5 is odd") as raised:
        next(results)
    assert raised.value.__notes__ == ["item 3 of map: 5"]
    assert list(results) == []


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_all_calls_are_made_where_nobody_looks_and_one_fails(log: Log, chunksize: int | None) -> None:
    def work(number: int) -> None:
        tasks.append_line(log.path, number)
        tasks.fail_if_odd(number)

    with Executor(2) as executor:
        executor.map(work, range(20), chunksize=chunksize)
    assert sorted(map(int, log.lines())) == [*range(20)]


def test_leaving_early_cancels_what_waits_and_interrupts_nothing(gate: Gate, log: Log) -> None:
    def work(number: int) -> int:
        if number:
            tasks.pass_gate(gate.path)
            tasks.append_line(log.path, number)
        return number

    with Executor(1) as executor:
        results = executor.map(work, range(100), chunksize=1)
        assert next(results) == 0
        gate.wait_arrived()
        results.close()  # type: ignore[attr-defined]  # a generator, as in the standard library
        gate.open()
    ran = [*map(int, log.lines())]
    assert ran == [*range(1, len(ran) + 1)]
    assert 1 <= len(ran) <= CHUNKS_PER_WORKER  # what the worker had


@pytest.mark.parametrize("buffersize", [None, 4])
def test_a_failure_keeps_none_of_the_inputs(buffersize: int | None) -> None:
    made: list[ref[set[int]]] = []

    def sets() -> Iterator[set[int]]:
        for number in range(20):
            row = {number}
            made.append(ref(row))
            yield row

    gc.disable()
    try:
        with Executor(2) as executor:
            try:
                list(executor.map(lambda row: 1 // min(row), sets(), buffersize=buffersize))
            except ZeroDivisionError:
                pass
            else:
                pytest.fail("the first one divides by zero")
        assert not any(row() for row in made)
    finally:
        gc.enable()


def test_a_crash_is_raised_in_its_place_as_a_broken_pool(executor: Executor) -> None:
    results = executor.map(lambda number: os.abort() if number == 1 else number, range(3), chunksize=1)
    assert next(results) == 0
    with pytest.raises(BrokenByCrash) as raised:
        next(results)
    assert isinstance(raised.value, WorkerCrashed)
    assert list(executor.map(abs, [-1])) == [1]


def test_the_timeout_counts_from_the_call(executor: Executor, gate: Gate) -> None:
    results = executor.map(tasks.pass_gate, [gate.path], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()
    assert list(executor.map(abs, [-1], timeout=30)) == [1]


@pytest.mark.parametrize("options", [{"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}])
def test_sizes_are_above_zero(executor: Executor, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        executor.map(abs, [1], **options)


@pytest.mark.parametrize("options", [{"chunksize": "1"}, {"buffersize": 1.5}])
def test_sizes_are_integers(executor: Executor, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be an int"):
        executor.map(abs, [1], **options)


def test_what_is_no_callable_or_no_iterable_is_refused(executor: Executor) -> None:
    with pytest.raises(TypeError, match="fn must be callable"):
        executor.map(3, [1])  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(TypeError, match="not iterable"):
        executor.map(abs, 3)  # type: ignore[arg-type]  # that is what is tested


# -- buffersize -----------------------------------------------------------------------------------


def test_no_more_is_pulled_than_the_buffer_holds(executor: Executor) -> None:
    pulled: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            pulled.append(number)
            yield number

    results = executor.map(abs, numbers(), buffersize=4)
    assert len(pulled) == 4
    for taken in range(20):
        assert next(results) == taken
        assert len(pulled) == taken + 5


def test_inputs_are_pulled_in_the_threads_that_call(executor: Executor) -> None:
    threads: set[threading.Thread] = set()

    def numbers() -> Iterator[int]:
        for number in range(20):
            threads.add(threading.current_thread())
            yield number

    assert list(executor.map(abs, numbers(), buffersize=3)) == [*range(20)]
    assert list(executor.map(abs, numbers())) == [*range(20)]
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("buffersize", [None, 1, 3])
def test_what_an_input_raises_is_raised_to_the_caller(executor: Executor, buffersize: int | None) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise KeyError("the input")

    with pytest.raises(KeyError, match="the input"):
        list(executor.map(abs, numbers(), buffersize=buffersize))
    assert executor.submit(abs, -1).result() == 1


def test_a_shutdown_finishes_what_was_pulled_and_pulls_no_more(log: Log) -> None:
    def work(number: int) -> int:
        tasks.append_line(log.path, number)
        return number

    executor = Executor(1)
    results = executor.map(work, itertools.count(), buffersize=3)
    executor.shutdown()
    assert log.lines() == ["0", "1", "2"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(results)


@pytest.mark.parametrize("taken", [0, 1])
def test_one_who_drops_the_iterator_has_left(factory: WorkerFactory, taken: int) -> None:
    made: list[ref[set[int]]] = []

    def sets() -> Iterator[set[int]]:
        for number in itertools.count():
            row = {number}
            made.append(ref(row))
            yield row

    with Executor(1, factory=factory) as executor:
        results = executor.map(len, sets(), buffersize=4)
        assert [*itertools.islice(results, taken)] == [1] * taken
        del results
        executor.submit(abs, -1).result()  # behind the map's beginning
        while executor._thread._running:  # the test's bound ends this
            executor.submit(abs, -1).result()
        gc.collect()
        assert not any(row() for row in made)


@pytest.mark.usefixtures("dropped")
def test_an_iterator_that_pulls_keeps_its_executor() -> None:
    assert list(Executor(1).map(abs, range(-30, 0), buffersize=2)) == [*range(30, 0, -1)]


# -- the end --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dropped")
def test_results_are_there_after_the_executor_was_dropped() -> None:
    results = Executor(1).map(abs, range(-5, 5))
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_a_shutdown_may_cancel_what_no_worker_got(gate: Gate) -> None:
    executor = Executor(1)
    results = executor.map(tasks.pass_gate, [gate.path] * 5, range(5), chunksize=1)
    gate.wait_arrived()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    assert next(results) == 0  # it ran
    with pytest.raises(CancelledError):
        list(results)
    executor.shutdown()


def test_a_map_after_shutdown_is_refused(executor: Executor) -> None:
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(abs, [1])


def test_killing_the_workers_is_raised_by_the_iterator(gate: Gate) -> None:
    executor = Executor(1)
    results = executor.map(tasks.pass_gate, [gate.path] * 5, chunksize=1)
    gate.wait_arrived()
    executor.kill_workers()
    with pytest.raises(RuntimeError, match="worker was killed"):
        next(results)
    executor.shutdown()
