"""The engine of ``offloop map``: order, chunks that fail as a whole, retries, leaving early."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from offloop import WorkerPool
from offloop.cli.outcomes import Outcomes
from offloop.testing import InlineWorkerFactory

BOTH_ORDERS = pytest.mark.parametrize("ordered", [True, False])


async def given(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


def inline(concurrency: int = 1) -> WorkerPool:
    return WorkerPool(1, factory=InlineWorkerFactory(concurrency=concurrency))


def outcomes(
    pool: WorkerPool, call: Callable[[str], Any], inputs: Any, *, ordered: bool = True, retries: int = 0
) -> Any:
    return aiter(Outcomes(pool, call, inputs, ordered=ordered, timeout=None, retries=retries))


async def test_unordered_pairs_come_as_they_end() -> None:
    gates = {text: asyncio.Event() for text in "abc"}

    async def wait(text: str) -> str:
        await gates[text].wait()
        return text.upper()

    async with (
        inline(concurrency=3) as pool,
        aclosing(outcomes(pool, wait, given(*gates), ordered=False)) as it,
    ):
        for text in "cab":
            gates[text].set()
            assert await anext(it) == (text, text.upper())


async def test_ordered_pairs_wait_for_those_before_them() -> None:
    gate = asyncio.Event()
    ended = []

    async def wait(text: str) -> str:
        if text == "first":
            await gate.wait()
        ended.append(text)
        if text == "last":
            gate.set()
        return text

    async with inline(concurrency=3) as pool:
        pairs = [pair async for pair in outcomes(pool, wait, given("first", "second", "last"))]
    assert ended == ["second", "last", "first"]
    assert [text for text, _ in pairs] == ["first", "second", "last"]


class Flaky:
    """Fails each text as often as ``failures`` says."""

    def __init__(self, **failures: int) -> None:
        self.left = Counter(failures)
        self.calls: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        self.calls[text] += 1
        self.left[text] -= 1
        if self.left[text] >= 0:
            raise OSError(text)
        return text


@BOTH_ORDERS
async def test_an_input_that_fails_is_tried_again_as_often_as_was_said(ordered: bool) -> None:
    flaky = Flaky(once=1, twice=2, thrice=3)
    async with inline() as pool:
        pairs = [
            pair
            async for pair in outcomes(
                pool, flaky, given("once", "fine", "twice", "thrice"), ordered=ordered, retries=2
            )
        ]
    if ordered:
        assert [text for text, _ in pairs] == ["once", "fine", "twice", "thrice"]
    results = dict(pairs)
    assert isinstance(results.pop("thrice"), OSError)
    assert results == {text: text for text in ("once", "fine", "twice")}
    assert flaky.calls == {"once": 2, "fine": 1, "twice": 3, "thrice": 3}


async def test_retries_do_not_hold_up_other_retries() -> None:
    failed = set()
    waiting = asyncio.Barrier(3)

    async def once(text: str) -> str:
        if text not in failed:
            failed.add(text)
            raise OSError
        await waiting.wait()  # until all three are being tried again
        return text

    async with inline(concurrency=3) as pool:
        pairs = [pair async for pair in outcomes(pool, once, given("a", "b", "c"), retries=1)]
    assert pairs == [("a", "a"), ("b", "b"), ("c", "c")]


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("no")


@BOTH_ORDERS
async def test_of_a_chunk_that_fails_as_a_whole_only_the_culprit_fails(ordered: bool) -> None:
    calls: Counter[str] = Counter()

    def result(text: str) -> object:
        calls[text] += 1
        return Unpicklable() if text == "700" else text

    texts = [str(number) for number in range(1000)]
    async with WorkerPool(1, factory=InlineWorkerFactory(pickling=True)) as pool:
        pairs = [pair async for pair in outcomes(pool, result, given(*texts), ordered=ordered)]
    if ordered:
        assert [text for text, _ in pairs] == texts
    failed = [text for text, outcome in pairs if isinstance(outcome, Exception)]
    assert failed == ["700"]
    assert sorted(int(text) for text, _ in pairs) == list(range(1000))


@BOTH_ORDERS
async def test_inputs_that_break_off_are_told_behind_what_came_before(ordered: bool) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "1"
        raise OSError("the disk is gone")

    async with inline() as pool:
        it = outcomes(pool, int, broken(), ordered=ordered)
        assert await anext(it) == ("1", 1)
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(it)


@BOTH_ORDERS
async def test_takes_no_more_inputs_than_it_has_room_for(ordered: bool) -> None:
    taken = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield str(taken)

    async with inline() as pool, aclosing(outcomes(pool, int, endless(), ordered=ordered)) as it:
        assert await anext(it) == ("1", 1)
        for _ in range(30_000):  # turns of the event loop, each good for many inputs
            await asyncio.sleep(0)
        assert taken < 10_000


@BOTH_ORDERS
async def test_leaving_early_cancels_what_is_tried_again(ordered: bool) -> None:
    again, cancelled = asyncio.Event(), asyncio.Event()

    async def hang_at_the_second_try(text: str) -> str:
        if text == "fine":
            await again.wait()
            return text
        if not again.is_set():
            again.set()
            raise OSError
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return text

    async with inline(concurrency=2) as pool:
        it = outcomes(pool, hang_at_the_second_try, given("fine", "bad"), ordered=ordered, retries=1)
        assert await anext(it) == ("fine", "fine")
        for _ in range(100):  # let the second try begin
            await asyncio.sleep(0)
        await it.aclose()
        assert cancelled.is_set()
