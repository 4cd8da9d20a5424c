"""Workers that are replaced while the pool works: nothing is lost, and nothing waits for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support import tasks
from support.bounds import eventually, fail_after, wait_exit
from support.gates import Gate, Log

from contract.base import Context, occupy
from offloop import starts


def _is_running(pid: int) -> bool:
    return not wait_exit(pid, 0)


MIB = 1 << 20
#: Far above what a fresh worker needs, and reached after two leaks.
LIMIT = 150 * MIB
LEAK = 60 * MIB


class RecyclingContract(Context):
    """Replacing workers that are in good health."""

    async def test_a_worker_works_on_until_the_one_in_its_place_is_ready(self, gate: Gate, log: Log) -> None:
        factory = self.make_factory(bootstrap=tasks.GatedBootstrap(log.path, gate.path))
        async with self.pool(1, factory=factory) as pool:
            first = await pool.submit(tasks.identity)
            recycled = asyncio.ensure_future(pool.recycle())
            await gate.arrived()  # the second worker is being set up
            assert [await pool.submit(tasks.identity) for _ in range(3)] == [first] * 3
            gate.open()
            await recycled
            assert await pool.submit(tasks.identity) != first

    async def test_a_worker_works_on_as_long_as_none_can_be_started_in_its_place(
        self, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(starts, "PAUSE", 0.01)
        flag = tmp_path / "flag"
        factory = self.make_factory(bootstrap=tasks.FlaggedBootstrap(log.path, str(flag)))
        async with self.pool(1, factory=factory) as pool:
            first = await pool.submit(tasks.identity)

            async def work_on() -> None:
                flag.touch()
                recycled = asyncio.ensure_future(pool.recycle())
                await eventually(lambda: len(log.lines()) > 7)
                assert await pool.submit(tasks.identity) == first
                flag.unlink()
                await recycled

            with pytest.warns(RuntimeWarning, match=r"goes on with 1 worker\(s\)"):
                await work_on()
            assert await pool.submit(tasks.identity) != first

    async def test_a_pool_that_closes_meanwhile_finishes_its_tasks(self, gate: Gate, log: Log) -> None:
        factory = self.make_factory(bootstrap=tasks.GatedBootstrap(log.path, gate.path))
        pool = self.pool(1, factory=factory)
        await pool.submit(tasks.identity)
        recycled = asyncio.ensure_future(pool.recycle())
        await gate.arrived()
        results = [pool.submit(tasks.echo, number) for number in range(5)]
        closed = asyncio.ensure_future(pool.shutdown())
        assert await asyncio.gather(*results) == [0, 1, 2, 3, 4]
        gate.open()
        assert await closed == 0
        await recycled


class MemoryContract(Context):
    """Contexts whose workers have memory of their own."""

    async def test_workers_that_leak_are_replaced_and_nothing_is_lost(self, gate: Gate) -> None:
        async with self.pool(2, max_memory_per_worker=LIMIT) as pool:
            held = await occupy(pool, gate, 2)
            gate.open()
            await asyncio.gather(*held)
            leaking = await pool.broadcast(tasks.leak, 3 * LEAK)
            assert len(set(leaking)) == 2
            async with fail_after(20):
                while any(map(_is_running, leaking)):
                    assert await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(5))) == [
                        *range(5)
                    ]
                    assert pool.worker_count >= 2, "a new one is there before the old one goes"
            assert set(await pool.broadcast(os.getpid)).isdisjoint(leaking)

    async def test_leaking_a_little_at_a_time_loses_nothing(self) -> None:
        async with self.pool(2, max_memory_per_worker=LIMIT) as pool:
            pids = await pool.map(tasks.leak, [LEAK] * 16, chunksize=1)
        assert len(pids) == 16

    async def test_an_idle_worker_that_has_leaked_is_replaced_as_well(self) -> None:
        async with self.pool(1, max_memory_per_worker=LIMIT) as pool:
            before = await pool.submit(tasks.leak, 3 * LEAK)
            await eventually(lambda: pool.worker_count == 2)
            await eventually(lambda: pool.worker_count == 1)
            assert await pool.submit(os.getpid) != before

    @pytest.mark.parametrize("concurrency", [1, 2])
    async def test_async_tasks_that_leak_have_their_worker_replaced(self, concurrency: int) -> None:
        factory = self.make_factory(concurrency=concurrency)
        async with self.pool(1, factory=factory, max_memory_per_worker=LIMIT) as pool:
            before = await pool.submit(tasks.aleak, 3 * LEAK)
            await eventually(lambda: pool.worker_count == 2)
            await eventually(lambda: pool.worker_count == 1)
            assert await pool.submit(os.getpid) != before

    async def test_garbage_is_collected_before_a_worker_is_replaced(self) -> None:
        async with self.pool(1, max_memory_per_worker=LIMIT) as pool:
            pids = {await pool.submit(tasks.make_cyclic_garbage, 3 * LEAK) for _ in range(5)}
            assert await pool.submit(os.getpid) in pids
            assert len(pids) == 1

    async def test_large_arguments_in_shared_memory_are_not_the_workers_own(self) -> None:
        data = bytes(3 * LEAK)
        async with self.pool(1, max_memory_per_worker=LIMIT) as pool:
            pids = {await pool.submit(tasks.look_through, data) for _ in range(4)}
            assert await pool.submit(os.getpid) in pids
            assert len(pids) == 1

    async def test_a_worker_works_on_until_the_one_in_its_place_is_ready(self, gate: Gate, log: Log) -> None:
        factory = self.make_factory(bootstrap=tasks.GatedBootstrap(log.path, gate.path))
        async with self.pool(1, factory=factory, max_memory_per_worker=LIMIT) as pool:
            before = await pool.submit(tasks.leak, 3 * LEAK)
            await gate.arrived()
            async with fail_after(20):  # the gate stays closed
                assert {await pool.submit(os.getpid) for _ in range(5)} == {before}
            gate.open()
            await eventually(lambda: pool.worker_count == 1)
            assert await pool.submit(os.getpid) != before

    async def test_a_limit_below_what_any_worker_needs_is_told_once_and_each_runs_a_task(self) -> None:
        with pytest.warns(RuntimeWarning, match="max_memory_per_worker is 1.0 MiB") as told:  # noqa: PT031
            async with self.pool(1, max_memory_per_worker=MIB) as pool:
                pids = [await pool.submit(os.getpid)]
                for _ in range(3):
                    await eventually(lambda: not _is_running(pids[-1]))  # idle, and replaced all the same
                    pids.append(await pool.submit(os.getpid))
                assert len(set(pids)) == 4
        assert len(told) == 1

    async def test_a_leased_worker_that_leaks_stays_with_its_lease(self) -> None:
        async with self.pool(1, max_memory_per_worker=LIMIT) as pool, pool.get_worker() as worker:
            before = await worker.submit(tasks.leak, 3 * LEAK)
            async with fail_after(20):  # others go to it only until the new one is there
                while await pool.submit(os.getpid) == before:
                    assert await worker.submit(os.getpid) == before
            assert await worker.submit(os.getpid) == before

    async def test_crashes_and_leaks_at_once_lose_nothing(self) -> None:
        async with self.pool(2, max_memory_per_worker=LIMIT) as pool:
            leaks = [pool.submit(tasks.leak, LEAK) for _ in range(6)]
            crashes = [pool.submit(tasks.exit_process, 1) for _ in range(4)]
            outcomes = await asyncio.gather(*leaks, *crashes, return_exceptions=True)
        assert [type(outcome).__name__ for outcome in outcomes] == ["int"] * 6 + ["WorkerCrashed"] * 4
