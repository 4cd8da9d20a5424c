"""`Map` over a pool in virtual time: how many items a chunk has, by what they are."""

from __future__ import annotations

from typing import Any

import pytest
from fakepool import FakePool, run_map

from offloop.scheduling import chunking
from offloop.scheduling.chunking import FIRST_BET, LEAP, MOST_ITEMS, MOST_OBJECTS


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
    [
        [range(1000)],
        [[1.5, "text", None] * 100],
        [[(1, 2)] * 300],
        [range(1000), ["text"] * 300],
    ],
)
async def test_a_second_map_of_a_function_begins_with_larger_chunks(iterables: list[Any]) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    first = await run_map(pool, pair, *iterables)
    assert [len(chunk) for chunk in pool.chunks[:2]] == [1, 1]
    pool.chunks.clear()
    pool.executions.clear()
    assert await run_map(pool, pair, *iterables) == first
    assert [len(chunk) for chunk in pool.chunks[:2]] == [FIRST_BET, FIRST_BET]
    assert (await run_map(pool, echo, [*range(100)]))[-1] == 99
    assert 1 in map(len, pool.chunks), "of another function nothing is known"


@pytest.mark.parametrize(
    "rows", [iter(range(100)), (n for n in range(100)), [b"x" * 1000] * 100, [1, 2, [3]] * 33, {1: 2}, "text"]
)
async def test_a_second_map_begins_with_one_item_if_rows_may_be_dear_to_pull_or_to_pickle(rows: Any) -> None:
    pool = FakePool(2, seconds=lambda item: 1e-7)
    await run_map(pool, echo, range(1000))
    pool.chunks.clear()
    pool.executions.clear()
    await run_map(pool, echo, rows)
    assert len(pool.chunks[0]) == 1


async def test_large_results_keep_chunks_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "MOST_BYTES", 10_000)
    pool = FakePool(2, seconds=lambda item: 1e-7)
    async for result in run_map(pool, bytes, [4000] * 200):
        assert len(result) == 4000
    assert max(map(len, pool.chunks)) <= LEAP, "the first ones may be on their way"
    pool.chunks.clear()
    pool.executions.clear()
    await run_map(pool, bytes, [4000] * 200)
    assert max(map(len, pool.chunks)) == 2
