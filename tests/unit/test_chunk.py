"""What runs in a worker for a map: one function over a chunk of items."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from offloop.child import chunk
from offloop.child.chunk import run_chunk, run_star_chunk
from offloop.child.keeping import AsIs
from offloop.errors import TaskCancelled, TaskFailed
from offloop.task import provider


def raise_it(item: Any) -> Any:
    if isinstance(item, BaseException):
        raise item
    return item


def test_values_come_in_order() -> None:
    seconds, values, failures = run_chunk(abs, [-1, 2, -3])
    assert (values, failures) == ([1, 2, 3], None)
    assert seconds >= 0


def test_rows_are_passed_as_several_arguments() -> None:
    assert run_star_chunk(pow, [(2, 3), (3, 2)])[1] == [8, 9]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_item_that_fails_fails_alone(place: int) -> None:
    items: list[Any] = ["a", "b", "c"]
    items[place] = OSError("no")
    _, values, failures = run_chunk(raise_it, items)
    assert values == [None if item is items[place] else item for item in items]
    assert failures.errors == {place: items[place]}


def test_each_item_runs_once_although_others_fail() -> None:
    calls: list[int] = []

    def note(item: int) -> None:
        calls.append(item)
        if item % 3 == 0:
            raise ValueError(item)
        if item % 3 == 1:
            raise StopIteration(item)

    _, _, failures = run_chunk(note, list(range(9)))
    assert calls == list(range(9))
    assert sorted(failures.errors) == [0, 1, 3, 4, 6, 7]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_what_would_end_the_program_is_a_task_that_failed(kind: type[BaseException]) -> None:
    _, values, failures = run_chunk(raise_it, [kind(), 1])
    assert values == [None, 1]
    assert isinstance(failures.errors[0], TaskFailed)
    assert failures.errors[0].type_name == kind.__name__


# Bets


class Clock:
    """Stands for the module `time`; a call takes as long as it says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Any] = []

    def perf_counter(self) -> float:
        return self.now

    def call(self, item: Any, seconds: float = 1e-3) -> Any:
        self.now += seconds
        self.calls.append(item)
        return item


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(chunk, "time", clock)
    return clock


@pytest.mark.parametrize("size", [1, 2, 3, 100, 1000])
def test_a_bet_on_fast_items_runs_them_all(clock: Clock, size: int) -> None:
    seconds, values, failures = run_chunk(lambda item: clock.call(item, 1e-6), range(size), 5e-3)
    assert values == clock.calls == [*range(size)]
    assert seconds == pytest.approx(size * 1e-6)
    assert failures is None
    rows = [(n, 2) for n in range(size)]
    assert run_star_chunk(divmod, rows, 5e-3)[1] == [divmod(*row) for row in rows]


@pytest.mark.parametrize("each", [1e-3, 0.8e-3, 4.9e-3, 5e-3, 1.0])
def test_a_bet_on_slow_items_begins_none_for_which_there_is_no_time(clock: Clock, each: float) -> None:
    _, values, failures = run_chunk(lambda item: clock.call(item, each), range(100), 5e-3)
    assert values == clock.calls == [*range(max(1, int(5e-3 / each)))]
    assert failures is None


def test_a_bet_ends_soon_after_items_become_slow(clock: Clock) -> None:
    _, values, _ = run_chunk(lambda item: clock.call(item, 1e-6 if item < 100 else 1e-3), range(1000), 5e-3)
    assert values == clock.calls
    assert len(values) < 5 * 100


def test_items_of_a_bet_fail_alone(clock: Clock) -> None:
    def fail(item: int) -> int:
        clock.calls.append(item)
        if item % 3 == 0:
            raise ValueError(item)
        if item % 5 == 0:
            raise StopIteration(item)
        return item

    _, values, failures = run_chunk(fail, range(100), 5e-3)
    assert clock.calls == [*range(100)]
    assert sorted(failures.errors) == [n for n in range(100) if values[n] is None]
    assert [n for n in range(100) if values[n] is None] == [n for n in range(100) if not n % 3 or not n % 5]


def test_a_bet_ends_with_a_result_that_may_be_large() -> None:
    _, values, _ = run_chunk(lambda item: [item] if item == 4 else item, range(100), 5e-3)
    assert values == [0, 1, 2, 3, [4]]


async def test_a_bet_gives_back_what_is_to_be_awaited_or_exhausted() -> None:
    async def invert(item: int) -> int:
        return -item

    assert (await run_chunk(invert, [1, 2, 3], 5e-3))[1] == [-1]
    assert run_chunk(lambda item: (n for n in range(item)), [1, 2, 3], 5e-3)[1] == [[0]]


@pytest.fixture
def cancelled() -> Iterator[None]:
    """The chunk's cancellation was requested."""

    class Context:
        cancellations = {1}

        def raise_if_cancelled(self) -> None:
            raise TaskCancelled

        def keeper(self) -> AsIs:
            return AsIs(lambda error: error)

    token = provider.set(Context)  # type: ignore[arg-type]
    yield
    provider.reset(token)


@pytest.mark.usefixtures("cancelled")
@pytest.mark.parametrize("error", [TaskCancelled(), asyncio.CancelledError(), OSError("in finally")])
def test_a_cancellation_and_what_covers_it_up_ends_the_chunk(error: BaseException) -> None:
    calls: list[int] = []

    def fail(item: int) -> None:
        calls.append(item)
        raise error

    with pytest.raises(TaskCancelled):
        run_chunk(fail, [1, 2])
    assert calls == [1]


def test_a_cancellation_that_nobody_asked_for_fails_its_item_alone() -> None:
    _, values, failures = run_chunk(raise_it, [asyncio.CancelledError(), 1, TaskCancelled(), 3])
    assert values == [None, 1, None, 3]
    assert isinstance(failures.errors[0], TaskFailed)
    assert failures.errors[0].type_name.endswith("CancelledError")
    assert isinstance(failures.errors[2], TaskCancelled)


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError, SystemExit])
async def test_what_would_end_a_coroutine_fails_its_item_alone(kind: type[BaseException]) -> None:
    async def fail(item: int) -> int:
        await asyncio.sleep(0)
        return int(raise_it(kind() if item == 1 else item))

    _, values, failures = await run_chunk(fail, [0, 1, 2])
    assert values == [0, None, 2]
    assert isinstance(failures.errors[1], TaskFailed)
    assert failures.errors[1].type_name.endswith(kind.__name__)


async def test_closing_an_async_chunk_ends_it_and_leaves_nothing_unawaited() -> None:
    ended: list[int] = []

    async def wait(item: int) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(item)

    chunk = run_chunk(wait, [1, 2, 3])
    runner = asyncio.create_task(chunk)
    await asyncio.sleep(0)
    chunk.close()  # as when it is collected after its loop was closed
    assert ended == [1]
    with pytest.raises(RuntimeError, match="already awaited"):
        await runner


def test_generators_become_lists() -> None:
    def count(item: int) -> Iterator[int]:
        if item < 0:
            raise ValueError(item)
        yield from range(item)

    _, values, failures = run_chunk(count, [2, -1, 3])
    assert values == [[0, 1], None, [0, 1, 2]]
    assert list(failures.errors) == [1]


async def test_coroutines_and_async_generators_are_awaited_one_after_the_other() -> None:
    log: list[str] = []

    async def invert(item: int) -> float:
        log.append(f"begin {item}")
        await asyncio.sleep(0)
        log.append(f"end {item}")
        return 1 / item

    async def count(item: int) -> AsyncIterator[int]:
        for number in range(item):
            yield number

    _, values, failures = await run_chunk(invert, [1, 0, 2])
    assert values == [1, None, 0.5]
    assert isinstance(failures.errors[1], ZeroDivisionError)
    assert log == [f"{what} {item}" for item in (1, 0, 2) for what in ("begin", "end")]
    assert (await run_chunk(count, [1, 2]))[1:] == ([[0], [0, 1]], None)


async def test_a_function_may_return_an_awaitable_for_some_items_only() -> None:
    async def later() -> str:
        return "later"

    _, values, _ = await run_chunk(lambda item: later() if item else "now", [0, 1, 0])
    assert values == ["now", "later", "now"]


async def test_cancelling_an_async_chunk_ends_it_and_leaves_nothing_unawaited() -> None:
    begun: list[int] = []

    async def wait(item: int) -> None:
        begun.append(item)
        await asyncio.Event().wait()

    chunk = asyncio.ensure_future(run_chunk(wait, [1, 2, 3]))
    await asyncio.sleep(0)
    chunk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chunk
    assert begun == [1]


async def test_an_async_item_that_catches_the_cancellation_is_the_last_one() -> None:
    begun: list[int] = []

    async def catch(item: int) -> None:
        begun.append(item)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    chunk = asyncio.ensure_future(run_chunk(catch, range(3)))
    await asyncio.sleep(0)
    chunk.cancel()
    await asyncio.wait([chunk])
    assert isinstance(chunk.exception(), TaskCancelled)
    assert begun == [0]


def test_it_loads_no_heavy_module() -> None:
    code = (
        "import sys, offloop.child.chunk; "
        "heavy = {'asyncio', 'inspect', 'dataclasses', 'cloudpickle', 'logging', 'pickle', 'traceback'}; "
        "print(heavy & set(sys.modules))"
    )
    path = ":".join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path},
    )
    assert done.stdout.strip() == "set()"
