"""Pools: how many workers there are, which task goes where, and what waits."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Log, Mailbox

from contract.base import Context, occupy
from offloop import QueueFull, StatusError, Worker, WorkerKilled, WorkerPool


class PoolContract(Context):
    """The number of workers, and the life of a pool."""

    async def test_a_pool_is_a_worker(self) -> None:
        async with self.pool(2) as pool:
            assert isinstance(pool, Worker)
            assert pool.is_running()
            assert pool.is_idle()
            assert await pool.enqueue(tasks.Echo(1)) == 1
        assert not pool.is_running()
        assert not pool.is_idle(), "a task would not start"

    async def test_max_workers_defaults_to_the_cpus_of_this_process(self) -> None:
        async with WorkerPool(factory=self.make_factory()) as pool:
            assert pool.max_workers >= 1

    @pytest.mark.parametrize(
        ("value", "error"),
        [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)],
    )
    def test_a_bad_max_workers_is_refused(self, value: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="max_workers"):
            WorkerPool(value, factory=self.make_factory())  # type: ignore[arg-type]

    async def test_workers_start_as_tasks_need_them(self, gate: Gate) -> None:
        async with self.pool(4) as pool:
            assert (pool.max_workers, pool.worker_count, pool.idle_worker_count) == (4, 0, 0)
            await occupy(pool, gate)
            assert (pool.worker_count, pool.idle_worker_count) == (1, 0)
            await occupy(pool, gate)
            assert (pool.worker_count, pool.idle_worker_count) == (2, 0)
            gate.open()

    async def test_one_task_after_another_needs_one_worker(self) -> None:
        async with self.pool(4) as pool:
            identities = {await pool.submit(tasks.identity) for _ in range(5)}
            assert len(identities) == 1
            assert (pool.worker_count, pool.idle_worker_count) == (1, 1)

    async def test_a_pool_is_idle_while_a_task_could_start_at_once(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            await occupy(pool, gate)
            assert pool.is_idle()
            held = pool.submit(tasks.pass_gate, gate.path)
            assert not pool.is_idle()
            await gate.arrived()
            assert not pool.is_idle()
            gate.open()
            await held
        assert not pool.is_running()

    async def test_fifty_tasks_on_thirty_two_workers(self, gate: Gate) -> None:
        async with self.pool(32) as pool:
            executions = [pool.submit(tasks.pass_gate, gate.path, number) for number in range(50)]
            first = await gate.arrived(32)  # all at the same time
            assert len(set(first)) == 32
            assert pool.worker_count == 32
            gate.open()
            assert await asyncio.gather(*executions) == list(range(50))

    async def test_no_task_waits_behind_a_long_one_while_another_worker_is_free(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(20)))
            (held,) = await occupy(pool, gate)
            async with fail_after(20):  # the gate stays closed
                assert await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(50))) == list(
                    range(50)
                )
            gate.open()
            await held

    @pytest.mark.parametrize("expected", [0.0, 0.005], ids=["short", "long"])
    async def test_no_outcome_waits_behind_a_task_that_takes_long(self, gate: Gate, expected: float) -> None:
        async with self.pool(1) as pool:
            for _ in range(60):  # as many tell that it is short, though the first one had to import much
                await pool.submit(tasks.be_busy_and_pass, expected)
            # Both are sent at once; how long they will take is expected as of those before.
            quick, long = (pool.submit(tasks.be_busy_and_pass, 0.0, path) for path in (None, gate.path))
            await gate.arrived()
            async with fail_after(20):  # the gate stays closed
                await quick
            gate.open()
            await long

    async def test_idle_workers_retire_down_to_min_workers(self, gate: Gate) -> None:
        async with self.pool(3, min_workers=1, idle_timeout=0.1) as pool:
            held = await occupy(pool, gate, 3)
            assert pool.worker_count == 3
            gate.open()
            await asyncio.gather(*held)
            await eventually(lambda: pool.worker_count == 1)
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_new_worker_starts_after_all_have_retired(self) -> None:
        async with self.pool(2, idle_timeout=0.05) as pool:
            await pool.enqueue(tasks.Remember("key", "value"))
            await eventually(lambda: pool.worker_count == 0)
            assert await pool.enqueue(tasks.Recall("key")) is None

    async def test_a_retiring_worker_cleans_its_environment(self, mailbox: Mailbox) -> None:
        async with self.pool(1, idle_timeout=0.05) as pool:
            await pool.enqueue(tasks.Remember("key", "value", on_delete=tasks.Tell(mailbox.path)))
            async with fail_after(20):
                assert await mailbox.next() == "value"

    async def test_a_worker_is_replaced_after_its_number_of_tasks(self) -> None:
        async with self.pool(1, max_tasks_per_worker=2) as pool:
            identities = await asyncio.gather(*(pool.submit(tasks.identity) for _ in range(6)))
        assert max(Counter(identities).values()) == 2

    async def test_recycle_replaces_every_worker_and_loses_nothing(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            held = await occupy(pool, gate, 2)
            gate.open()
            await asyncio.gather(*held)
            before = set(await pool.broadcast(tasks.identity))
            results = [pool.submit(tasks.echo, number) for number in range(20)]
            await pool.recycle()
            assert await asyncio.gather(*results) == list(range(20))
            assert before.isdisjoint(await pool.broadcast(tasks.identity))

    async def test_a_worker_that_retires_is_not_kept_alive_by_its_keys(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            steady = pool.options(key="steady")
            held = [steady.submit(tasks.pass_gate, gate.path, number) for number in range(3)]
            (before,) = await gate.arrived()
            recycling = asyncio.create_task(pool.recycle())
            # The worker works on until the one in its place is ready, and then retires.
            await eventually(lambda: pool.statistics().worker_states["retiring"] == 1)
            gate.let_through()
            await recycling  # though the others wait
            (after,) = await gate.arrived()
            assert after != before
            gate.open()
            assert await asyncio.gather(*held) == [0, 1, 2]

    async def test_shutdown_of_a_pool_finishes_what_is_queued(self) -> None:
        pool = self.pool(2)
        executions = [pool.submit(tasks.echo, number) for number in range(20)]
        assert await pool.shutdown() == 0
        assert [execution.result() for execution in executions] == list(range(20))
        assert pool.worker_count == 0
        assert await pool.shutdown() == 0

    async def test_enqueue_after_shutdown_of_a_pool_is_refused(self) -> None:
        pool = self.pool(2)
        await pool.shutdown()
        with pytest.raises(StatusError, match=r"^The worker has been shut down$"):
            pool.submit(tasks.echo, 1)

    async def test_kill_of_a_pool_fails_all_outstanding_executions(self, gate: Gate) -> None:
        pool = self.pool(2)
        executions = [pool.submit(tasks.pass_gate, gate.path) for _ in range(8)]
        await gate.arrived(2)
        pool.kill()
        assert not pool.is_running()
        async with fail_after(20):  # the gate stays closed
            outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WorkerKilled] * 8
        assert isinstance(await pool.shutdown(), int)
        with pytest.raises(StatusError):
            pool.submit(tasks.echo, 1)

    async def test_the_repr_of_a_pool_shows_its_state(self, gate: Gate) -> None:
        pool = self.pool(2)
        texts = [repr(pool)]
        await occupy(pool, gate)
        texts.append(repr(pool))
        gate.open()
        await pool.shutdown()
        texts.append(repr(pool))
        assert len(set(texts)) == 3, texts
        assert all("WorkerPool" in text for text in texts)

    async def test_use_of_a_pool_from_another_thread_names_the_executor(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            with pytest.raises(RuntimeError, match=r"offloop\.Executor"):
                await asyncio.to_thread(pool.submit, tasks.echo, 1)

    def test_a_factory_of_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="carrier pigeon"):
            WorkerPool(1, factory="carrier pigeon")  # type: ignore[arg-type]


class DispatchContract(Context):
    """Queue limits, keys and broadcasts."""

    async def test_a_full_queue_refuses_tasks(self, gate: Gate) -> None:
        async with self.pool(1, queue_limit=2) as pool:
            await occupy(pool, gate)
            waiting = [pool.submit(tasks.echo, number) for number in range(2)]
            with pytest.raises(QueueFull):
                pool.submit(tasks.echo, "one too many")
            gate.open()
            assert await asyncio.gather(*waiting) == [0, 1]
            assert await pool.submit(tasks.echo, "room again") == "room again"

    async def test_wait_for_room_waits_until_there_is_room(self, gate: Gate) -> None:
        async with self.pool(1, queue_limit=1) as pool:
            await pool.wait_for_room()
            await occupy(pool, gate)
            waiting = pool.submit(tasks.echo, 1)
            room = asyncio.ensure_future(pool.wait_for_room())
            await asyncio.wait([room, waiting], timeout=0)
            assert not room.done()
            gate.open()
            await room
            assert await pool.submit(tasks.echo, 2) == 2
            assert await waiting == 1

    async def test_a_cancelled_task_makes_room(self, gate: Gate) -> None:
        async with self.pool(1, queue_limit=1) as pool:
            await occupy(pool, gate)
            waiting = pool.submit(tasks.echo, 1)
            room = asyncio.ensure_future(pool.wait_for_room())
            waiting.cancel()
            await room
            gate.open()
            assert await pool.submit(tasks.echo, 2) == 2

    async def test_as_many_wait_no_more_as_there_is_room_for(self, gate: Gate) -> None:
        async with self.pool(1, queue_limit=2) as pool:
            await occupy(pool, gate)
            full = [pool.submit(tasks.echo, number) for number in range(2)]

            async def produce(number: int) -> int:
                await pool.wait_for_room()
                return await pool.submit(tasks.echo, number)

            producers = [asyncio.ensure_future(produce(number)) for number in range(10)]
            visitors = [asyncio.ensure_future(pool.wait_for_room()) for _ in range(10)]  # enqueue nothing
            await asyncio.sleep(0)
            gate.open()
            assert await asyncio.gather(*producers) == [*range(10)]  # no `QueueFull`
            await asyncio.gather(*full, *visitors)

    async def test_a_broadcast_that_there_is_no_room_for_runs_nowhere(self, gate: Gate) -> None:
        async with self.pool(2, queue_limit=1) as pool:
            held = await occupy(pool, gate, 2)
            with pytest.raises(QueueFull):
                await pool.broadcast(tasks.Remember("key", "value"))
            gate.open()
            await asyncio.gather(*held)
            assert await pool.broadcast(tasks.Recall("key")) == [None, None]

    async def test_equal_keys_go_to_the_same_worker(self, gate: Gate) -> None:
        async with self.pool(3) as pool:
            held = await occupy(pool, gate, 3)
            gate.open()
            await asyncio.gather(*held)
            counts = await asyncio.gather(*(pool.enqueue(tasks.Count(), key="a") for _ in range(10)))
            assert counts == list(range(1, 11))
            assert await pool.enqueue(tasks.Count(), key="a") == 11

    async def test_a_busy_key_holds_up_no_other_key(self, gate: Gate, log: Log) -> None:
        async with self.pool(2) as pool:
            held = pool.options(key="a").submit(tasks.pass_gate, gate.path)
            (busy,) = await gate.arrived()
            behind = pool.options(key="a").submit(tasks.append_line, log.path, "a")
            async with fail_after(20):  # the gate stays closed
                for key in ("b", "c", None, "d"):
                    assert await pool.options(key=key).submit(tasks.identity) != busy
            assert log.lines() == []
            gate.open()
            await asyncio.gather(held, behind)
        assert log.lines() == ["a"]

    async def test_keys_that_came_one_at_a_time_are_not_all_at_one_worker(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            homes = {key: await pool.options(key=key).submit(tasks.identity) for key in "ab"}
            assert len(set(homes.values())) == 2
            held = pool.options(key="a").submit(tasks.pass_gate, gate.path)
            await gate.arrived()
            async with fail_after(20):  # the gate stays closed
                assert await pool.options(key="b").submit(tasks.identity) == homes["b"]
            gate.open()
            await held

    async def test_broadcast_runs_once_in_every_running_worker(self, gate: Gate) -> None:
        async with self.pool(4) as pool:
            held = await occupy(pool, gate, 3)
            gate.open()
            await asyncio.gather(*held)
            assert len(set(await pool.broadcast(tasks.identity))) == 3
            assert await pool.broadcast(tasks.add, 1, right=2) == [3, 3, 3]

    async def test_broadcast_of_a_task_gives_it_each_environment(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            held = await occupy(pool, gate, 2)
            gate.open()
            await asyncio.gather(*held)
            await pool.broadcast(tasks.Remember("key", "everywhere"))
            assert await pool.broadcast(tasks.Recall("key")) == ["everywhere", "everywhere"]

    async def test_broadcast_reaches_a_busy_worker_after_its_task(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            (held,) = await occupy(pool, gate)
            everywhere = asyncio.ensure_future(pool.broadcast(tasks.echo, 1))
            await asyncio.sleep(0)
            assert not everywhere.done()
            gate.open()
            assert await everywhere == [1]
            assert await held == 0

    async def test_broadcast_without_workers_is_empty(self) -> None:
        async with self.pool(2) as pool:
            assert await pool.broadcast(tasks.echo, 1) == []

    async def test_no_broadcast_and_no_recycling_after_the_end(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
        with pytest.raises(StatusError, match="The worker has been shut down"):
            await pool.broadcast(tasks.echo, 1)
        with pytest.raises(StatusError, match="The worker has been shut down"):
            await pool.recycle()
