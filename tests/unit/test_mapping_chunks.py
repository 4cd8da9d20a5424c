"""`Map` over a pool in virtual time: how many items a chunk has, by what they are."""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakepool import FakePool, run_map, turns, until_failure
from hypothesis import given, settings, strategies as st

from offloop import mapchunk, mapfeed
from offloop.child import chunk
from offloop.errors import WorkerCrashed
from offloop.mapchunk import seconds_to_pickle, weight_of
from offloop.mapfeed import TRIALS
from offloop.scheduling import chunking
from offloop.scheduling.chunking import MOST_BET, MOST_ITEMS, MOST_OBJECTS


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are pulled and sent, and run: a busy machine would have chunks shrink."""
    for module in (mapfeed, mapchunk, chunk):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 0.0))


def echo(item: Any) -> Any:
    return item


def pair(*row: Any) -> Any:
    return row


@pytest.mark.parametrize("item", [[1], "x" * 101, (1, (2,)), (1, 2, 3, 4, 5), object()])
async def test_items_that_are_dear_to_pickle_go_in_smaller_chunks(item: object) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    assert len(await run_map(pool, echo, [item] * 100_000)) == 100_000
    assert max(map(len, pool.chunks)) == MOST_OBJECTS


@pytest.mark.parametrize("item", [None, 1.5, "x" * 100, (1, "a")])
async def test_light_items_go_in_large_chunks(item: object) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    assert len(await run_map(pool, echo, [item] * 100_000)) == 100_000
    assert max(map(len, pool.chunks)) == MOST_ITEMS


async def test_results_dear_to_pickle_keep_chunks_small_as_well() -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    await run_map(pool, lambda item: [item], range(100_000))
    assert max(map(len, pool.chunks)) == MOST_OBJECTS


@pytest.mark.parametrize(
    "iterables",
    [[range(1000)], [[1.5, "text", None] * 100], [[None] * 300], [range(1000), ["text"] * 300]],
)
async def test_a_second_map_of_a_function_begins_with_large_chunks(iterables: list[Any]) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    first = await run_map(pool, pair, *iterables)
    assert [len(chunk) for chunk in pool.chunks[:2]] == [1, 1]
    pool.forget()
    assert await run_map(pool, pair, *iterables) == first
    most = min(len(first) // 2, MOST_BET)
    assert [len(chunk) for chunk in pool.chunks[:2]] == [most, most]
    pool.forget()
    await run_map(pool, echo, [*range(100)])
    assert len(pool.chunks[0]) == 1, "of another function nothing is known"


@pytest.mark.parametrize(
    "rows", [iter(range(100)), (n for n in range(100)), [b"x" * 1000] * 100, [1, 2, [3]] * 33, {1: 2}, "text"]
)
async def test_a_second_map_begins_with_one_item_if_rows_may_be_dear_to_pull_or_to_pickle(rows: Any) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    await run_map(pool, echo, range(1000))
    pool.forget()
    await run_map(pool, echo, rows)
    assert len(pool.chunks[0]) == 1


async def test_large_results_keep_chunks_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "MOST_BYTES", 10_000)
    pool = FakePool(2, seconds=lambda item: 1e-7)
    for _ in range(2):
        pool.forget()
        async for result in run_map(pool, bytes, [4000] * 200):
            assert len(result) == 4000
        assert max(map(len, pool.chunks)) == 2
    pool.forget()
    await run_map(pool, bytes, [1] * 100_000)
    assert max(map(len, pool.chunks)) > 100, "the first of these are small"


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        (b"x" * 1000, 1000),
        (bytearray(1000), 1000),
        (memoryview(bytes(1000)), 1000),
        (array("d", [0.0] * 100), 800),
        ("x" * 1000, 1000),
        ([b"x" * 100] * 50, 5000),
        ((bytes(100), [bytes(300)]), 400),
        ({"a": bytes(100), "b": "x" * 50}, 150),
        ([], 0),
        (3.0, 0),
        (object(), 0),
    ],
)
def test_what_a_result_weighs(value: object, weight: int) -> None:
    assert weight_of(value) == weight


def test_what_contains_itself_is_weighed_all_the_same() -> None:
    value: list[Any] = []
    value.append(value)
    assert weight_of(value) == 0


async def test_one_large_result_is_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "MOST_BYTES", 100_000)
    pool = FakePool(2, seconds=lambda item: 1e-7)
    results = await run_map(pool, lambda item: b"" if item else bytes(1_000_000), range(100_000))
    assert len(results) == 100_000
    assert len(pool.chunks) < 500


async def test_heavy_rows_behind_light_ones_are_not_bet_on() -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    await run_map(pool, echo, range(1000))
    pool.forget()
    rows = [*range(100), b"x" * 1000, *range(100, 999)]
    assert await run_map(pool, echo, rows) == rows
    assert len(pool.chunks[0]) == 1


async def test_async_functions_are_not_bet_on_again_and_again() -> None:
    async def invert(item: int) -> int:
        return -item

    pool = FakePool(2, seconds=lambda item: 1e-7)
    for _ in range(4):
        pool.forget()
        assert await run_map(pool, invert, range(20_000)) == [-item for item in range(20_000)]
        assert len(pool.chunks) < 200
        assert sum(pool.sent) < 2 * 20_000


# Bets


def fussy(item: int) -> int:
    if item % 7 == 3:
        raise ValueError(item)
    return -item


@given(
    length=st.integers(0, 700),
    takes=st.lists(st.integers(1, 40), min_size=1),
    workers=st.integers(1, 5),
    ordered=st.booleans(),
    buffersize=st.none() | st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_what_bets_give_back_is_run_once_and_in_its_place(
    length: int, takes: list[int], workers: int, ordered: bool, buffersize: int | None
) -> None:
    async def main() -> None:
        counts = itertools.cycle(takes)
        pool = FakePool(workers, seconds=lambda item: 1e-7, takes=lambda rows: min(rows, next(counts)))
        reports: list[tuple[int, int | None]] = []
        for _ in range(2):  # the second bets at once
            pool.forget()
            results = run_map(
                pool,
                fussy,
                range(length),
                ordered=ordered,
                buffersize=buffersize,
                return_exceptions=True,
                progress=lambda done, total: reports.append((done, total)),
            )
            got = [result.args[0] if isinstance(result, ValueError) else -result async for result in results]
            assert (got if ordered else sorted(got)) == [*range(length)]
            assert sorted(itertools.chain(*pool.chunks)) == [*range(length)]
            if length:
                assert reports[-1] == (length, length)

    asyncio.run(main())


@pytest.mark.parametrize("place", [0, 1, 30, 31, 299])
async def test_a_failure_behind_what_was_given_back_names_its_item(place: int) -> None:
    def fail(item: int) -> int:
        if item == place:
            raise ValueError("no")
        return item

    pool = FakePool(2, seconds=lambda item: 1e-7, takes=lambda rows: min(rows, 30))
    got, error = await until_failure(run_map(pool, fail, range(300)))
    assert got == [*range(place)]
    assert error is not None
    assert error.__notes__ == [f"item {place} of map: {place}"]


async def test_closing_a_map_drops_what_was_given_back() -> None:
    pool = FakePool(1, seconds=lambda item: 1e-7, takes=lambda rows: 1)
    await run_map(pool, echo, range(9))
    pool.forget()
    pool.is_manual = True
    results = run_map(pool, echo, range(100))
    waiting = asyncio.ensure_future(anext(results))
    await turns()
    pool.finish(0)
    assert await waiting == 0
    await results.aclose()
    await turns()
    assert pool.outstanding == []
    assert sum(map(len, pool.chunks)) < 100


async def test_a_bet_that_fails_as_a_whole_fails_all_its_items_and_no_others() -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    await run_map(pool, echo, range(9))
    pool.forget()
    pool.failures[0] = WorkerCrashed("gone")
    results = await run_map(pool, echo, range(100), return_exceptions=True)
    assert [type(result) for result in results] == [WorkerCrashed] * 50 + [int] * 50


@pytest.mark.parametrize("is_lost", [True, False])
async def test_after_a_lost_chunk_the_next_map_bets_less_but_not_after_a_map_that_was_left(
    is_lost: bool,
) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    await run_map(pool, echo, range(100_000))
    pool.forget()
    if is_lost:
        pool.failures[3] = WorkerCrashed("gone")
        await run_map(pool, echo, range(100_000), return_exceptions=True)
        pool.failures.clear()
    else:
        results = run_map(pool, echo, range(100_000))
        await anext(results)
        await results.aclose()
    pool.forget()
    await run_map(pool, echo, range(100_000))
    assert len(pool.chunks[0]) == (MOST_BET if is_lost else MOST_ITEMS)


@dataclass
class Point:
    x: int
    tag: str = "point"


@pytest.mark.parametrize(
    "make",
    [int, lambda number: {"number": number, "tags": ["a", "b"]}, Point, lambda number: Path(f"/{number}")],
)
async def test_a_function_that_carries_much_is_sent_with_few_chunks(make: Callable[[int], object]) -> None:
    pool = FakePool(2, pickling=0.01)
    rows = [make(number) for number in range(1000)]
    assert await run_map(pool, echo, iter(rows)) == rows
    assert pool.sent[:4] == [1, 1, 16, 16]
    assert len(pool.sent) < 12


async def test_a_few_items_that_are_dear_to_send_are_not_taken_for_what_the_function_carries() -> None:
    pool = FakePool(2, pickling=lambda rows: 0.0005 * sum(row is not None for row in rows))
    rows: list[Any] = ([*[None] * 9, bytes(100_000)]) * 300
    assert await run_map(pool, echo, rows) == rows
    assert max(pool.sent) <= 40


async def test_items_that_are_dear_to_send_go_one_by_one() -> None:
    pool = FakePool(2, pickling=0.01)
    assert await run_map(pool, len, [array("b", bytes(100_000))] * 100) == [100_000] * 100
    assert pool.sent == [1] * 100


class Row:
    """It notes that it is pickled, to so many bytes."""

    def __init__(self, pickled: list[Row], size: int) -> None:
        self.pickled, self.size = pickled, size

    def __reduce__(self) -> tuple[Any, ...]:
        self.pickled.append(self)
        return bytes, (bytes(self.size),)


async def test_rows_are_pickled_on_trial_a_few_times_only() -> None:
    pickled: list[Row] = []
    pool = FakePool(2, pickling=0.01)
    await run_map(pool, lambda row: 0, [Row(pickled, 100_000) for _ in range(100)])
    assert len(pool.sent) == 100
    assert len(pickled) == TRIALS


def test_rows_are_pickled_on_trial() -> None:
    assert seconds_to_pickle([{"a": 1, "b": [2, "three"]}] * 100) is not None


@pytest.mark.parametrize(
    "row", [bytes(100_000), "x" * 100_000, [*range(100_000)], bytearray(100_000), lambda: 0]
)
def test_a_trial_of_what_is_long_or_cannot_be_pickled_tells_nothing(row: object) -> None:
    assert seconds_to_pickle([row] * 3) is None


def test_a_trial_goes_no_further_than_it_has_to() -> None:
    pickled: list[Row] = []
    assert seconds_to_pickle([Row(pickled, 50_000) for _ in range(1000)]) is None
    assert len(pickled) < 5
