"""Maps: order, back-pressure, failures and early ends."""

from __future__ import annotations

import asyncio
import gc
import itertools
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from support import maps, tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Log

from contract.base import Context
from offloop import RemoteTraceback, StatusError, TaskFailed, TaskTimeout, WorkerKilled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def counted(pulled: list[int]) -> Iterator[int]:
    """All numbers, noting how far they were pulled."""
    for number in itertools.count():
        pulled.append(number)
        yield number


async def acounted(pulled: list[int]) -> AsyncIterator[int]:
    """All numbers, from an async iterable."""
    for number in counted(pulled):
        await asyncio.sleep(0)
        yield number


class MapContract(Context):
    """What ``map`` gives, for every kind of input."""

    async def test_awaiting_a_map_gives_a_list_in_the_order_of_the_input(self) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(tasks.echo, range(1000)) == list(range(1000))

    async def test_iterating_a_map_gives_results_in_the_order_of_the_input(self) -> None:
        async with self.pool(2) as pool:
            assert [item async for item in pool.map(tasks.echo, range(100))] == list(range(100))

    async def test_an_ordered_map_waits_for_a_slow_first_item(self, gate: Gate) -> None:
        def hold_first(number: int) -> int:
            return tasks.pass_gate(path, number) if number == 0 else number

        path = gate.path
        async with self.pool(2) as pool:
            mapping = asyncio.ensure_future(_list(pool.map(hold_first, range(5), chunksize=1)))
            await gate.arrived()
            gate.open()
            assert await mapping == [0, 1, 2, 3, 4]

    async def test_an_unordered_map_yields_as_completed(self, gate: Gate) -> None:
        def hold_first(number: int) -> int:
            return tasks.pass_gate(path, number) if number == 0 else number

        path = gate.path
        async with self.pool(2) as pool, fail_after(20):
            mapping = pool.map(hold_first, range(4), ordered=False, chunksize=1)
            early = [await anext(mapping) for _ in range(3)]
            gate.open()
            assert sorted(early) == [1, 2, 3]
            assert [item async for item in mapping] == [0]

    async def test_an_unordered_map_awaited_has_every_result(self) -> None:
        async with self.pool(2) as pool:
            assert sorted(await pool.map(tasks.echo, range(100), ordered=False)) == list(range(100))

    async def test_a_map_over_several_iterables_ends_with_the_shortest(self) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(tasks.add, [1, 2, 3], itertools.count(10)) == [11, 13, 15]

    async def test_a_map_takes_async_iterables_and_mixes_them(self) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(tasks.echo, tasks.acount_to(5)) == [0, 1, 2, 3, 4]
            assert await pool.map(tasks.add, tasks.acount_to(3), [10, 20, 30]) == [10, 21, 32]

    @pytest.mark.parametrize("source", [counted, acounted], ids=["sync", "async"])
    async def test_an_endless_input_is_pulled_only_as_far_as_needed(self, source: Any) -> None:
        pulled: list[int] = []
        async with self.pool(2) as pool:
            async with aclosing(pool.map(tasks.echo, source(pulled), buffersize=8)) as mapping:
                taken = [await anext(mapping) for _ in range(20)]
            assert taken == list(range(20))
            assert len(pulled) <= 20 + 8 + 1

    async def test_no_more_than_buffersize_items_are_in_flight(self, gate: Gate) -> None:
        pulled: list[int] = []
        path = gate.path
        async with self.pool(1) as pool:
            mapping = pool.map(lambda number: tasks.pass_gate(path, number), counted(pulled), buffersize=4)
            async with aclosing(mapping):
                first = asyncio.ensure_future(anext(mapping))
                await gate.arrived()
                assert 1 <= len(pulled) <= 4
                gate.open()
                assert await first == 0

    async def test_an_endless_input_without_buffersize_is_not_pulled_for_ever(self, gate: Gate) -> None:
        pulled: list[int] = []
        path = gate.path
        async with self.pool(1) as pool:
            async with aclosing(pool.map(lambda n: tasks.pass_gate(path, n), counted(pulled))) as mapping:
                first = asyncio.ensure_future(anext(mapping))
                await gate.arrived()
                assert len(pulled) <= 10_000
                gate.open()
                assert await first == 0

    @pytest.mark.parametrize("source", [[], iter(()), tasks.acount_to(0)], ids=["list", "iterator", "async"])
    async def test_a_map_over_nothing_is_empty(self, source: Any) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(tasks.echo, source) == []

    @pytest.mark.parametrize("chunksize", [None, 1, 7, 100, 10_000])
    async def test_the_chunk_size_changes_no_result(self, chunksize: int | None) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(tasks.echo, range(300), chunksize=chunksize) == list(range(300))

    @pytest.mark.parametrize("option", ["chunksize", "buffersize"])
    @pytest.mark.parametrize(
        ("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)]
    )
    async def test_a_bad_size_is_refused(self, option: str, value: object, error: type[Exception]) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(error, match=option):
                await pool.map(tasks.echo, [1], **{option: value})

    async def test_a_map_of_what_is_not_callable_is_a_type_error(self) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(TypeError, match="callable"):
                await pool.map("echo", [1])  # type: ignore[arg-type]

    async def test_a_map_of_a_lambda_and_of_a_coroutine_function(self) -> None:
        async with self.pool(2) as pool:
            assert await pool.map(lambda number: number * 2, range(5)) == [0, 2, 4, 6, 8]
            assert await pool.map(tasks.aecho, range(5)) == [0, 1, 2, 3, 4]

    async def test_progress_is_told_of_every_step_up_to_the_last(self) -> None:
        steps: list[tuple[int, int | None]] = []
        async with self.pool(2) as pool:
            await pool.map(tasks.echo, range(50), progress=lambda done, total: steps.append((done, total)))
        assert steps[-1] == (50, 50)
        assert steps == sorted(steps)

    @pytest.mark.parametrize("chunksize", [None, 1, 7])
    async def test_a_result_is_as_it_was_when_its_item_returned(self, chunksize: int | None) -> None:
        if not self.pickles:
            pytest.skip("results are shared, as those of tasks")
        async with self.pool(1) as pool:
            for _ in range(2):
                assert await pool.map(maps.Refill(), range(50), chunksize=chunksize) == [
                    [n] for n in range(50)
                ]

    async def test_two_maps_share_a_pool(self) -> None:
        async with self.pool(2) as pool:
            both = await asyncio.gather(
                *(_list(pool.map(tasks.add, range(200), [n] * 200)) for n in (0, 1000))
            )
        assert both == [list(range(200)), list(range(1000, 1200))]

    async def test_a_worker_of_its_own_maps_too(self) -> None:
        async with self.worker() as worker:
            assert await worker.map(tasks.echo, range(10)) == list(range(10))

    async def test_a_map_after_shutdown_is_refused(self) -> None:
        pool = self.pool(1)
        await pool.shutdown()
        with pytest.raises(StatusError):
            await pool.map(tasks.echo, range(3))

    async def test_async_items_overlap_on_a_worker_of_its_own_and_on_a_lease_as_in_a_pool(
        self, gate: Gate
    ) -> None:
        factory = self.make_factory(concurrency=10)
        async with self.pool(1, factory=factory) as pool, factory.create() as single:
            async with pool.get_worker() as lease:
                workers = [single, lease, lease.options(priority=1)]
                maps = [
                    asyncio.ensure_future(_list(w.map(tasks.apass_gate, [gate.path] * 6))) for w in workers
                ]
                await gate.arrived(6 + 10)
                gate.open()
                await asyncio.gather(*maps)

    async def test_a_map_without_a_limit_of_time_goes_beyond_the_default(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            limited = pool.options(timeout=0.05)
            with pytest.raises(TaskTimeout):
                await limited.map(tasks.apass_gate, [gate.path])
            late = asyncio.ensure_future(_list(limited.map(tasks.apass_gate, [gate.path], timeout=inf)))
            await gate.arrived(2)
            await asyncio.sleep(0.2)
            assert not late.done()
            gate.open()
            await late


class MapFailureContract(Context):
    """Items that fail, and maps that end early."""

    @pytest.mark.parametrize("chunksize", [None, 1, 4])
    async def test_a_failing_item_is_named_in_a_note(self, chunksize: int | None) -> None:
        async with self.pool(2) as pool:
            with pytest.raises(ValueError, match="17 is odd") as caught:
                await pool.map(tasks.fail_if_odd, [0, 2, 4, 17, 6], chunksize=chunksize)
        notes = caught.value.__notes__
        assert any("3" in note and "17" in note for note in notes), notes

    async def test_results_before_a_failing_item_arrive_first(self) -> None:
        results: list[int] = []
        async with self.pool(2) as pool:
            with pytest.raises(ValueError, match="7 is odd"):  # noqa: PT012
                async for item in pool.map(tasks.fail_if_odd, [0, 2, 4, 7, 8]):
                    results.append(item)  # noqa: PERF401  what came before the failure counts
        assert results == [0, 2, 4]

    async def test_return_exceptions_puts_failures_in_their_place(self) -> None:
        async with self.pool(2) as pool:
            outcomes = await pool.map(tasks.fail_if_odd, range(6), return_exceptions=True)
        assert [outcome if isinstance(outcome, int) else str(outcome) for outcome in outcomes] == [
            0, "1 is odd", 2, "3 is odd", 4, "5 is odd",
        ]  # fmt: skip

    @pytest.mark.parametrize("fn", [tasks.fail_by_name, tasks.afail_by_name])
    async def test_an_item_that_raises_a_cancellation_of_its_own_fails_alone(self, fn: Any) -> None:
        async with self.pool(1) as pool:
            names = ["ValueError", "CancelledError", "GeneratorExit", "KeyError"]
            errors = [error async for error in pool.map(fn, names, chunksize=4, return_exceptions=True)]
            assert [type(error) for error in errors] == [ValueError, TaskFailed, TaskFailed, KeyError]
            assert "CancelledError" in str(errors[1])
            assert "GeneratorExit" in str(errors[2])

    async def test_a_failure_has_the_worker_s_traceback(self) -> None:
        async with self.pool(1) as pool:
            results: list[Any] = await pool.map(tasks.fail_if_odd, range(6), return_exceptions=True)
        assert [type(error.__cause__) for error in results[1::2]] == [RemoteTraceback] * 3

    @pytest.mark.parametrize("fn", [maps.catch, maps.acatch, maps.catch_in_generator])
    async def test_an_item_that_catches_the_cancellation_is_the_last_one(
        self, fn: Any, gate: Gate, log: Log
    ) -> None:
        async with self.pool(1) as pool:
            results = pool.map(fn, [(gate.path, log.path)] * 3, chunksize=3)
            waiting = asyncio.ensure_future(anext(results))
            await gate.arrived()
            waiting.cancel()
            await asyncio.wait([waiting])
            await results.aclose()
            await pool.submit(abs, 1)  # what was behind it would have begun by now
            assert log.lines() == ["caught"]

    async def test_a_failing_item_cancels_the_rest(self, gate: Gate) -> None:
        def fail_or_wait(number: int) -> None:
            if number == 0:
                raise ValueError("first")
            tasks.pass_gate(path, number)

        path, pulled = gate.path, list[int]()
        async with self.pool(1) as pool:
            with pytest.raises(ValueError, match="first"):
                await pool.map(fail_or_wait, counted(pulled), chunksize=1, buffersize=4)
            gate.open()
            assert await pool.submit(tasks.echo, 1) == 1
        assert len(pulled) <= 5

    async def test_an_input_that_raises_ends_the_map_with_its_exception(self) -> None:
        async with self.pool(2) as pool:
            with pytest.raises(ValueError, match="the generator broke"):
                await pool.map(tasks.echo, tasks.count_then_fail(5))
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_closing_a_map_early_cancels_what_has_not_started(self, gate: Gate, log: Log) -> None:
        def log_or_wait(number: int) -> int:
            if number == 1:
                tasks.pass_gate(path, number)
            tasks.append_line(log_path, number)
            return number

        path, log_path = gate.path, log.path
        async with self.pool(1) as pool:
            async with aclosing(pool.map(log_or_wait, range(50), chunksize=1, buffersize=10)) as mapping:
                assert await anext(mapping) == 0
                await gate.arrived()
                await mapping.aclose()
                gate.open()
            assert await pool.submit(tasks.echo, 1) == 1
        assert set(log.lines()) <= {"0", "1"}

    async def test_a_closed_map_yields_nothing_more(self) -> None:
        async with self.pool(1) as pool:
            mapping = pool.map(tasks.echo, range(10))
            assert await anext(mapping) == 0
            await mapping.aclose()
            assert [item async for item in mapping] == []

    async def test_cancelling_who_awaits_a_map_cancels_its_items(self, gate: Gate, log: Log) -> None:
        async def wait_or_log(number: int) -> None:
            if number == 0:
                await tasks.apass_gate(path)
            tasks.append_line(log_path, number)

        path, log_path = gate.path, log.path
        async with self.pool(1) as pool:
            mapping = asyncio.ensure_future(_list(pool.map(wait_or_log, range(10), chunksize=1)))
            await gate.arrived()
            mapping.cancel()
            await asyncio.wait([mapping])
            assert mapping.cancelled()
            assert await pool.submit(tasks.echo, 1) == 1
        assert log.lines() == []

    @pytest.mark.parametrize("cancel_pending", [True, False])
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_map_whose_pool_is_shut_down_meanwhile_says_so(
        self, is_async: bool, cancel_pending: bool
    ) -> None:
        async def numbers() -> AsyncIterator[int]:
            for number in itertools.count():
                yield number

        pool = self.pool(1)
        async with aclosing(pool.map(tasks.echo, numbers() if is_async else itertools.count())) as results:
            assert await anext(results) == 0
            ending = asyncio.ensure_future(pool.shutdown(cancel_pending=cancel_pending))
            with pytest.raises(StatusError):
                async for _ in results:
                    pass
        await ending

    @pytest.mark.parametrize("end", ["kill", "shutdown"])
    @pytest.mark.parametrize("whose", ["pool", "lease", "single"])
    async def test_a_map_that_waits_for_its_input_hears_that_its_worker_ends(
        self, whose: str, end: str
    ) -> None:
        has_ended = asyncio.Event()

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 0
                await asyncio.Event().wait()
            finally:
                has_ended.set()

        async with self.pool(1) as pool, self.worker() as single, fail_after(20):
            worker = {"pool": pool, "lease": pool.get_worker(), "single": single}[whose].options(priority=1)
            results = worker.map(tasks.echo, numbers(), ordered=whose != "single")
            assert await anext(results) == 0
            waiting = asyncio.ensure_future(_rest(results) if end == "kill" else anext(results))
            await asyncio.sleep(0)
            if end == "kill":
                worker.kill()
            else:
                await worker.shutdown()
            with pytest.raises(WorkerKilled if end == "kill" and whose != "lease" else StatusError):
                await waiting
            assert has_ended.is_set()
            with pytest.raises(StatusError):
                await worker.map(tasks.echo, numbers())

    async def test_a_map_that_was_left_keeps_none_of_its_inputs(self) -> None:
        made: list[ref[set[int]]] = []

        def sets() -> Iterator[set[int]]:
            for number in itertools.count(1):
                row = {number}
                made.append(ref(row))
                yield row

        gc.disable()
        try:
            async with self.pool(2) as pool:
                async with pool.map(len, sets()) as results:
                    assert await anext(results) == 1
                await eventually(lambda: not any(row() for row in made))
        finally:
            gc.enable()


async def _rest(results: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in results]


async def _list(mapping: Any) -> list[Any]:
    """A coroutine around an awaitable that may be no coroutine itself."""
    result: list[Any] = await mapping
    return result
