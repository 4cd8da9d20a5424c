"""Where there are no signals: an interruption from another thread never outlives the task it names."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from offloop import LocalEnvironment
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.errors import TaskCancelled
from offloop.wire.frames import RUN


class Announced:
    """A lock that tells when somebody waits until nobody has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.wanted = threading.Event()

    def locked(self) -> bool:
        if is_locked := self._lock.locked():
            self.wanted.set()
        return is_locked

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class EndsInBetween(Turns):
    """The runner's thread ends its task right when the other thread has seen that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = self._lock = Announced()  # type: ignore[assignment]
        self.steps: list[str] = []
        self.interrupt_from_outside = lambda: self.steps.append("interrupt")
        self.withdraw = lambda: self.steps.append("withdraw")
        self.runner = threading.Thread(target=self.end_the_task)
        self._is_armed = False
        self._mark = 0

    def arm(self) -> None:
        self._is_armed = True

    @property
    def interruptible(self) -> int:  # type: ignore[override]
        seen = self._mark
        if self._is_armed:
            self._is_armed = False
            self.runner.start()
            while self.runner.is_alive() and not self.lock.wanted.wait(0.01):
                pass  # until it is through, or waits for the lock
        return seen

    @interruptible.setter
    def interruptible(self, place: int) -> None:
        self._mark = place

    def end_the_task(self) -> None:
        self.interruptible = 0
        if self.cancelled:
            self.settle()
        self.steps.append("next task")


def test_no_interruption_is_on_its_way_when_the_next_task_begins() -> None:
    turns = EndsInBetween()
    turns.place = turns.interruptible = 1
    turns.arm()
    turns.request_cancel(1)
    turns.runner.join()
    assert turns.steps == ["interrupt", "withdraw", "next task"]


def test_settling_waits_for_whoever_interrupts_and_may_itself_be_interrupted() -> None:
    turns = Turns()
    turns.begin()
    looks: list[str] = []

    class Lock:
        """Held by the other thread; taking it here would fail."""

        def locked(self) -> bool:
            looks.append("look")
            if len(looks) == 1:
                raise TaskCancelled("the interruption, which comes at this moment")
            return len(looks) < 4

    turns._lock = Lock()  # type: ignore[assignment]
    turns.withdraw = lambda: looks.append("withdraw")
    with pytest.raises(TaskCancelled):
        turns.settle()
    turns.settle()
    assert looks == ["look", "look", "look", "look", "withdraw"]


class Port:
    """Takes down what the runner reports."""

    variables = None

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, Any]] = []

    def load(self, record: Any, environment: Any) -> Any:
        return record[6], (), {}

    def running(self, slot: int, id: int, start: float) -> None:
        """Not looked at here."""

    def cancelled(self, id: int, start: float, end: float) -> None:
        self.outcomes.append((id, "cancelled"))

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        self.outcomes.append((id, error))


def test_what_is_on_its_way_is_withdrawn_also_when_the_task_turns_out_to_be_async() -> None:
    turns = Turns()
    withdrawn: list[int] = []
    turns.interrupt_from_outside = lambda: None
    turns.withdraw = lambda: withdrawn.append(turns.interruptible)

    class Awaitable:
        def __await__(self) -> Any:
            yield

    def cancelled_meanwhile() -> Awaitable:
        turns.request_cancel(1)
        return Awaitable()

    runner = Runner(Port(), 1, LocalEnvironment(), turns)  # type: ignore[arg-type]
    turns.begin()
    awaitable = runner.run_task((RUN, 0, 0, 1, 0.0, 0.0, cancelled_meanwhile))  # type: ignore[arg-type]
    assert isinstance(awaitable, Awaitable)
    assert withdrawn == [0]
    assert turns.cancelled == {1}, "the event loop cancels it"
