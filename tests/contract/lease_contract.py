"""Leases: one worker of a pool for several tasks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Log

from contract.base import Context, occupy
from offloop import StatusError, Worker, WorkerKilled


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


class LeaseContract(Context):
    """What ``get_worker()`` gives."""

    async def test_a_lease_runs_all_its_tasks_on_one_environment(self) -> None:
        async with self.pool(3) as pool:
            lease = pool.get_worker()
            assert isinstance(lease, Worker)
            assert lease.is_running()
            counts = await asyncio.gather(*(lease.enqueue(tasks.Count()) for _ in range(5)))
            assert counts == [1, 2, 3, 4, 5]
            lease.release()

    async def test_a_map_on_a_lease_waits_for_room_in_the_pool_s_queue(self, gate: Gate) -> None:
        async with self.pool(2, queue_limit=1) as pool, pool.get_worker() as lease:
            assert await lease.submit(tasks.echo, 1) == 1
            held = [
                pool.submit(tasks.apass_gate, gate.path) for _ in range(3)
            ]  # one waits: the queue is full
            mapped = asyncio.ensure_future(_all(lease.map(tasks.echo, range(20), chunksize=1)))
            later = asyncio.ensure_future(
                _all(lease.options(priority=1).map(tasks.echo, range(20), chunksize=1))
            )
            await gate.arrived()
            assert not mapped.done()
            assert not later.done()
            gate.open()
            assert await mapped == await later == list(range(20))
            await asyncio.gather(*held)

    async def test_two_leases_are_two_workers(self) -> None:
        async with self.pool(2) as pool, pool.get_worker() as first, pool.get_worker() as second:
            assert await first.submit(tasks.identity) != await second.submit(tasks.identity)

    async def test_leaving_async_with_gives_the_worker_back_alive(self) -> None:
        async with self.pool(1) as pool:
            async with pool.get_worker() as lease:
                before = await lease.submit(tasks.identity)
            assert not lease.is_running()
            assert await pool.submit(tasks.identity) == before

    async def test_a_released_lease_refuses_tasks(self) -> None:
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            await lease.submit(tasks.echo, 1)
            lease.release()
            lease.release()
            with pytest.raises(StatusError):
                lease.submit(tasks.echo, 1)
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_lease_that_is_garbage_collected_is_released(self) -> None:
        async with self.pool(2) as pool:
            lease = pool.get_worker()
            first = await lease.submit(tasks.identity)
            async with pool.get_worker() as other:
                second = await other.submit(tasks.identity)
                del lease
                gc.collect()
                async with pool.get_worker() as again:
                    assert await again.submit(tasks.identity) == first
                assert second != first

    async def test_the_pool_spares_a_leased_worker_while_others_are_free(self) -> None:
        async with self.pool(2) as pool, pool.get_worker() as lease:
            leased = await lease.submit(tasks.identity)
            others = {await pool.submit(tasks.identity) for _ in range(5)}
            assert leased not in others

    async def test_the_pool_uses_a_leased_worker_when_it_has_no_other(self) -> None:
        async with self.pool(1) as pool, pool.get_worker() as lease:
            leased = await lease.submit(tasks.identity)
            async with fail_after(20):
                assert await pool.submit(tasks.identity) == leased

    async def test_a_lease_keeps_the_order_of_its_tasks(self, gate: Gate) -> None:
        async with self.pool(2) as pool, pool.get_worker() as lease:
            (held,) = await occupy(lease, gate)
            assert not lease.is_idle()
            counts = [lease.enqueue(tasks.Count()) for _ in range(3)]
            gate.open()
            await held
            assert await asyncio.gather(*counts) == [1, 2, 3]
            assert lease.is_idle()

    async def test_shutdown_of_a_lease_ends_its_worker_and_the_pool_replaces_it(self) -> None:
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            await lease.enqueue(tasks.Remember("key", "value"))
            last = lease.enqueue(tasks.Recall("key"))
            assert await lease.shutdown() == 0
            assert await last == "value"
            assert not lease.is_running()
            with pytest.raises(StatusError):
                lease.submit(tasks.echo, 1)
            assert await pool.enqueue(tasks.Recall("key")) is None

    async def test_kill_of_a_lease_ends_its_worker_and_the_pool_replaces_it(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            await lease.enqueue(tasks.Remember("key", "value"))
            held = await occupy(lease, gate)
            lease.kill()
            assert not lease.is_running()
            with pytest.raises(WorkerKilled):
                await held[0]
            assert await pool.enqueue(tasks.Recall("key")) is None
            assert isinstance(await lease.shutdown(), int)

    async def test_killing_a_lease_loses_no_task_of_the_pool(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            (held,) = await occupy(lease, gate)
            of_the_pool = [pool.submit(tasks.echo, number) for number in range(5)]
            leased = lease.submit(tasks.echo, "leased")
            lease.kill()
            for execution in (held, leased):
                with pytest.raises(WorkerKilled):
                    await execution
            assert await asyncio.gather(*of_the_pool) == [0, 1, 2, 3, 4]

    async def test_an_error_in_a_lease_s_block_cancels_its_own_tasks_only(self, gate: Gate) -> None:
        async with self.pool(1) as pool, pool.get_worker() as first:
            (held,) = await occupy(first, gate)
            waiting = first.submit(tasks.echo, 1)
            everywhere = asyncio.ensure_future(pool.broadcast(tasks.echo, 2))
            await asyncio.sleep(0)
            try:
                async with pool.get_worker() as second:
                    own = second.submit(tasks.echo, 3)
                    streamed = second.stream(tasks.count_to, 3)
                    raise LookupError
            except LookupError:
                gate.open()
            await held
            assert (await waiting, await everywhere) == (1, [2])
            await asyncio.wait([own, streamed.execution])
            assert own.cancelled()
            assert streamed.execution.cancelled()

    async def test_a_lease_with_options_is_left_as_the_lease_itself(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            async with pool.get_worker().options(timeout=60) as lease:
                before = await lease.submit(tasks.identity)
            assert not lease.is_running()
            with pytest.raises(StatusError, match="released"):
                lease.submit(tasks.echo, 1)
            (of_the_pool,) = await occupy(pool, gate)
            with pytest.raises(LookupError):  # noqa: PT012
                async with pool.get_worker().options(priority=1) as lease:
                    own = [lease.submit(tasks.echo, 1), lease.enqueue(tasks.Echo(2), retries=1)]
                    own.append(lease.stream(tasks.count_to, 3).execution)
                    raise LookupError
            assert all(execution.cancelled() for execution in own)
            gate.open()
            await of_the_pool
            assert await pool.submit(tasks.identity) == before

    async def test_shutdown_of_a_lease_cancels_what_is_pending_of_its_own_only(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            first, second = pool.get_worker(), pool.get_worker()
            (held,) = await occupy(first, gate)
            others, own = first.submit(tasks.echo, 1), second.submit(tasks.echo, 2)
            ending = asyncio.ensure_future(second.shutdown(cancel_pending=True))
            await asyncio.wait([own])
            assert own.cancelled()
            gate.open()
            await held
            assert await others == 1
            first.release()
            assert await ending == 0

    @pytest.mark.parametrize("how", ["shutdown", "kill"])
    async def test_ending_a_lease_ends_others_on_the_same_worker(self, how: str) -> None:
        async with self.pool(1) as pool:
            first, second = pool.get_worker(), pool.get_worker()
            identity = await first.submit(tasks.identity)
            assert await second.submit(tasks.identity) == identity
            if how == "kill":
                first.kill()
            ending = asyncio.ensure_future(first.shutdown())
            await asyncio.sleep(0)
            assert not second.is_running()
            with pytest.raises(StatusError, match="shut down"):  # who goes on would keep it for ever
                second.submit(tasks.echo, 1)
            assert isinstance(await ending, int)
            assert repr(second).endswith("shut down>")
            with pytest.raises(StatusError, match="shut down"):
                second.submit(tasks.echo, 1)
            assert await pool.submit(tasks.identity) != identity

    async def test_a_lease_that_was_given_back_ends_nothing(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            async with pool.get_worker() as lease:
                identity = await lease.submit(tasks.identity)
            held = await occupy(pool, gate)
            lease.kill()
            assert await lease.shutdown() == 0
            gate.open()
            await asyncio.gather(*held)
            assert await pool.submit(tasks.identity) == identity
            with pytest.raises(StatusError, match="released"):
                lease.submit(tasks.echo, 1)

    async def test_leaving_a_lease_by_an_error_waits_for_what_it_cancelled(self, log: Log) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            with pytest.raises(LookupError):  # noqa: PT012
                async with pool.get_worker() as lease:
                    running = lease.submit(tasks.clean_up_slowly, log.path)
                    waiting = lease.submit(tasks.echo, 2)
                    await eventually(lambda: bool(log.lines()))
                    raise LookupError
            assert log.lines() == ["begun", "cleaned up"]
            assert running.cancelled()
            assert waiting.cancelled()

    async def test_the_exit_code_of_a_lease_is_the_same_every_time(self) -> None:
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            await lease.submit(tasks.echo, 1)
            lease.kill()
            codes = [await lease.shutdown() for _ in range(3)]
            assert codes == [codes[0]] * 3
            assert codes[0] != 0

    async def test_shutdown_of_the_pool_ends_its_leases(self) -> None:
        pool = self.pool(1)
        lease = pool.get_worker()
        execution = lease.submit(tasks.echo, 1)
        assert await pool.shutdown() == 0
        assert await execution == 1
        assert not lease.is_running()
        assert "shut down" in repr(lease)
        with pytest.raises(StatusError):
            lease.submit(tasks.echo, 1)

    async def test_kill_of_the_pool_ends_its_leases(self, gate: Gate) -> None:
        pool = self.pool(1)
        lease = pool.get_worker()
        (held,) = await occupy(lease, gate)
        pool.kill()
        with pytest.raises(WorkerKilled):
            await held
        assert not lease.is_running()
        await pool.shutdown()

    async def test_a_lease_of_a_pool_that_was_shut_down_is_refused(self) -> None:
        pool = self.pool(1)
        await pool.shutdown()
        with pytest.raises(StatusError):
            pool.get_worker()
