"""`Map`'s options: checks, failures, timeouts, progress."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from fakepool import FakePool, collect, run_map, turns, until_failure

from offloop.errors import RemoteTraceback, SerializationError, TaskFailed, WorkerCrashed
from offloop.progress import Reporter


def invert(x: int) -> float:
    if x < 0:
        raise SystemExit(x)
    return 1 / x


# Checks at the call


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": 1.5}, TypeError),
        ({"chunksize": True}, TypeError),
        ({"buffersize": -1}, ValueError),
        ({"buffersize": "2"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1.0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": 1.0, "chunksize": 2}, ValueError),
        ({"progress": 3}, TypeError),
    ],
)
def test_a_wrong_option_is_an_error_at_the_call(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        run_map(FakePool(), abs, [1], **options)


def test_a_function_or_input_of_the_wrong_kind_is_an_error_at_the_call() -> None:
    with pytest.raises(TypeError, match="callable"):
        run_map(FakePool(), 3, [1])
    with pytest.raises(TypeError, match="iterable"):
        run_map(FakePool(), abs)
    with pytest.raises(TypeError, match="not int"):
        run_map(FakePool(), abs, [1], 2)


# Failures


@pytest.mark.parametrize("chunksize", [1, 3, 50, None])
@pytest.mark.parametrize("pickles", [True, False])
async def test_an_item_that_fails_is_raised_in_its_place_with_a_note(
    chunksize: int | None, pickles: bool
) -> None:
    items = [1, 2, 4, 0, 5]
    results, error = await until_failure(
        run_map(FakePool(pickles=pickles), invert, items, chunksize=chunksize)
    )
    assert results == [1, 0.5, 0.25]
    assert isinstance(error, ZeroDivisionError)
    assert error.__notes__ == ["item 3 of map: 0"]
    assert isinstance(error.__cause__, RemoteTraceback) == pickles


async def test_a_failure_cancels_what_is_outstanding() -> None:
    pool = FakePool(2, is_manual=True)
    results = asyncio.ensure_future(collect(run_map(pool, invert, [0, *range(1, 100)])))
    await turns()
    assert len(pool.outstanding) > 1
    pool.finish(0)
    with pytest.raises(ZeroDivisionError):
        await results
    assert not pool.outstanding


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("pickles", [True, False])
async def test_exceptions_can_take_the_place_of_results(ordered: bool, pickles: bool) -> None:
    items = [1, 0, 2, -3, 4] * 10
    results = await run_map(
        FakePool(pickles=pickles), invert, items, return_exceptions=True, ordered=ordered, chunksize=7
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    assert [type(failure) for failure in failures] == [ZeroDivisionError, TaskFailed] * 10
    assert {note for failure in failures for note in failure.__notes__} == {
        f"item {index} of map: {item}" for index, item in enumerate(items) if item <= 0
    }
    assert (
        sorted(result for result in results if isinstance(result, float))
        == [0.25] * 10 + [0.5] * 10 + [1.0] * 10
    )


async def test_a_note_survives_a_hostile_repr_and_stays_short() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise OSError("no repr")

    def fail(item: object) -> None:
        raise ValueError("no")

    first, second = await run_map(FakePool(), fail, [Hostile(), "x" * 10_000], return_exceptions=True)
    assert "Hostile" in first.__notes__[0]
    assert len(second.__notes__[0]) < 120


async def test_several_inputs_are_noted_together() -> None:
    (failure,) = await run_map(FakePool(), lambda x, y: x / y, [1], [0], return_exceptions=True)
    assert failure.__notes__ == ["item 0 of map: (1, 0)"]


@pytest.mark.parametrize("error", [WorkerCrashed("The worker crashed"), SerializationError("no pickle")])
async def test_a_chunk_that_fails_as_a_whole_fails_all_its_items(error: Exception) -> None:
    pool = FakePool()
    pool.failures[1] = error
    results = await run_map(pool, invert, range(1, 8), chunksize=3, return_exceptions=True)
    assert results == [1, 1 / 2, 1 / 3, error, error, error, 1 / 7]
    assert error.__notes__ == ["one of items 3 to 5 of map: 4 to 6"]
    assert len(pool.chunks) == 3


async def test_a_chunk_that_somebody_else_cancelled_cancels_the_consumer() -> None:
    pool = FakePool(is_manual=True)
    results = asyncio.ensure_future(collect(run_map(pool, invert, [1, 2])))
    await turns()
    pool.executions[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await results
    assert not pool.outstanding


# Timeout


async def test_a_timeout_counts_for_each_item() -> None:
    pool = FakePool()
    assert await run_map(pool, abs, range(20), timeout=2.5) == list(range(20))
    assert {len(chunk) for chunk in pool.chunks} == {1}
    assert set(pool.timeouts) == {2.5}


async def test_without_a_timeout_the_workers_own_default_counts() -> None:
    class Strict(FakePool):
        def enqueue(self, task: Any, **options: Any) -> Any:
            given.append(options)
            return super().enqueue(task)

    given: list[dict[str, Any]] = []
    for options in {}, {"timeout": None}, {"timeout": float("inf")}:
        assert await run_map(Strict(), abs, [-1], chunksize=2, **options) == [1]
    assert given == [{}, {}, {"timeout": float("inf")}]


# Async and generator functions


async def test_coroutine_functions_are_awaited() -> None:
    async def invert_later(x: int) -> float:
        await asyncio.sleep(0)
        return invert(x)

    results = await run_map(FakePool(), invert_later, [1, 0, 2], chunksize=3, return_exceptions=True)
    assert results[::2] == [1, 0.5]
    assert isinstance(results[1], ZeroDivisionError)


# Progress


async def test_progress_ends_with_the_total() -> None:
    reports: list[tuple[int, int | None]] = []
    await run_map(FakePool(), abs, range(1000), progress=lambda *report: reports.append(report))
    assert reports[0][1] == 1000
    assert reports[-1] == (1000, 1000)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


async def test_progress_over_an_input_of_unknown_length_knows_the_total_at_the_end() -> None:
    reports: list[tuple[int, int | None]] = []
    await run_map(FakePool(), abs, iter(range(5)), progress=lambda *report: reports.append(report))
    assert reports[0][1] is None
    assert reports[-1] == (5, 5)


async def test_what_progress_raises_ends_the_map() -> None:
    def refuse(done: int, total: int | None) -> None:
        raise OSError("no terminal")

    pool = FakePool(seconds=lambda item: 1.0)
    with pytest.raises(OSError, match="no terminal"):
        await run_map(pool, abs, range(1000), progress=refuse)
    assert not pool.outstanding
    assert len(pool.chunks) < 1000


def test_reports_are_at_most_ten_a_second_and_the_last() -> None:
    now = 0.0
    reports: list[tuple[int, int | None]] = []
    reporter = Reporter(lambda *report: reports.append(report), lambda: now)
    for _ in range(1000):
        reporter.add(1, None)
        now += 0.001
    reporter.finish()
    assert 10 <= len(reports) <= 12
    assert reports[-1] == (1000, 1000)


async def test_a_bar_is_drawn_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []

    class Bar:
        def __init__(self, title: str) -> None:
            events.append(title)

        def __enter__(self) -> None:
            events.append("start")

        def __exit__(self, *error: object) -> None:
            events.append("stop")

        def __call__(self, done: int, total: int | None = None) -> None:
            events.append((done, total))

    module = type(sys)("offloop.cli.bar")
    module.Bar = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "offloop.cli.bar", module)
    await run_map(FakePool(), abs, [1, 2], progress=True)
    assert events[:2] == ["abs", "start"]
    assert events[-2:] == [(2, 2), "stop"]


def test_a_bar_without_the_extra_is_an_error_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "offloop.cli.bar", None)
    with pytest.raises(ImportError, match=r"offloop\[cli\]"):
        run_map(FakePool(), abs, [1], progress=True)
