"""Whose turn it is: every task is run or given back, and a cancellation hits only the task it names."""

from __future__ import annotations

import dis
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from offloop import LocalEnvironment
from offloop.child import runner as runner_module, turns as turns_module
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.errors import TaskCancelled
from offloop.wire.frames import RUN, Record


class TestTakingBack:
    @given(st.lists(st.one_of(st.none(), st.lists(st.integers(1, 8), max_size=4)), max_size=24))
    def test_every_place_is_run_or_given_back_once_in_every_order(
        self, steps: list[list[int] | None]
    ) -> None:
        """None: the runner goes on; a list: these places are recalled."""
        turns = Turns()
        run: list[int] = []
        returned: list[int] = []
        for step in [*steps, *[None] * 8]:
            if step is not None:
                returned += turns.take_back([(place, place + 100) for place in step])
            elif turns.begin():
                run.append(turns.place)
        count = turns.place
        outcomes = sorted([*run, *(id - 100 for id in returned)])
        assert outcomes == list(range(1, max([count, *outcomes]) + 1))[: len(outcomes)]
        assert len(set(outcomes)) == len(outcomes)
        assert set(range(1, count + 1)) <= set(outcomes)

    @pytest.mark.usefixtures("restless")
    def test_two_threads_at_once_share_out_all_places(self) -> None:
        count = 20_000
        turns = Turns()
        run: list[int] = []
        returned: list[int] = []
        start = threading.Barrier(2)

        def take_back() -> None:
            start.wait()
            while turns.place < count:
                ahead = range(turns.place, min(turns.place + 5, count + 1))
                returned.extend(turns.take_back([(place, place) for place in ahead]))

        other = threading.Thread(target=take_back)
        try:
            other.start()
            start.wait()
            for _ in range(count):
                if turns.begin():
                    run.append(turns.place)  # noqa: PERF401  # a comprehension would read `place` as late
        finally:
            other.join()
        assert sorted(run + returned) == list(range(1, count + 1))
        assert not turns._taken_back, "nothing is remembered of places that are past"

    def test_a_place_is_given_back_once_only(self) -> None:
        turns = Turns()
        assert turns.take_back([(1, 11), (2, 12)]) == [11, 12]
        assert turns.take_back([(1, 11), (2, 12), (3, 13)]) == [13]
        assert [turns.begin() for _ in range(4)] == [False, False, False, True]


class TestRequestingCancellation:
    def test_of_a_place_ahead_or_behind_nothing_is_to_be_interrupted(self) -> None:
        turns = Turns()
        for _ in range(2):
            turns.begin()
        assert not turns.request_cancel(1)
        assert not turns.request_cancel(3)
        assert not turns.cancelled
        turns.begin()
        turns.interruptible = 3
        turns.interrupt()

    def test_of_the_present_place_it_interrupts_once(self) -> None:
        turns = Turns()
        turns.begin()
        turns.interruptible = 1
        turns.interrupt()
        assert turns.request_cancel(1)
        with pytest.raises(TaskCancelled):
            turns.interrupt()
        turns.interrupt()
        assert turns.cancelled == {1}

    def test_a_signal_that_comes_late_leaves_the_next_place_alone(self) -> None:
        turns = Turns()
        turns.begin()
        assert turns.request_cancel(1)
        turns.interruptible = 0
        turns.interrupt()
        turns.begin()
        turns.interruptible = 2
        turns.interrupt()
        assert not turns.cancelled, "the request is forgotten with its task"

    def test_of_an_async_task_calls_what_cancels_it_while_another_place_runs(self) -> None:
        turns = Turns()
        turns.begin()
        calls: list[str] = []
        turns.awaiting[1] = lambda: calls.append("cancelled")
        turns.begin()
        turns.interruptible = 2
        assert not turns.request_cancel(1)
        assert calls == ["cancelled"]
        turns.interrupt()
        turns.begin()
        assert turns.cancelled == {1}, "the async task goes on, and still is cancelled"

    def test_without_signals_the_thread_is_interrupted_only_in_its_task(self) -> None:
        turns = Turns()
        calls: list[str] = []
        turns.interrupt_from_outside = lambda: calls.append("interrupt")
        turns.withdraw = lambda: calls.append("withdraw")
        turns.begin()
        turns.request_cancel(1)
        assert calls == [], "it is being loaded"
        turns.interruptible = 1
        turns.request_cancel(1)
        turns.settle()
        assert calls == ["interrupt", "withdraw"]

    @pytest.mark.parametrize("register_at", range(4))
    @pytest.mark.parametrize("look_after", range(4))
    def test_it_is_not_lost_while_a_task_turns_out_to_be_async(
        self, register_at: int, look_after: int
    ) -> None:
        turns = Turns()
        turns.begin()
        runner = RunnerInBetween(turns, register_at, register_at + look_after)
        turns.request_cancel(1)
        for _ in range(10):
            runner.moment()
        assert runner.calls, "one of the two threads sees the other"


class RunnerInBetween:
    """The runner's thread, whose steps come between any two of the other thread's looks at shared tables.

    It notes how to cancel the async task, and then looks whether that was requested.
    """

    def __init__(self, turns: Turns, register_at: int, look_at: int) -> None:
        moment = self.moment

        class Awaiting(dict[int, Callable[[], object]]):
            def get(self, key: int, default: Any = None) -> Any:
                moment()
                found = super().get(key, default)
                moment()
                return found

            def __contains__(self, key: object) -> bool:
                moment()
                return super().__contains__(key)

        class Cancelled(set[int]):
            def add(self, place: int, /) -> None:
                moment()
                super().add(place)
                moment()

        self.calls: list[str] = []
        self._register_at, self._look_at = register_at, look_at
        self._moments = 0
        turns.awaiting = self._awaiting = Awaiting()
        turns.cancelled = self._cancelled = Cancelled()

    def moment(self) -> None:
        if self._moments == self._register_at:
            self._awaiting[1] = lambda: self.calls.append("told")
        if self._moments == self._look_at and 1 in self._cancelled:
            self.calls.append("seen")
        self._moments += 1


class RecordingPort:
    """Takes down what the runner reports."""

    variables: Any = None

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, int]] = []

    def load(self, record: Record, environment: Any) -> Any:
        return record[6], (), {}

    def running(self, slot: int, id: int, start: float) -> None:
        """Not looked at here."""

    def flush(self) -> None:
        """Nothing is kept back."""

    def result(self, id: int, value: Any, start: float, end: float) -> None:
        self.outcomes.append(("result", id))

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        self.outcomes.append((repr(error), id))

    def unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        self.outcomes.append((f"unloadable {error!r}", id))

    def cancelled(self, id: int, start: float, end: float) -> None:
        self.outcomes.append(("cancelled", id))


class Injector:
    """Requests a cancellation at one instruction, and delivers the signal at it or some later."""

    def __init__(self, turns: Turns, place: int, requested: int, delivered: int) -> None:
        self.turns = turns
        self.place = place
        self.requested = requested
        self.delivered = delivered
        self.instructions = 0
        self.is_due = False
        # From Python 3.14 on: it does nothing, is in no `try`, and no signal is ever handled there.
        self.not_taken = dis.opmap.get("NOT_TAKEN")
        self.codes = {runner_module.__file__, turns_module.__file__}

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.codes and frame.f_code not in TASK_CODES:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] != self.not_taken:
            self.instructions += 1
            if self.requested and self.instructions >= self.requested and not self.turns._lock.locked():
                self.requested = 0  # by the other thread, which gets the lock now
                self.is_due = self.turns.request_cancel(self.place)
            if self.is_due and self.instructions >= self.delivered:
                self.is_due = False
                self.turns.interrupt()  # the signal handler, in the runner's thread
        return self.trace


def work() -> int:
    try:
        total = sum(range(3))
    finally:
        total = 0
    return total


def fail() -> None:
    raise ValueError("as usual")


TASK_CODES = {work.__code__, fail.__code__}


def run_two_tasks(
    task: Callable[[], Any], variables: Any, place: int = 0, requested: int = 0, delivered: int = 0
) -> tuple[list[tuple[str, int]], int]:
    """Run two tasks, of which one is cancelled; returns what was reported, and the number of instructions."""
    port, turns = RecordingPort(), Turns()
    port.variables = variables
    runner = Runner(port, 1, LocalEnvironment(), turns)  # type: ignore[arg-type]
    records: list[Any] = [(RUN, 0, 0, id, 0.0, 0.0, task) for id in (1, 2)]
    injector = Injector(turns, place, requested, delivered)
    previous = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 asks this when tracing begins
    sys.settrace(injector.trace)
    try:
        runner._work_off(records)
    finally:
        sys.settrace(previous)
    runner.environment.close()
    return port.outcomes, injector.instructions


def inject_everywhere(task: Callable[[], Any], usual: str, in_context: bool) -> None:
    variables = SimpleNamespace(context=lambda own: own.copy()) if in_context else None
    whole, count = run_two_tasks(task, variables)
    assert whole == [(usual, 1), (usual, 2)]
    assert count > 100
    seen = set()
    for place in (1, 2):
        for requested in range(1, count + 1):
            for delay in (0, 7) if place == 1 else (1,):
                outcomes, _ = run_two_tasks(task, variables, place, requested, requested + delay)
                case = f"{place=} {requested=} {delay=}: {outcomes}"
                assert [id for _, id in outcomes] == [1, 2], case
                what = {id: outcome for outcome, id in outcomes}
                assert what[3 - place] == usual, case
                assert what[place] in (usual, "cancelled"), case
                seen.add((place, what[place]))
    assert len(seen) == 4


@pytest.mark.parametrize("in_context", [False, True], ids=["", "in a context"])
@pytest.mark.parametrize(("task", "usual"), [(work, "result"), (fail, "ValueError('as usual')")])
def test_a_cancellation_at_any_instruction_ends_the_task_it_names_or_none(
    task: Callable[[], Any], usual: str, in_context: bool
) -> None:
    # In a process of its own: an exception that a trace function raises leaves its mark on the
    # thread, and CPython 3.11 can loop for ever when it traces instructions of code that ran hot.
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as tests; "
        f"tests.inject_everywhere(tests.{task.__name__}, {usual!r}, {in_context})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_task_cancelled_while_it_was_loaded_does_not_run() -> None:
    turns = Turns()

    class CancelledMeanwhile(RecordingPort):
        def load(self, record: Record, environment: Any) -> Any:
            assert turns.request_cancel(1)
            turns.interrupt()  # too early: nothing runs that could be interrupted
            return pytest.fail, ("it ran",), {}

    port = CancelledMeanwhile()
    runner = Runner(port, 1, LocalEnvironment(), turns)  # type: ignore[arg-type]
    runner._work_off([(RUN, 0, 0, 1, 0.0, 0.0, b"")])
    runner.environment.close()
    assert port.outcomes == [("cancelled", 1)]


@contextmanager
def handled(turns: Turns) -> Iterator[None]:
    previous = signal.signal(signal.SIGUSR1, turns.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_signal_gets_a_task_out_of_a_blocking_call_and_not_the_next_one() -> None:
    turns = Turns()
    main = threading.get_ident()
    reading, writing = os.pipe()
    blocked, over = threading.Event(), threading.Event()

    def cancel() -> None:
        blocked.wait()
        assert turns.request_cancel(1)
        while not over.is_set():
            # More than once: a signal that comes right before the system call
            # begins to block is noticed only when that returns.
            signal.pthread_kill(main, signal.SIGUSR1)
            over.wait(0.01)

    def block() -> None:
        blocked.set()
        os.read(reading, 1)

    thread = threading.Thread(target=cancel)
    with handled(turns):
        thread.start()
        turns.begin()
        turns.interruptible = turns.place
        with pytest.raises(TaskCancelled):
            block()
        over.set()
        thread.join()
        turns.begin()
        turns.interruptible = turns.place
        signal.pthread_kill(main, signal.SIGUSR1)  # one that was held up
        os.write(writing, b"x")
        assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("order", list(permutations(["begin", "recall", "cancel"])))
def test_a_task_recalled_and_cancelled_while_it_begins_has_one_fate(order: tuple[str, ...]) -> None:
    turns = Turns()
    began = False
    returned: list[int] = []
    for step in order:
        if step == "begin":
            began = turns.begin()
        elif step == "recall":
            returned += turns.take_back([(1, 7)])
        else:
            returned += turns.take_back([(1, 7)])
            assert turns.request_cancel(1) == (turns.place == 1)
    assert began == (returned == [])
    assert len(returned) <= 1
