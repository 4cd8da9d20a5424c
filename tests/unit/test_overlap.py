"""A worker with an event loop: what it reports, in orders that are hard to hit by chance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from offloop import LocalEnvironment
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.wire.frames import RUN, STOP, Record


def task_record(id: int) -> Record:
    return (RUN, 0, 0, id, 1.0, 0.0, b"")


STOP_RECORD: Record = (STOP, 0, 0, 0, 0.0, 0.0, b"")


class FakePort:
    """Hands out calls by task id, and writes down what is reported."""

    variables = None

    def __init__(self, calls: dict[int, Callable[[], Any]]) -> None:
        self._calls = calls
        self._records = [[*map(task_record, calls), STOP_RECORD]]
        self.reports: list[tuple[str, int]] = []

    def receive(self, timeout: float | None = None) -> list[Record] | None:
        return self._records.pop() if self._records else []

    def attach(self, loop: asyncio.AbstractEventLoop, arrived: Callable[[], None]) -> None:
        loop.call_soon(arrived)

    def detach(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def note(self, record: Record, environment: Any) -> None:
        raise AssertionError(record)

    def load(self, record: Record, environment: Any) -> Any:
        return self._calls[record[3]], (), {}

    def result(self, id: int, value: Any, start: float, end: float) -> None:
        self.reports.append(("result", id))

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        self.reports.append((type(error).__name__, id))

    unloadable = failure

    def cancelled(self, id: int, start: float, end: float) -> None:
        self.reports.append(("cancelled", id))

    def running(self, slot: int, id: int, start: float) -> None:
        pass

    def say(self, kind: int, payload: bytes = b"") -> None:
        pass

    def flush(self) -> None:
        pass


def run(turns: Turns, calls: dict[int, Callable[[], Any]], slots: int = 1) -> list[tuple[str, int]]:
    """What a worker reports of these calls, which it gets at once."""
    port = FakePort(calls)
    assert Runner(port, 1, LocalEnvironment(), turns, slots).serve()
    return port.reports


async def for_ever() -> None:
    await asyncio.Event().wait()


async def at_once() -> int:
    return 1


def test_a_cancellation_between_the_call_and_the_first_await_is_not_lost() -> None:
    turns = Turns()

    def cancelled_as_it_returns() -> Any:
        turns.request_cancel(turns.place)  # its signal comes when the call has just returned
        return for_ever()

    assert run(turns, {7: cancelled_as_it_returns, 8: at_once}) == [("cancelled", 7), ("result", 8)]


def test_a_cancellation_of_a_task_that_awaits_ends_it_alone() -> None:
    turns = Turns()

    async def cancel_the_other() -> None:
        turns.request_cancel(1)

    reports = run(turns, {7: for_ever, 8: cancel_the_other}, slots=2)
    assert sorted(reports) == [("cancelled", 7), ("result", 8)]


def test_exit_requests_of_async_tasks_do_not_end_the_loop() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def interrupt() -> None:
        raise KeyboardInterrupt

    reports = run(Turns(), {1: leave, 2: interrupt, 3: at_once})
    assert reports == [("SystemExit", 1), ("KeyboardInterrupt", 2), ("result", 3)]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exit_requests_of_subtasks_and_callbacks_cost_who_awaits_them_alone(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        raise kind("on the loop")

    async def subtask() -> None:
        leave()

    async def awaits_one() -> None:
        await asyncio.create_task(subtask())

    async def leaves_a_callback() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: leave())
        loop.call_soon(leave)
        await asyncio.sleep(0)

    async def linger() -> None:
        try:
            await for_ever()
        finally:
            leave()

    async def leaves_a_task_for_the_end() -> None:
        background.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    background: list[asyncio.Task[None]] = []
    calls = {1: awaits_one, 2: leaves_a_callback, 3: at_once, 4: leaves_a_task_for_the_end}
    reports = run(Turns(), calls, slots=4)
    assert sorted(reports, key=lambda report: report[1]) == [
        (kind.__name__, 1),
        ("result", 2),
        ("result", 3),
        ("result", 4),
    ]
    assert caplog.text.count(f"{kind.__name__} in a callback or a subtask") == 3


def test_a_task_for_which_no_loop_can_be_made_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make, refusals = asyncio.new_event_loop, [OSError("too many open files"), SystemExit()]

    def make_or_refuse() -> asyncio.AbstractEventLoop:
        if refusals:
            raise refusals.pop(0)
        return make()

    monkeypatch.setattr(asyncio, "new_event_loop", make_or_refuse)
    reports = run(Turns(), {1: at_once, 2: at_once, 3: int, 4: at_once, 5: int})
    assert reports == [("OSError", 1), ("SystemExit", 2), ("result", 3), ("result", 4), ("result", 5)]


def test_what_goes_wrong_when_records_come_ends_the_worker() -> None:
    class Deaf(FakePort):
        def receive(self, timeout: float | None = None) -> list[Record] | None:
            if timeout == 0:  # on the loop
                raise MemoryError
            return super().receive(timeout)

    with pytest.raises(MemoryError):
        Runner(Deaf({1: at_once}), 1, LocalEnvironment(), Turns()).serve()


def test_what_goes_wrong_between_tasks_ends_the_worker() -> None:
    class Speechless(FakePort):
        def flush(self) -> None:
            raise OSError("the descriptor was closed")

    with pytest.raises(OSError, match="was closed"):
        Runner(Speechless({1: at_once}), 1, LocalEnvironment(), Turns()).serve()


def test_a_parent_that_is_gone_as_outcomes_are_sent_is_no_failure() -> None:
    class Unheard(FakePort):
        def flush(self) -> None:
            raise BrokenPipeError

    assert not Runner(Unheard({1: at_once}), 1, LocalEnvironment(), Turns()).serve()


def test_a_context_in_which_nothing_was_awaited_is_not_the_next_tasks() -> None:
    def fail() -> None:
        raise ValueError

    port = FakePort({1: fail})
    runner = Runner(port, 1, LocalEnvironment(), Turns())
    runner.context = Context()  # a signal came right when the task had returned an awaitable
    runner.turns.begin()
    runner.run_task(task_record(1))
    assert runner.context is None
    assert port.reports == [("ValueError", 1)]
    runner.environment.close()


def test_sync_tasks_keep_their_order_among_async_ones() -> None:
    order: list[int] = []

    def sync(number: int) -> Callable[[], None]:
        return lambda: order.append(number)

    run(Turns(), {1: at_once, 2: sync(2), 3: sync(3), 4: at_once, 5: sync(5)}, slots=3)
    assert order == [2, 3, 5]


def test_sync_tasks_come_behind_the_first_steps_of_async_ones_before_them() -> None:
    order: list[int] = []

    def noted(number: int, *, is_async: bool) -> Callable[[], Any]:
        async def note_later() -> None:
            order.append(number)
            await asyncio.sleep(0)

        return note_later if is_async else lambda: order.append(number)

    calls = {number: noted(number, is_async=bool(number % 3)) for number in range(1, 31)}
    reports = run(Turns(), calls, slots=40)
    assert order == sorted(order)
    assert len(reports) == len(order) == 30
